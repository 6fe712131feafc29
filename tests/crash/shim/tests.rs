//! The shim stands between every kind of call and the disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, IoSliceMut, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fstatvfs, statvfs};

use super::{Call, Effect, Fault, Shim};
use crate::support::eventually;

/// In the environment of the process that is to make calls: where, and which.
const FOLDER: &str = "BREVDUE_CALLS_FOLDER";
const WHICH: &str = "BREVDUE_CALLS_WHICH";
/// Of the process, for each call that failed as it was to.
const AS_ASKED: i32 = 28;

/// Its kind, its name, and how it is made.
type Made = (Call, &'static str, fn(&Path) -> io::Result<()>);

/// Calls of every kind.
fn calls() -> Vec<Made> {
    vec![
        (Call::Write, "write", |path| opened(path)?.write_all(b"x")),
        (Call::Write, "pwrite", |path| opened(path)?.write_all_at(b"x", 9)),
        (Call::Write, "writev", |path| {
            opened(path)?.write_vectored(&[IoSlice::new(b"x")]).map(drop)
        }),
        (Call::Write, "copy", |path| fs::copy("/proc/self/status", path).map(drop)),
        (Call::Sync, "fsync", |path| opened(path)?.sync_all()),
        (Call::Sync, "fdatasync", |path| opened(path)?.sync_data()),
        (Call::Truncate, "ftruncate", |path| opened(path)?.set_len(3)),
        (Call::Create, "open", |path| File::create(path.with_extension("new")).map(drop)),
        (Call::Open, "open", |path| opened(path).map(drop)),
        (Call::Rename, "rename", |path| fs::rename(path, path.with_extension("other"))),
        (Call::Unlink, "unlink", |path| fs::remove_file(path)),
        (Call::Unlink, "unlinkat", |path| fs::remove_dir_all(path.with_extension("folder"))),
        (Call::Mkdir, "mkdir", |path| fs::create_dir(path.with_extension("made"))),
        (Call::Read, "read", |path| opened(path)?.read_exact(&mut [0])),
        (Call::Read, "pread", |path| opened(path)?.read_exact_at(&mut [0], 1)),
        (Call::Read, "readv", |path| {
            opened(path)?.read_vectored(&mut [IoSliceMut::new(&mut [0])]).map(drop)
        }),
        (Call::Statvfs, "statvfs", |path| Ok(statvfs(path).map(drop)?)),
        (Call::Statvfs, "fstatvfs", |path| Ok(fstatvfs(opened(path)?).map(drop)?)),
        (Call::Allocate, "fallocate", |path| {
            Ok(fallocate(opened(path)?, FallocateFlags::empty(), 0, 8192)?)
        }),
        (Call::Advise, "posix_fadvise", |path| {
            Ok(fadvise(opened(path)?, 0, None, Advice::DontNeed)?)
        }),
    ]
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// A folder with what the calls need, and a process that makes one of them in it.
fn caller(shim: &Shim, root: &Path, which: usize) -> Command {
    fs::remove_dir_all(root).unwrap();
    fs::create_dir_all(root.join("file.folder/inner")).unwrap();
    fs::write(root.join("file"), "content").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "shim::tests::every_kind_of_call_works_fails_and_hangs", "--nocapture"])
        .env(FOLDER, root)
        .env(WHICH, which.to_string())
        .stdout(Stdio::null());
    shim.stand_between(&mut command);
    command
}

/// If this process is to make a call, it ends here.
fn call_if_asked() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let which: usize = std::env::var(WHICH).unwrap().parse().unwrap();
    let done = calls()[which].2(&Path::new(&folder).join("file"));
    std::process::exit(match done {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    });
}

#[tokio::test]
async fn every_kind_of_call_works_fails_and_hangs() {
    call_if_asked();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("watched");
    fs::create_dir(&root).unwrap();
    let shim = Shim::new(&root, folder.path());
    for (which, (call, name, _)) in calls().into_iter().enumerate() {
        let run = || caller(&shim, &root, which).status().unwrap().code();
        shim.mend();
        assert_eq!(run(), Some(0), "{name} works");
        let kind = [call];
        shim.set(&[Fault::of(&kind, "", Effect::Fail(AS_ASKED))]);
        assert_eq!(run(), Some(AS_ASKED), "{name} fails");
        shim.set(&[Fault::of(&kind, "elsewhere", Effect::Fail(AS_ASKED))]);
        assert_eq!(run(), Some(0), "{name} of another file fails");
        shim.set(&[Fault::of(&kind, "", Effect::Hang)]);
        let mut child = caller(&shim, &root, which).spawn().unwrap();
        eventually(name, || async { (shim.hits() > 0).then_some(()) }).await;
        assert!(child.try_wait().unwrap().is_none(), "{name} does not hang");
        shim.mend();
        assert!(child.wait().unwrap().success(), "{name} does not work after it hung");
    }
}

/// Reads `file` as the program sees it.
fn seen(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// What the process that forgets does, step by step.
fn forget(path: &Path) {
    let mut file = opened(path).unwrap();
    file.write_all_at(b"old", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"new", 0).unwrap();
    assert!(file.sync_data().is_err(), "the second one fails");
    file.sync_all().unwrap();
    assert_eq!(seen(&mut file), "newtent", "the cache has it");
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    assert_eq!(seen(&mut file), "oldtent", "the disk has not");
    file.write_all_at(b"now", 0).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    assert_eq!(seen(&mut file), "nowtent", "written again, it is there");
}

#[test]
fn what_a_failed_sync_was_for_is_in_the_cache_until_that_lets_go_of_it() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return forget(&Path::new(&folder).join("file"));
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("watched");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "content").unwrap();
    let shim = Shim::new(&root, folder.path()).forgetting(folder.path().join("disk"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = "what_a_failed_sync_was_for_is_in_the_cache_until_that_lets_go_of_it";
    command.args(["--exact", &format!("shim::tests::{test}")]).env(FOLDER, &root);
    shim.stand_between(&mut command);
    shim.fail(Call::Sync, "/file", libc::EIO, (1, 1));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
