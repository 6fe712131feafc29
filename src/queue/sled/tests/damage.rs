//! Stores with packed ids that are damaged: where it is found, and what goes on all the same.

use std::collections::HashSet;

use super::{
    packing::{
        are_duplicates, bench, done, fill, ninety, note, numbers, open_end, repaired, set_note,
        try_open_end, verified,
    },
    *,
};
use crate::queue::{
    Health, QueueError,
    sled::{entry::encode_number, keys, long::size, record::Head},
};

/// What is done to the store, and what an opening that reads only the end says; empty if it
/// cannot see it. One that reads the whole refuses all of them.
type Damage = (&'static str, fn(&Db), &'static str);

fn remove(db: &Db, key: &[u8]) {
    assert!(db.remove(key).unwrap().is_some());
}

fn flip(db: &Db, key: &[u8]) {
    let mut value = db.get(key).unwrap().unwrap().to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    db.insert(key, value).unwrap();
}

/// The record that begins where the packed part ends, and the one before.
fn border(db: &Db) -> (u64, u64) {
    let until = note(db).until;
    assert!(db.get(keys::event(until)).unwrap().is_some());
    (until, until - 3)
}

const DAMAGES: &[Damage] = &[
    ("no record in the middle", |db| remove(db, &keys::event(49)), ""),
    ("a record in the middle", |db| flip(db, &keys::event(49)), ""),
    ("its size", |db| set_note(db, |note| note.bytes += 1), ""),
    ("no first record", |db| remove(db, &keys::event(19)), "events 19 to 22 are missing"),
    ("the first record", |db| flip(db, &keys::event(19)), "checksum"),
    ("no record after the border", |db| remove(db, &keys::event(border(db).0)), "are missing"),
    ("no record before the border", |db| remove(db, &keys::event(border(db).1)), "are missing"),
    ("the record after the border", |db| flip(db, &keys::event(border(db).0)), "checksum"),
    ("the record before the border", |db| flip(db, &keys::event(border(db).1)), "checksum"),
    ("no last record", |db| remove(db, &keys::event(88)), "are missing"),
    ("no note", |db| remove(db, keys::LOG), "m|log is missing"),
    ("the note", |db| flip(db, keys::LOG), "m|log"),
    ("a border within a record", |db| set_note(db, |note| note.until -= 1), "missing"),
    ("a border too early", |db| set_note(db, |note| note.until -= 3), "m|log is wrong"),
    ("a border too late", |db| set_note(db, |note| note.until = 1000), "missing"),
    (
        "no ids in the middle",
        |db| {
            let entry = db.range(keys::ids(40)..).next().unwrap().unwrap();
            remove(db, &entry.0);
        },
        "the ids of the events",
    ),
    (
        "no first ids",
        |db| {
            let entry = db.range(keys::all(keys::IDS)).next().unwrap().unwrap();
            remove(db, &entry.0);
        },
        "the ids of the events 1 to",
    ),
    (
        "no last ids",
        |db| {
            let entry = db.range(keys::all(keys::IDS)).next_back().unwrap().unwrap();
            remove(db, &entry.0);
        },
        "the ids of the events",
    ),
];

#[tokio::test]
async fn what_is_wrong_with_packed_ids_is_refused_verified_and_repaired() {
    for (name, damage, words) in DAMAGES {
        let bench = bench();
        ninety(&bench).await;
        trouble::tamper(&bench, damage).await;
        match try_open_end(&bench).await {
            Ok(queue) => {
                assert_eq!(*words, "", "{name}: it opens");
                drop(queue.close().await);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!words.is_empty() && error.contains(words), "{name}: {error}");
                assert!(error.contains("verify --repair"), "{name}: {error}");
            }
        }
        assert!(matches!(bench.try_open().await, Err(OpenError::Damaged(_))), "{name}");
        let report = verified(&bench).await;
        assert!(!report.whole, "{name}");
        repaired(&bench).await;
        let after = verified(&bench).await;
        assert!(after.whole, "{name}: {:?} and then {:?}", report.faults, after.faults);
        // Nothing is lost: what was taken away, the file still has.
        let queue = open_end(&bench).await;
        let ids = done(&queue, 70).await;
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 70, "{name}: {ids:?}");
        are_duplicates(&queue, 21..=90).await;
        queue.close().await.unwrap();
        assert!(verified(&bench).await.whole, "{name}: afterwards");
        drop(open_end(&bench).await);
    }
}

#[tokio::test]
async fn ids_that_are_not_those_of_their_events_are_found_by_a_verification() {
    let bench = bench();
    ninety(&bench).await;
    let queue = bench.open().await;
    assert_eq!(done(&queue, 3).await, numbers(21..=23));
    queue.close().await.unwrap();
    trouble::tamper(&bench, |db| {
        let (key, value) = db.range(keys::ids(40)..).next().unwrap().unwrap();
        let mut head = Head::decode_ids(&value).unwrap();
        head.ids[1] = [1, 2];
        db.insert(key, head.encode_ids()).unwrap();
    })
    .await;
    let report = verified(&bench).await;
    assert!(report.faults[0].contains("are not among them"), "{report:?}");
    repaired(&bench).await;
    let report = verified(&bench).await;
    // Those of 19 to 21, which are gone, are still packed; the others stand with their events.
    assert!(report.whole && report.holds.oldest == 22, "{report:?}");
    assert_eq!(report.holds.dedup_ids, 90, "each once");
    are_duplicates(&bench.open().await, 1..=90).await;
}

#[tokio::test]
async fn damage_in_the_middle_stops_delivery_there_and_is_told() {
    for missing in [false, true] {
        let bench = bench();
        ninety(&bench).await;
        let damage = move |db: &Db| {
            if missing { remove(db, &keys::event(49)) } else { flip(db, &keys::event(49)) }
        };
        trouble::tamper(&bench, damage).await;
        let queue = open_end(&bench).await;
        let metrics = queue.shared.metrics.clone();
        assert_eq!(done(&queue, 28).await, numbers(21..=48));
        assert_eq!(metrics.store_damaged.get(), 0);
        for _ in 0..3 {
            let taken = timeout(Duration::from_secs(60), queue.take(&handler("a"))).await.unwrap();
            let Err(QueueError::Unavailable(why)) = taken else { panic!("{taken:?}") };
            assert!(
                why.contains("begins with event 49") && why.contains("brevdue verify"),
                "{why}"
            );
        }
        assert_eq!(metrics.store_damaged.get(), 1);
        for page in [OLDEST, Page { limit: 1000, newest: true }] {
            assert!(matches!(queue.events(page).await, Err(QueueError::Unavailable(_))));
        }
        assert!(matches!(queue.event(Seq(50)).await, Err(QueueError::Unavailable(_))));
        assert_eq!(queue.event(Seq(5)).await, Err(QueueError::NotFound));
        assert_eq!(queue.event(Seq(500)).await, Err(QueueError::NotFound));
        // It goes on with what it can.
        assert_eq!(
            (queue.health(), append(&queue, &["91"]).await),
            (Health::Writable, vec![stored(91)])
        );
        assert_eq!(queue.event(Seq(52)).await.unwrap().event.attributes().id, "52");
        let census = queue.census().await.unwrap();
        assert_eq!((census.handlers[0].pending, census.handlers[0].oldest), (43, None));
        queue.close().await.unwrap();
        repaired(&bench).await;
        let queue = bench.open().await;
        let mut ids = Vec::new();
        while ids.last().is_none_or(|id| id != "91") {
            ids.extend(done(&queue, 1).await);
        }
        assert!(ids.ends_with(&numbers(52..=91)), "{ids:?}");
    }
}

#[tokio::test]
async fn a_hole_is_not_deleted_over() {
    for missing in [false, true] {
        let mut bench = bench();
        bench.options.retain = DAY;
        let queue = bench.open().await;
        fill(&queue, 1, 90).await;
        assert_eq!(done(&queue, 90).await, numbers(1..=90));
        queue.close().await.unwrap();
        let damage = move |db: &Db| {
            if missing { remove(db, &keys::event(49)) } else { flip(db, &keys::event(49)) }
        };
        trouble::tamper(&bench, damage).await;
        bench.clock.advance(2 * DAY);
        let queue = open_end(&bench).await;
        append(&queue, &["91"]).await;
        assert_eq!(done(&queue, 1).await, ["91"]);
        queue.close().await.unwrap();
        assert_eq!(queue.shared.metrics.store_damaged.get(), 1);
        trouble::tamper(&bench, |db| {
            assert_eq!(db.get(keys::OLDEST).unwrap().unwrap(), encode_number(49));
            assert!(db.get(keys::event(46)).unwrap().is_none());
            assert!(db.get(keys::event(52)).unwrap().is_some());
        })
        .await;
        assert!(!verified(&bench).await.whole);
    }
}

/// A repair notes what is lost; what is missing right behind that is no part of it.
#[tokio::test]
async fn a_hole_behind_lost_events_is_not_taken_for_lost() {
    let bench = bench();
    ninety(&bench).await;
    trouble::tamper(&bench, |db| {
        let key = keys::event(49);
        let old = db.get(&key).unwrap().unwrap();
        let head = Head { ids: Vec::new(), ..Head::decode(&old).unwrap() };
        let gap = head.encode_gap();
        let less = size(&key, &old) - size(&key, &gap);
        db.insert(key, gap).unwrap();
        set_note(db, |note| note.bytes -= less);
    })
    .await;
    assert!(verified(&bench).await.whole);
    trouble::tamper(&bench, |db| remove(db, &keys::event(52))).await;
    let queue = open_end(&bench).await;
    assert_eq!(done(&queue, 28).await, numbers(21..=48));
    let taken = queue.take(&handler("a")).await;
    let Err(QueueError::Unavailable(why)) = taken else { panic!("{taken:?}") };
    assert!(why.contains("event 52"), "{why}");
}
