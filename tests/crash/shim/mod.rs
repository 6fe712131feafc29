//! The library that is put between a process and its file calls (`shim.c`).

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Calls that can be made to fail, or to hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Write,
    Truncate,
    Sync,
    /// The opening of a file that is not there yet.
    Create,
    Rename,
    Unlink,
    Mkdir,
    Read,
    Statvfs,
    Allocate,
    Advise,
    /// The opening for writing of a file that is there.
    Open,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It fails with this error.
    Fail(i32),
    /// It does nothing until the disk is mended, and then works.
    Hang,
}

/// Calls that do not work, and how many of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault<'a> {
    pub(crate) calls: &'a [Call],
    /// The end of the file's path; empty for every file.
    pub(crate) suffix: &'a str,
    pub(crate) effect: Effect,
    /// Calls that still go well, and how many do not after them.
    pub(crate) which: (i64, i64),
}

impl Call {
    /// Its `enum kind`.
    fn number(self) -> u32 {
        match self {
            Self::Write => 1,
            Self::Truncate => 2,
            Self::Sync => 3,
            Self::Create => 5,
            Self::Rename => 6,
            Self::Unlink => 7,
            Self::Mkdir => 8,
            Self::Read => 9,
            Self::Statvfs => 10,
            Self::Allocate => 11,
            Self::Advise => 12,
            Self::Open => 13,
        }
    }
}

impl<'a> Fault<'a> {
    /// All of these calls, from now on.
    pub(crate) fn of(calls: &'a [Call], suffix: &'a str, effect: Effect) -> Self {
        Self { calls, suffix, effect, which: (0, FOR_EVER) }
    }

    fn mask(self) -> u32 {
        self.calls.iter().fold(0, |mask, call| mask | 1 << call.number())
    }

    /// A `struct rule`, but for its first member, the mask.
    fn rule(self) -> Vec<u8> {
        let error = match self.effect {
            Effect::Fail(error) => error,
            Effect::Hang => 0,
        };
        let mut bytes = error.to_ne_bytes().to_vec();
        bytes.extend(self.which.0.to_ne_bytes());
        bytes.extend(self.which.1.to_ne_bytes());
        bytes.extend(self.suffix.as_bytes());
        assert!(bytes.len() < RULE_SIZE - MASK_SIZE, "{} is too long", self.suffix);
        bytes.resize(RULE_SIZE - MASK_SIZE, 0);
        bytes
    }
}

/// Times of a fault that does not end by itself.
pub(crate) const FOR_EVER: i64 = 1 << 40;

/// A sync that can be taken out, to see that the tests find what is lost then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weak {
    /// The durable flush: sled's own call is done in its place.
    Database,
    /// That of the write-ahead log.
    Wal,
}

/// The file that a commit is synced in.
pub(crate) const COMMITS: &str = "/wal";
/// The file that is given them later.
pub(crate) const DATABASE: &str = "/sled/db";
/// The file that says how far the store was.
pub(crate) const HIGH_WATER: &str = "/high-water";
/// The file that takes up room for a full disk.
pub(crate) const BALLAST: &str = "/ballast";

impl Weak {
    fn path(self) -> &'static str {
        match self {
            Self::Database => DATABASE,
            Self::Wal => COMMITS,
        }
    }
}

/// Places in `struct control`, and sizes of its parts.
const NOW: u64 = 0;
const HITS: u64 = 8;
const EPOCH: u64 = 16;
const RULES: u64 = 24;
const RULE_SIZE: usize = 88;
const MASK_SIZE: usize = 4;
const MOST_RULES: usize = 2;
const CLOCK: usize = 24 + MOST_RULES * RULE_SIZE;
const CONTROL: usize = CLOCK + 8;

/// A directory whose files are watched.
pub(crate) struct Shim {
    root: PathBuf,
    control: File,
    control_path: PathBuf,
    log: Option<PathBuf>,
    weak: Option<Weak>,
    forgets: Option<PathBuf>,
}

impl Shim {
    /// `aside` is a directory that is not watched, for the shim's own files.
    pub(crate) fn new(root: &Path, aside: &Path) -> Self {
        let control_path = aside.join("shim-control");
        fs::write(&control_path, [0; CONTROL]).unwrap();
        let control = File::options().read(true).write(true).open(&control_path).unwrap();
        Self { root: root.to_owned(), control, control_path, log: None, weak: None, forgets: None }
    }

    /// Writes all calls down.
    pub(crate) fn recording(mut self, log: PathBuf) -> Self {
        self.log = Some(log);
        self
    }

    /// One of the store's syncs is none.
    pub(crate) fn without(mut self, weak: Option<Weak>) -> Self {
        self.weak = weak;
        self
    }

    /// The disk forgets what a failed sync was for. What it has is kept in this folder.
    pub(crate) fn forgetting(mut self, aside: PathBuf) -> Self {
        fs::create_dir(&aside).unwrap();
        self.forgets = Some(aside);
        self
    }

    /// From now on, after `skip` more that go well, these calls fail on files with this end of
    /// their path: so many `times`.
    pub(crate) fn fail(&self, call: Call, suffix: &str, error: i32, which: (i64, i64)) {
        self.set(&[Fault { calls: &[call], suffix, effect: Effect::Fail(error), which }]);
    }

    /// From now on there are these faults and no others. Calls that hang go on.
    pub(crate) fn set(&self, faults: &[Fault<'_>]) {
        assert!(faults.len() <= MOST_RULES, "{} faults", faults.len());
        self.mend();
        self.put(HITS, &0_u64.to_ne_bytes());
        let mask = u64::try_from(MASK_SIZE).unwrap();
        // The masks come last: with them a fault begins.
        for (fault, at) in faults.iter().zip((RULES..).step_by(RULE_SIZE)) {
            self.put(at + mask, &fault.rule());
        }
        for (fault, at) in faults.iter().zip((RULES..).step_by(RULE_SIZE)) {
            self.put(at, &fault.mask().to_ne_bytes());
        }
    }

    /// All calls work again.
    pub(crate) fn mend(&self) {
        for at in (RULES..).step_by(RULE_SIZE).take(MOST_RULES) {
            self.put(at, &0_u32.to_ne_bytes());
        }
        self.put(EPOCH, &(self.get(EPOCH) + 1).to_ne_bytes());
    }

    /// Sets the process's wall clock this many milliseconds ahead of the machine's.
    pub(crate) fn jump(&self, ahead: i64) {
        self.put(u64::try_from(CLOCK).unwrap(), &ahead.to_ne_bytes());
    }

    /// Calls that failed or hung since the faults were set.
    pub(crate) fn hits(&self) -> u64 {
        self.get(HITS)
    }

    /// The time, as a recording counts it.
    pub(crate) fn now(&self) -> u64 {
        self.get(NOW)
    }

    fn get(&self, place: u64) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, place).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn put(&self, place: u64, bytes: &[u8]) {
        self.control.write_all_at(bytes, place).unwrap();
    }

    /// Puts it into a process that is to be started.
    pub(crate) fn stand_between(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("SHIM_ROOT", &self.root)
            .env("SHIM_CONTROL", &self.control_path);
        if let Some(log) = &self.log {
            command.env("SHIM_LOG", log);
        }
        if let Some(weak) = self.weak {
            command.env("SHIM_WEAK", weak.path());
        }
        if let Some(aside) = &self.forgets {
            command.env("SHIM_FORGETS", aside);
        }
    }
}

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/shim");
        let sources = ["shim.c", "forget.c"].map(|name| sources.join(name));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (mine, library) =
            (folder.join(format!("shim-{}.so", std::process::id())), folder.join("shim.so"));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
        let compiled = cc.arg(&mine).args(sources).status().expect("a C compiler, cc");
        assert!(compiled.success(), "the shim does not compile");
        // Another run of these tests may be using the old one.
        fs::rename(mine, &library).unwrap();
        library
    })
}
