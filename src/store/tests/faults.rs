//! Calls to the disk that fail or panic: an error says so, and no commit that was answered is lost.

use super::*;
use crate::store::disk::fault::Fault;

const FAULTS: [Fault; 2] = [Fault::Fails(libc::EIO), Fault::Panics];

/// Number of a commit of about 30 KiB, in a key of its own.
fn numbered(number: u16) -> Batch {
    let mut batch = Batch::new();
    for tree in [b'e', b'i', b's'] {
        batch.put([&[tree, b'|'][..], &number.to_be_bytes()].concat(), value(10_000, 1));
    }
    batch
}

fn numbers(view: &View, tree: u8) -> Vec<u16> {
    let number = |(key, _): (Vec<u8>, _)| u16::from_be_bytes(key[2..].try_into().unwrap());
    all(view, tree).into_iter().map(number).collect()
}

/// Commits until there is an error; the number of commits that were answered, and the error.
fn commit_until_it_fails(store: &mut Store, from: u16) -> (u16, Option<Error>) {
    for number in from..from + 600 {
        if let Err(error) = store.commit(numbered(number)) {
            return (number, Some(error));
        }
    }
    (from + 600, None)
}

/// All commits below this are there, each whole, and perhaps the one that failed.
fn check(store: &Store, answered: u16) {
    let there = numbers(store.view(), b'e');
    let count = u16::try_from(there.len()).unwrap();
    assert!((answered..=answered + 1).contains(&count), "{count} of {answered}");
    assert_eq!(there, (0..count).collect::<Vec<_>>());
    assert!([b'i', b's'].into_iter().all(|tree| numbers(store.view(), tree) == there));
}

fn is_told(error: &Error, fault: Fault) {
    match fault {
        Fault::Panics => assert!(matches!(error, Error::Panicked(_)), "{error:?}"),
        Fault::Fails(_) => assert!(error.to_string().contains("the disk itself fails"), "{error}"),
    }
}

#[test]
fn while_commits_are_written_or_given_to_sled() {
    for fault in FAULTS {
        for class in [Class::Write, Class::Checkpoint, Class::Read] {
            let bench = Bench::new();
            let mut store = bench.open();
            let (before, none) = commit_until_it_fails(&mut store, 0);
            assert!(none.is_none());
            bench.disk.put_in_the_way(class, fault, 1);
            let (answered, error) = commit_until_it_fails(&mut store, before);
            let error = error.unwrap_or_else(|| panic!("{class:?} {fault:?} was met by no call"));
            assert_eq!(bench.disk.unmet(), 0);
            is_told(&error, fault);
            drop(store.close());
            check(&bench.open(), answered);
        }
    }
}

#[test]
fn while_a_commit_goes_to_sled_at_once() {
    let mut large = Batch::new();
    for number in 0..450_u16 {
        large.put([&b"z|"[..], &number.to_be_bytes()].concat(), value(19 * 1024, 1));
    }
    for fault in FAULTS {
        // The checkpoint before it, which has five calls, and then its own two.
        for calls_before in 0..8 {
            let bench = Bench::new();
            let mut store = bench.open();
            store.commit(numbered(0)).unwrap();
            bench.disk.put_in_the_way_after(Class::Checkpoint, fault, calls_before);
            let answered = store.commit(large.clone());
            let met = bench.disk.unmet() == 0;
            bench.disk.mend();
            assert_eq!(answered.is_err(), met, "{calls_before}");
            assert!(calls_before > 0 || met);
            drop(store.close());
            let store = bench.open();
            check(&store, 1);
            let there = all(store.view(), b'z').len();
            assert!(there == 450 || (met && there == 0), "{there} of 450: a part of a commit");
        }
    }
}

#[test]
fn while_it_is_opened() {
    for fault in FAULTS {
        for class in [Class::Open, Class::Read, Class::Write, Class::Checkpoint] {
            for calls_before in 0..20 {
                let bench = Bench::new();
                bench.disk.put_in_the_way_after(class, fault, calls_before);
                let opened = bench.try_open();
                let met = bench.disk.unmet() == 0;
                bench.disk.mend();
                if !met {
                    // Opening has fewer such calls.
                    assert!(calls_before > 0, "{class:?}");
                    opened.unwrap();
                    break;
                }
                assert!(opened.is_err(), "{class:?} {calls_before}");
                // It was a new store, and is one again.
                let mut store = bench.open();
                store.commit(numbered(0)).unwrap();
                store.close().unwrap();
                check(&bench.open(), 1);
            }
        }
    }
}

#[test]
fn while_it_is_opened_with_commits_in_it() {
    for fault in FAULTS {
        for class in [Class::Open, Class::Read] {
            for calls_before in 0..20 {
                let bench = Bench::new();
                let mut store = bench.open();
                let (answered, _) = commit_until_it_fails(&mut store, 0);
                store.close().unwrap();
                bench.disk.put_in_the_way_after(class, fault, calls_before);
                let opened = bench.try_open();
                let met = bench.disk.unmet() == 0;
                bench.disk.mend();
                assert_eq!(opened.is_err(), met, "{class:?} {calls_before}");
                drop(opened);
                check(&bench.open(), answered);
                if !met {
                    break;
                }
            }
        }
    }
}

#[test]
fn while_it_is_read() {
    for fault in FAULTS {
        let bench = Bench::new();
        let mut store = bench.open();
        let (answered, _) = commit_until_it_fails(&mut store, 0);
        store.checkpoint().unwrap();
        bench.disk.put_in_the_way(Class::Read, fault, 1);
        is_told(&store.view().get(b"e|\0\0").unwrap_err(), fault);
        // Each entry, and each that sled trims its memory by.
        let mut failed = 0;
        for calls_before in 0..40 {
            bench.disk.put_in_the_way_after(Class::Read, fault, calls_before);
            let mut range = store.view().scan_prefix(b"e");
            failed += usize::from(range.find_map(Result::err).is_some());
            assert_eq!(bench.disk.unmet(), 0);
        }
        assert_eq!(failed, 40);
        check(&store, answered);
        // What is larger than an entry, from its parts.
        store.commit(put("l|1", value(100_000, 1))).unwrap();
        store.checkpoint().unwrap();
        let stub = store.view().get(b"l|1").unwrap().unwrap();
        bench.disk.put_in_the_way_after(Class::Read, fault, 3);
        let whole = chunked::whole(store.view(), b"l|1", &stub);
        assert!(whole.is_err());
    }
}

#[test]
fn while_it_is_copied() {
    for fault in FAULTS {
        for class in [Class::Open, Class::Read, Class::Write, Class::Checkpoint, Class::Drop] {
            let bench = Bench::new();
            let mut store = bench.open();
            for number in 0..30 {
                store.commit(numbered(number)).unwrap();
            }
            bench.disk.put_in_the_way(class, fault, 1);
            assert!(store.copy_to(&bench.directory.next()).is_err(), "{class:?}");
            assert_eq!(bench.disk.unmet(), 0);
            drop(store.close());
            check(&bench.open(), 30);
        }
    }
}

#[test]
fn while_it_is_closed_or_room_is_looked_for() {
    for fault in FAULTS {
        let bench = Bench::new();
        let mut store = bench.open();
        let (answered, _) = commit_until_it_fails(&mut store, 0);
        bench.disk.put_in_the_way(Class::Drop, fault, 1);
        is_told(&store.close().unwrap_err(), fault);
        let store = bench.open();
        check(&store, answered);
        // Not known: writing will show it.
        bench.disk.put_in_the_way(Class::Room, fault, 1);
        assert_eq!(room::free(bench.folder.path(), &bench.disk), u64::MAX);
        assert_eq!(bench.disk.unmet(), 0);
    }
}

#[test]
fn a_store_that_is_closed_has_no_thread_left_that_writes_to_it() {
    let bench = Bench::new();
    let mut store = bench.open();
    let memtable = std::sync::Arc::clone(&store.view.memtable);
    commit_until_it_fails(&mut store, 0);
    store.checkpoint().unwrap();
    // The thread of a checkpoint has it, too.
    let idle = std::sync::Arc::strong_count(&memtable);
    let mut commits = 0..10_000;
    while std::sync::Arc::strong_count(&memtable) == idle {
        store.commit(numbered(commits.next().unwrap())).unwrap();
    }
    store.close().unwrap();
    assert_eq!(std::sync::Arc::strong_count(&memtable), 1);
}

#[test]
fn a_store_that_is_killed_again_and_again_has_two_segments_in_memory_at_most() {
    let bench = Bench::new();
    for round in 0..10 {
        let mut store = bench.open();
        for number in 0..50 {
            store.commit(numbered(round * 50 + number)).unwrap();
        }
        let bytes: usize = store.view.memtable.all().iter().map(|(_, value)| value.len()).sum();
        assert!(bytes < 16 << 20, "{bytes} in round {round}");
    }
    check(&bench.open(), 500);
}

#[test]
fn what_was_opened_before_a_fault_is_closed_under_the_eyes_of_the_watchdog() {
    let mut met = 0;
    for (class, fault) in
        [Class::Write, Class::Read].into_iter().flat_map(|class| FAULTS.map(|fault| (class, fault)))
    {
        for after in 0..4 {
            let bench = Bench::new();
            let mut store = bench.open();
            store.commit(numbered(0)).unwrap();
            store.close().unwrap();
            bench.disk.put_in_the_way_after(class, fault, after);
            bench.disk.put_in_the_way(Class::Drop, Fault::Panics, 1);
            let opened = bench.try_open();
            let Err(error) = opened else { continue };
            is_told(&error, fault);
            assert_eq!(bench.disk.unmet(), 0, "{class:?} {after}");
            met += 1;
            check(&bench.open(), 1);
        }
    }
    assert!(met >= 8, "{met} faults were met");
}
