//! What a process did to its files, as the shim wrote it down.

use std::{collections::HashMap, fs, ops::Range, path::Path};

/// A file, over all its names.
pub(crate) type Inode = usize;

/// One call, with the times of its beginning and end.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) act: Act,
}

#[derive(Debug)]
pub(crate) enum Act {
    Write {
        file: Inode,
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        file: Inode,
        length: usize,
    },
    Sync {
        file: Inode,
    },
    SyncFolder {
        path: String,
    },
    /// A sync of a file that failed.
    FailedSync {
        file: Inode,
    },
    /// The cache let go of these pages of a file, if they were clean.
    Dropped {
        file: Inode,
        pages: Range<usize>,
    },
    Create {
        path: String,
        file: Inode,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    Mkdir {
        path: String,
    },
}

/// All calls, in the order of their ends.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) calls: Vec<Call>,
    pub(crate) files: usize,
}

pub(crate) const PAGE: usize = 4096;

const HEAD: usize = 48;
const WRITE: u32 = 1;

impl Recording {
    /// Paths are told from `root` on.
    pub(crate) fn read(log: &Path, root: &Path) -> Self {
        let bytes = fs::read(log).unwrap();
        let prefix = format!("{}/", root.display());
        let mut reading = Reading { rest: &bytes, prefix, numbers: HashMap::new(), files: 0 };
        let mut calls = Vec::new();
        while !reading.rest.is_empty() {
            calls.extend(reading.call());
        }
        Self { calls, files: reading.files }
    }

    /// The time after the last call.
    pub(crate) fn end(&self) -> u64 {
        self.calls.last().map_or(0, |call| call.end + 1)
    }

    /// The file that was made with this name.
    pub(crate) fn file(&self, name: &str) -> Option<Inode> {
        self.calls.iter().find_map(|call| {
            let Act::Create { path, file } = &call.act else { return None };
            (path == name).then_some(*file)
        })
    }

    /// What was written to the file of this name, with the times at which that began.
    pub(crate) fn written_to(&self, name: &str) -> Vec<(u64, &[u8])> {
        let file = self.file(name);
        let mut written = Vec::new();
        for call in &self.calls {
            if let Act::Write { file: at, data, .. } = &call.act
                && Some(*at) == file
            {
                written.push((call.start, data.as_slice()));
            }
        }
        written
    }
}

struct Reading<'a> {
    rest: &'a [u8],
    prefix: String,
    /// What a number of the file system stands for now; it is used again after a file's end.
    numbers: HashMap<u64, Inode>,
    files: usize,
}

impl Reading<'_> {
    fn take(&mut self, length: usize) -> &[u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn call(&mut self) -> Option<Call> {
        let head = self.take(HEAD).to_vec();
        let number = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
        let small = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        let size = |number: u64| usize::try_from(number).unwrap();
        let (start, end, inode) = (number(0), number(8), number(16));
        let (offset, length) = (size(number(24)), size(number(32)));
        let paths = self.take(size(small(44).into())).to_vec();
        let data = self.take(if small(40) == WRITE { length } else { 0 }).to_vec();
        let prefix = self.prefix.clone();
        let mut paths = paths.split(|byte| *byte == 0).map(|path| {
            let path = String::from_utf8(path.to_vec()).unwrap();
            path.strip_prefix(&prefix).map(str::to_owned).unwrap_or_default()
        });
        let mut path = || paths.next().unwrap();
        let act = match small(40) {
            WRITE => Act::Write { file: self.file(inode)?, offset, data },
            2 => Act::Truncate { file: self.file(inode)?, length: offset },
            3 if small(44) > 0 => Act::SyncFolder { path: path() },
            3 => Act::Sync { file: self.file(inode)? },
            4 => return None,
            5 => Act::Create { path: path(), file: self.new_file(inode) },
            6 => Act::Rename { from: path(), to: path() },
            7 => Act::Unlink { path: path() },
            8 => Act::Mkdir { path: path() },
            12 => {
                let pages = offset.div_ceil(PAGE)..(offset + length) / PAGE;
                Act::Dropped { file: self.file(inode)?, pages }
            }
            14 if small(44) > 0 => return None,
            14 => Act::FailedSync { file: self.file(inode)? },
            other => panic!("a call of kind {other}"),
        };
        Some(Call { start, end, act })
    }

    fn new_file(&mut self, inode: u64) -> Inode {
        self.numbers.insert(inode, self.files);
        self.files += 1;
        self.files - 1
    }

    fn file(&self, inode: u64) -> Option<Inode> {
        self.numbers.get(&inode).copied()
    }
}
