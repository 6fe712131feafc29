//! Making, opening and swapping the store's files, and what is trusted of them.

use std::os::unix::fs::{MetadataExt, chown};

use super::*;

#[test]
fn a_store_is_made_with_the_id_that_is_asked_for_or_a_random_one() {
    let bench = Bench::new();
    let id = [9; 16];
    let create = |id| Store::create(&bench.files(), LAYOUT, &bench.disk, id).unwrap();
    let mut store = create(Some(id));
    store.commit(put("e|1", value(1, 1))).unwrap();
    assert_eq!((store.id(), store.view().store_id().unwrap()), (id, Some(id)));
    store.close().unwrap();
    let store = bench.open();
    assert_eq!((store.id(), all(store.view(), b'e').len()), (id, 1));
    store.close().unwrap();
    // What was begun there is removed.
    let store = create(None);
    assert_eq!(all(store.view(), b'e'), []);
    assert!(![id, StoreId::default()].contains(&store.id()));
}

#[test]
fn a_store_that_was_used_is_never_taken_for_a_new_one() {
    type Loss = fn(&Files);
    let losses: [(&str, Loss); 6] = [
        ("sled finds nothing", |files| fs::remove_dir_all(files.database()).unwrap()),
        ("conf is missing", |files| fs::remove_file(files.database().join("conf")).unwrap()),
        ("write-ahead log is missing", |files| fs::remove_file(files.wal()).unwrap()),
        ("write-ahead log is missing", |files| fs::write(files.wal(), []).unwrap()),
        ("is cut short", |files| fs::write(files.wal(), [0; 4096]).unwrap()),
        ("of the same time", |files| {
            let len = fs::metadata(files.wal()).unwrap().len();
            fs::write(files.wal(), vec![0; usize::try_from(len).unwrap()]).unwrap();
        }),
    ];
    for (words, lose) in losses {
        let bench = Bench::new();
        let mut store = bench.open();
        store.commit(put("e|1", value(1, 1))).unwrap();
        store.close().unwrap();
        lose(&bench.files());
        let error = bench.why_not();
        assert!(matches!(&error, Error::Damaged(told) if told.contains(words)), "{words}: {error}");
    }
}

#[test]
fn a_store_that_was_being_made_when_the_power_failed_is_made_anew() {
    let whole = Bench::new();
    whole.open().close().unwrap();
    let made = whole.files();
    let read = |path| fs::read(path).unwrap();
    let (conf, db) = (read(made.database().join("conf")), read(made.database().join("db")));
    let wal = read(made.wal());
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    // sled's file before the store has its id, and before it notes that there is a log.
    let [no_id, no_note] = [false, true].map(|with_id| {
        let bench = Bench::new();
        let files = bench.files();
        let trees = files.open(LAYOUT, &bench.disk).unwrap();
        if with_id {
            begin(&files, &trees, None).unwrap();
        }
        drop(trees);
        drop(directory::open_when_free(&files.database(), LAYOUT, &bench.disk).unwrap());
        read(files.database().join("db"))
    });
    let zeros = |bytes: &[u8]| vec![0; bytes.len()];
    let states: [[Option<Vec<u8>>; 3]; 15] = [
        [None, None, None],
        [Some(vec![]), None, None],
        [Some(conf.clone()), None, None],
        [Some(conf.clone()), Some(vec![]), None],
        [Some(zeros(&conf)), None, None],
        [Some(zeros(&conf)), Some(no_note.clone()), None],
        [None, Some(no_note.clone()), None],
        [Some(vec![]), Some(no_note.clone()), None],
        [Some(conf.clone()), Some(zeros(&no_note)), None],
        [Some(conf.clone()), Some(half(&no_note)), None],
        [Some(conf.clone()), Some(no_id), None],
        [Some(conf.clone()), Some(no_note.clone()), None],
        [Some(conf.clone()), Some(no_note.clone()), Some(vec![])],
        [Some(conf.clone()), Some(no_note), Some(half(&wal))],
        [Some(conf), Some(db), Some(wal)],
    ];
    for (case, [conf, db, wal]) in states.into_iter().enumerate() {
        let bench = Bench::new();
        let files = bench.files();
        fs::create_dir_all(files.database()).unwrap();
        let places = [files.database().join("conf"), files.database().join("db"), files.wal()];
        for (path, bytes) in places.iter().zip([conf, db, wal]) {
            if let Some(bytes) = bytes {
                fs::write(path, bytes).unwrap();
            }
        }
        let mut store = bench.try_open().unwrap_or_else(|error| panic!("{case}: {error}"));
        store.commit(put("e|1", value(1, 1))).unwrap();
        store.close().unwrap();
        assert_eq!(all(bench.open().view(), b'e').len(), 1, "{case}");
    }
}

#[test]
fn everything_is_in_a_copy_and_the_copy_takes_the_place_of_the_store() {
    let bench = Bench::new();
    let next = bench.directory.next();
    let mut store = bench.open();
    let mut batch = put("l|large", value(100_000, 3));
    for number in 0..300_u16 {
        batch.put([&b"e|"[..], &number.to_be_bytes()].concat(), value(5000, 1));
        batch.put([&b"i|"[..], &number.to_be_bytes()].concat(), value(5, 2));
    }
    store.commit(batch).unwrap();
    store.commit(put("s|1", value(1, 1))).unwrap();
    let expected = [b'e', b'i', b'l', b's'].map(|first| all(store.view(), first));
    // One that was begun earlier is removed.
    fs::create_dir_all(next.database()).unwrap();
    fs::write(next.database().join("db"), b"half of it").unwrap();
    store.copy_to(&next).unwrap();
    let id = store.id();
    store.close().unwrap();
    bench.directory.swap(&next).unwrap();
    assert!(next.were_used(), "the one before is where the copy was");
    next.remove().unwrap();
    let store = bench.open();
    assert_eq!([b'e', b'i', b'l', b's'].map(|first| all(store.view(), first)), expected);
    assert_eq!(store.id(), id);
}

#[test]
fn a_copy_is_put_where_there_is_no_store() {
    let bench = Bench::new();
    let next = bench.directory.next();
    Store::create(&next, LAYOUT, &bench.disk, None).unwrap().close().unwrap();
    bench.directory.swap(&next).unwrap();
    assert!(!next.0.exists() && bench.files().were_used());
    bench.open();
}

#[test]
fn what_was_the_store_is_kept_for_sure_where_the_new_one_was_made() {
    let bench = Bench::new();
    let repair = bench.folder.path().join("repair");
    let made = Files(repair.join("store"));
    Store::create(&made, LAYOUT, &bench.disk, None).unwrap().close().unwrap();
    bench.open().close().unwrap();
    // The name of the damaged store is in this directory then.
    fault::breaks(&repair);
    let swapped = bench.directory.swap(&made);
    fault::mends(&repair);
    assert!(swapped.unwrap_err().to_string().contains("repair"));
    bench.directory.swap(&made).unwrap();
}

#[test]
fn what_root_made_belongs_to_the_owner_of_the_directory() {
    let bench = Bench::new();
    bench.open().close().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let own = fs::metadata(bench.folder.path()).unwrap();
    let (uid, gid) = if is_root { (12_345, 12_346) } else { (own.uid(), own.gid()) };
    chown(bench.folder.path(), Some(uid), Some(gid)).unwrap();
    bench.directory.give_to_owner(&bench.files().0).unwrap();
    for path in [bench.files().0, bench.files().wal(), bench.files().database().join("db")] {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid), "{}", path.display());
    }
}

#[test]
fn a_cache_that_is_not_trusted_is_forgotten_by_the_next_open() {
    let bench = Bench::new();
    let mark = bench.files().0.join("reread");
    bench.open().close().unwrap();
    bench.files().distrust_cache();
    assert!(mark.exists());
    // Before sled reads its file: an open that fails later has not cleared the mark.
    bench.disk.put_in_the_way(Class::Open, disk::fault::Fault::Fails(libc::EIO), 1);
    assert!(bench.why_not().to_string().contains("the disk itself fails"));
    assert!(mark.exists());
    bench.open();
    assert!(!mark.exists());
}

#[test]
fn what_a_distrustful_opening_reads_of_the_database_was_synced_and_forgotten_first() {
    let bench = Bench::new();
    bench.open().close().unwrap();
    bench.files().distrust_cache();
    // sled, which comes next, would not name the file.
    fault::breaks(bench.folder.path());
    let why = bench.why_not().to_string();
    fault::mends(bench.folder.path());
    let file = bench.files().database().join("db");
    assert!(why.contains(&format!("{}: Input/output error", file.display())), "{why}");
}

/// A file system gives a new file the inode of a removed one.
#[test]
fn a_new_database_is_not_taken_for_a_removed_one_that_a_sync_failed_of() {
    for _ in 0..8 {
        let bench = Bench::new();
        fault::breaks(bench.folder.path());
        bench.why_not();
        fault::mends(bench.folder.path());
        drop(bench);
        Bench::new().open().close().unwrap();
    }
}

#[test]
fn what_sled_synced_by_itself_is_proof_enough() {
    let store = Bench::new().open();
    let trees = &store.view.trees;
    let written_and_synced = || {
        trees.set_checkpoint(Position { segment: 1, commits: 7 }).unwrap();
        Ok(())
    };
    trees.durably(written_and_synced).unwrap();
}
