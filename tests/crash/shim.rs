//! The library that is put between a process and its file calls (`shim/shim.c`).

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Write,
    Sync,
}

/// A sync that can be taken out, to see that the tests find what is lost then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weak {
    /// The durable flush: sled's own call is done in its place.
    Database,
    /// That of the journal.
    Journal,
}

impl Weak {
    fn path(self) -> &'static str {
        match self {
            Self::Database => "/sled/db",
            Self::Journal => "/journal",
        }
    }
}

/// Size and places of `struct control`.
const CONTROL: usize = 104;
const HITS: u64 = 8;
const KINDS: u64 = 16;
const ERROR: u64 = 20;
const SKIP: u64 = 24;
const TIMES: u64 = 32;
const SUFFIX: u64 = 40;

/// A directory whose files are watched.
pub(crate) struct Shim {
    root: PathBuf,
    control: File,
    control_path: PathBuf,
    log: Option<PathBuf>,
    weak: Option<Weak>,
}

impl Shim {
    /// `aside` is a directory that is not watched, for the shim's own files.
    pub(crate) fn new(root: &Path, aside: &Path) -> Self {
        let control_path = aside.join("shim-control");
        fs::write(&control_path, [0; CONTROL]).unwrap();
        let control = File::options().read(true).write(true).open(&control_path).unwrap();
        Self { root: root.to_owned(), control, control_path, log: None, weak: None }
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

    /// From now on, after `skip` more that go well, these calls fail on files with this end of
    /// their path: so many `times`.
    pub(crate) fn fail(&self, call: Call, suffix: &str, error: i32, (skip, times): (i64, i64)) {
        self.mend();
        let mut name = [0; CONTROL - 40];
        name[..suffix.len()].copy_from_slice(suffix.as_bytes());
        self.put(SUFFIX, &name);
        self.put(ERROR, &error.to_ne_bytes());
        self.put(SKIP, &skip.to_ne_bytes());
        self.put(TIMES, &times.to_ne_bytes());
        self.put(HITS, &0_u64.to_ne_bytes());
        let kind: u32 = match call {
            Call::Write => 1 << 1,
            Call::Sync => 1 << 3,
        };
        self.put(KINDS, &kind.to_ne_bytes());
    }

    /// No call fails any more.
    pub(crate) fn mend(&self) {
        self.put(KINDS, &0_u32.to_ne_bytes());
    }

    /// So many calls were made to fail.
    pub(crate) fn hits(&self) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, HITS).unwrap();
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
    }
}

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/shim/shim.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (mine, library) =
            (folder.join(format!("shim-{}.so", std::process::id())), folder.join("shim.so"));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
        let compiled = cc.arg(&mine).arg(source).status().expect("a C compiler, cc");
        assert!(compiled.success(), "the shim does not compile");
        // Another run of these tests may be using the old one.
        fs::rename(mine, &library).unwrap();
        library
    })
}
