//! Starts after anything: each opens whole, or is refused with words that name the cure.

use std::{io, os::unix::fs::FileExt, path::Path};

use super::*;
use crate::store::codec::tests::reseal;

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A closed store with 30 events.
async fn thirty(bench: &Bench) {
    thirty_of(bench, 20_000).await;
}

/// The same, of this many bytes each.
async fn thirty_of(bench: &Bench, bytes: usize) {
    let queue = bench.open().await;
    for number in 1..=30 {
        queue.append(vec![large(&number.to_string(), bytes)]).await.unwrap();
    }
    queue.close().await.unwrap();
}

async fn refused(bench: &Bench) -> String {
    let opened = timeout(Duration::from_secs(120), bench.try_open()).await;
    opened.expect("an answer, if only a refusal").unwrap_err().to_string()
}

#[tokio::test]
async fn after_an_unclean_stop_everything_is_there() {
    let (bench, copied) = (Bench::one(), Bench::one());
    let queue = bench.open().await;
    for number in 1..=30 {
        queue.append(vec![large(&number.to_string(), 20_000)]).await.unwrap();
    }
    // As a crash leaves it: nothing was closed.
    copy(&bench.options.directory, &copied.options.directory);
    assert_eq!(ids_in_log(&copied.open().await).await.len(), 30);
}

#[tokio::test]
async fn a_snapshot_that_was_cut_short_is_done_without() {
    let bench = Bench::one();
    thirty(&bench).await;
    bench.open().await.close().await.unwrap();
    let mut cut = 0;
    for entry in fs::read_dir(bench.sled()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            let file = fs::OpenOptions::new().write(true).open(entry.path()).unwrap();
            file.set_len(entry.metadata().unwrap().len() / 2).unwrap();
            cut += 1;
        }
    }
    assert!(cut > 0, "sled made no snapshot");
    assert_eq!(ids_in_log(&bench.open().await).await.len(), 30);
}

#[tokio::test]
async fn damage_anywhere_in_the_file_is_refused_or_harmless() {
    let whole = Bench::one();
    thirty(&whole).await;
    let len = fs::metadata(whole.sled().join("db")).unwrap().len();
    for step in 0..8 {
        let bench = Bench::one();
        copy(&whole.options.directory, &bench.options.directory);
        let file = fs::OpenOptions::new().write(true).open(bench.sled().join("db")).unwrap();
        file.write_all_at(&[0xA5; 16], len / 64 * step).unwrap();
        let opened = timeout(Duration::from_secs(120), bench.try_open()).await;
        match opened.expect("it does not hang") {
            Ok(queue) => assert_eq!(ids_in_log(&queue).await.len(), 30, "{step}"),
            Err(error) => assert!(error.to_string().contains("verify --repair"), "{step}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_file_cut_short_or_emptied_is_refused() {
    for keep in [0, 100, 40_000] {
        let bench = Bench::one();
        // The first segment of the write-ahead log would have all of a smaller store.
        thirty_of(&bench, 600_000).await;
        for entry in fs::read_dir(bench.sled()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                fs::remove_file(path).unwrap();
            }
        }
        let file = fs::OpenOptions::new().write(true).open(bench.sled().join("db")).unwrap();
        file.set_len(keep).unwrap();
        let words = refused(&bench).await;
        assert!(words.contains("verify --repair"), "{keep}: {words}");
        assert!(refused(&bench).await.contains("verify --repair"), "{keep}: the second time");
    }
}

#[tokio::test]
async fn a_store_of_another_format_is_refused_by_name() {
    let bench = Bench::one();
    thirty(&bench).await;
    bench
        .tamper(|db| {
            let value = db.get(keys::DEDUP).unwrap();
            db.insert(keys::DEDUP, reseal(value, |value| value[0] = 2));
        })
        .await;
    let error = bench.try_open().await.unwrap_err();
    assert!(matches!(error, OpenError::Version(_)), "{error:?}");
    assert!(error.to_string().contains("start the version of brevdue"), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_said() {
    let mut bench = Bench::one();
    let file = bench.directory.path().join("file");
    fs::write(&file, b"").unwrap();
    bench.options.directory = file.join("queue");
    let words = refused(&bench).await;
    assert!(words.contains(&*bench.options.directory.to_string_lossy()), "{words}");
}

#[test]
fn errors_of_the_system_name_their_cure() {
    use rustix::io::Errno;
    for (errno, cure) in [
        (Errno::ROFS, "mount the disk for writing"),
        (Errno::NOSPC, "make room"),
        (Errno::DQUOT, "make room"),
        (Errno::ACCESS, "data_dir to own"),
        (Errno::MFILE, "LimitNOFILE"),
        (Errno::IO, "dmesg"),
    ] {
        let error = io::Error::from(errno);
        let wrapped = io::Error::new(error.kind(), format!("sled: {error}"));
        for error in [error, wrapped] {
            let words = OpenError::from(error).to_string();
            assert!(words.contains(cure), "{words}");
        }
    }
}

#[tokio::test]
async fn what_a_verification_left_is_cleared_away() {
    let bench = Bench::one();
    thirty(&bench).await;
    let left = bench.options.directory.join("verify");
    fs::create_dir_all(left.join("store")).unwrap();
    bench.open().await;
    assert!(!left.exists());
}
