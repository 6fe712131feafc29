//! The values of the queue read back as they were written, and nothing else is read.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    name::HookName,
    queue::{
        RawPush, StoredEvent,
        sled::{
            ack_window::AckWindow,
            codec::{
                CURSOR, DEAD, GROUP, IDS, KEY, META, RAW, RETRY, Value,
                record::{Head, Packing, decode_group, encode_event},
                run::Run,
                values::{Cursor, DedupKey, LogBounds, Tried, Undecodable, decided_at},
            },
            write::high_water::{self, HighWater, HighWaterFile},
        },
    },
    store::codec::{FRAME, Kind, encode, open, seal},
};

fn names() -> impl Strategy<Value = Vec<HookName>> {
    vec("[a-z0-9][a-z0-9_-]{0,62}".prop_map(|name| name.parse().unwrap()), 0..5)
}

fn stored_event() -> impl Strategy<Value = StoredEvent> {
    let origin = option::of("[a-z]{1,9}")
        .prop_map(|name| name.map_or(Origin::Altinn, |name| Origin::Source(name.parse().unwrap())));
    (any::<u32>(), any::<u64>(), origin, names(), names(), "[ -!#-Z]{0,40}", 0usize..200).prop_map(
        |(seq, at, origin, from, already, id, filling)| StoredEvent {
            seq: Seq(seq.into()),
            received: Timestamp::from_millis(at),
            origin,
            from,
            already,
            event: event(&id, filling),
        },
    )
}

fn sealed(kind: Kind, payload: &[u8]) -> Vec<u8> {
    seal(kind, [&[0; FRAME], payload].concat())
}

fn decode_all(value: &[u8]) {
    drop(decode_group(value));
    drop(Head::decode(value));
    drop(Run::decode(value));
    drop(Cursor::decode(value));
    drop(Tried::decode(RETRY, value));
    drop(Tried::decode(DEAD, value));
    drop(Undecodable::decode(value));
    drop(HighWater::decode(value));
    drop((Bytes::decode(value), BTreeSet::<HookName>::decode(value)));
    DedupKey::decode(value).ok();
    LogBounds::decode(value).ok();
    u64::decode(value).ok();
    decided_at(DEAD, value).ok();
    drop((keys::retry_of(value), keys::dead_of(value), keys::handler_of(value)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_group_reads_back_as_it_was_packed(
        first in 0u64..1 << 40,
        at in any::<u64>(),
        events in vec((stored_event(), vec(any::<[u8; 16]>(), 0..3)), 1..20),
    ) {
        let received = Timestamp::from_millis(at);
        let mut packing = Packing::new(first, received);
        let (mut expected, mut ids) = (Vec::new(), Vec::new());
        for (seq, (stored, new_ids)) in (first..).zip(events) {
            packing.push(&encode_event(&stored), &new_ids);
            ids.extend(new_ids);
            expected.push(StoredEvent { seq: Seq(seq), received, ..stored });
        }
        let (head, value) = packing.seal();
        prop_assert_eq!(&head.ids, &ids);
        prop_assert_eq!(&Head::decode(&value).unwrap(), &head);
        let run = Run { head: head.clone(), bytes: at };
        prop_assert_eq!(&Run::decode(&run.encode()).unwrap(), &run);
        prop_assert_eq!(decode_group(&value).unwrap(), (head, expected));
    }

    #[test]
    fn what_was_tried_reads_back(
        stored in stored_event(),
        attempts in any::<u32>(),
        since in any::<u64>(),
        reason in ".{0,60}",
        answer in option::of(".{0,60}"),
    ) {
        let tried = Tried {
            at: stored.received,
            attempts,
            since: Timestamp::from_millis(since),
            failure: Failure { reason, answer },
            stored,
        };
        let value = tried.encode(RETRY);
        prop_assert!(Tried::decode(DEAD, &value).is_err());
        prop_assert_eq!(decided_at(RETRY, &value).unwrap(), tried.at);
        prop_assert_eq!(Tried::decode(RETRY, &value).unwrap(), tried);
    }

    #[test]
    fn an_undecodable_push_reads_back(body in vec(any::<u8>(), 0..300), media_type in ".{0,40}") {
        let push = RawPush { hook: "h".parse().unwrap(), media_type, body: body.into() };
        let kept = Undecodable { at: Timestamp::from_millis(7), failure: failure("x"), push };
        prop_assert_eq!(Undecodable::decode(&kept.encode()).unwrap(), kept);
    }

    #[test]
    fn one_changed_bit_is_noticed(stored in stored_event(), place in any::<prop::sample::Index>()) {
        let mut packing = Packing::new(1, Timestamp::from_millis(1));
        packing.push(&encode_event(&stored), &[[1; 16]]);
        let (_, mut value) = packing.seal();
        let bit = place.index(value.len() * 8);
        value[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode_group(&value).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        decode_all(&bytes);
        for kind in [GROUP, IDS, CURSOR, RETRY, DEAD, RAW, META, KEY] {
            let value = sealed(kind, &bytes);
            prop_assert!(open(kind, &value).is_ok());
            decode_all(&value);
        }
    }

    #[test]
    fn a_group_cut_short_is_refused(stored in stored_event(), cut in any::<prop::sample::Index>()) {
        let mut packing = Packing::new(1, Timestamp::from_millis(1));
        packing.push(&encode_event(&stored), &[[1; 16]]);
        let (_, value) = packing.seal();
        let payload = &value[FRAME..];
        let short = sealed(GROUP, &payload[..cut.index(payload.len())]);
        // With all of its events cut off it is a gap, which a record without events stands for.
        let is_refused = decode_group(&short).map_or(true, |(_, events)| events.is_empty());
        prop_assert!(is_refused);
    }
}

#[test]
fn a_record_whose_numbers_run_over_is_refused() {
    let head = |first| Head { first, count: 2, received: Timestamp::default(), ids: Vec::new() };
    let read = |head: Head| Head::of(&keys::event(head.first), &head.encode_gap());
    assert!(read(head(u64::MAX - 2)).is_ok() && read(head(u64::MAX - 1)).is_err());
}

#[test]
fn a_high_water_mark_that_is_shorter_than_the_one_before_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = HighWaterFile::open(directory.path(), &Disk::default()).unwrap();
    for at in [u64::MAX, 0] {
        let mark =
            HighWater { store: [1; 16], next: at, low: at, count: at, at: Timestamp::default() };
        file.write(mark.clone()).unwrap();
        let read = high_water::read(directory.path()).unwrap();
        assert_eq!(read, Some(Ok(mark)));
    }
}

#[test]
fn a_cursor_reads_back_and_a_claimed_length_allocates_nothing() {
    let mut window = AckWindow::starting_at(100);
    window.settle(101);
    let cursor = Cursor { window, seen: Timestamp::from_millis(5), paused: false };
    assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
    let paused = Cursor { paused: true, ..cursor.clone() };
    assert_eq!(Cursor::decode(&paused.encode()).unwrap(), paused);
    assert!(decode_group(&encode(GROUP, &(1, u32::MAX, 0, u64::MAX))).is_err());
}
