use proptest::prelude::*;

use super::*;
use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn clock() -> Clock {
    let clock = Clock::manual(START);
    assert_eq!(clock.look(), None, "the first look has nothing to compare with");
    clock
}

#[test]
fn a_jump_is_more_than_a_minute_between_wall_and_steady_time() {
    let last = Reading { wall: START, steady: HOUR };
    let at = |wall: Timestamp, passed: Duration| Reading { wall, steady: HOUR + passed };
    let forward = |by| Some(Jump::Forward(by));
    let back = |by| Some(Jump::Back(by));
    for (now, expected) in [
        (at(START, Duration::ZERO), None),
        (at(START.after(YEAR), YEAR), None),
        (at(START.after(SECOND * 60), Duration::ZERO), None),
        (at(START.after(SECOND * 61), Duration::ZERO), forward(SECOND * 61)),
        (at(START.before(SECOND * 60), Duration::ZERO), None),
        (at(START.before(SECOND * 61), Duration::ZERO), back(SECOND * 61)),
        // It stood still for an hour; it was set back an hour within an hour.
        (at(START, HOUR), back(HOUR)),
        (at(START.before(HOUR), SECOND), back(HOUR + SECOND)),
        // A sleep: steady time stood still.
        (at(START.after(HOUR * 8 + SECOND), SECOND), forward(HOUR * 8)),
        (at(START.after(YEAR * 10 + SECOND), SECOND), forward(YEAR * 10)),
        (at(Timestamp::default(), SECOND), back(START.since(Timestamp::default()) + SECOND)),
    ] {
        assert_eq!(between(last, now), expected, "{now:?}");
    }
}

#[test]
fn a_noted_time_must_be_within_the_last_day() {
    for (noted, expected) in [
        (START, None),
        (START.before(DAY), None),
        (START.before(DAY + SECOND), Some(Jump::Forward(DAY + SECOND))),
        (START.after(SECOND * 60), None),
        (START.after(SECOND * 61), Some(Jump::Back(SECOND * 61))),
        (Timestamp::default(), Some(Jump::Forward(START.since(Timestamp::default())))),
    ] {
        let clock = clock();
        assert_eq!(clock.seen(noted), expected, "{noted}");
        assert_eq!(
            (clock.is_vouched(), clock.jumps()),
            match expected {
                None => (true, 0),
                Some(_) => (false, 1),
            }
        );
    }
}

#[test]
fn a_clock_that_jumped_is_vouched_for_again_after_a_day_of_steady_time() {
    for to in [START.after(YEAR * 10), START.before(HOUR)] {
        let clock = clock();
        clock.set_wall(to);
        assert_eq!(clock.vouched_now(), None, "found by whoever asks first");
        clock.advance(HOUR * 23);
        assert!(!clock.is_vouched());
        clock.advance(HOUR);
        assert_eq!((clock.vouched_now(), clock.jumps()), (Some(to.after(DAY)), 1));
    }
}

#[test]
fn a_clock_that_is_set_right_begins_its_day_anew() {
    let clock = clock();
    clock.set_wall(START.after(YEAR));
    assert_eq!(clock.look(), Some(Jump::Forward(YEAR)));
    clock.advance(HOUR * 23);
    clock.set_wall(START.after(HOUR * 23));
    assert_eq!(clock.now(), START.after(HOUR * 23));
    clock.advance(HOUR * 23);
    assert!(!clock.is_vouched());
    clock.advance(HOUR);
    assert_eq!((clock.is_vouched(), clock.jumps()), (true, 2));
}

#[test]
fn the_time_alone_finds_a_jump_and_steady_time_does_not_move_with_it() {
    let clock = clock();
    let before = clock.steady();
    clock.set_wall(START.before(DAY));
    assert_eq!(clock.now(), START.before(DAY));
    assert_eq!((clock.look(), clock.jumps(), clock.steady()), (None, 1, before));
    clock.advance(SECOND);
    assert_eq!(clock.steady(), before + SECOND);
}

#[test]
fn the_machines_clock_goes_on_and_clones_share_what_was_seen() {
    let machine = Clock::System;
    let (before, wall) = (machine.steady(), machine.now());
    assert!(machine.steady() >= before && machine.now() >= wall.before(TOLERANCE));
    let (one, other) = (clock(), Clock::default());
    one.clone().set_wall(START.after(YEAR));
    assert_eq!((one.jumps(), one.is_vouched(), one.jumps()), (0, false, 1));
    assert!(matches!(other, Clock::System));
}

/// Some time passes, and the wall clock leaves the steady one by a little.
fn drifts() -> impl Strategy<Value = Vec<(u64, i64)>> {
    let minute = 60_000i64;
    proptest::collection::vec((0u64..10 * 24 * 3_600_000, -minute..=minute), 0..50)
}

proptest! {
    #[test]
    fn any_sequence_of_small_drifts_is_no_jump(drifts in drifts()) {
        let clock = clock();
        for (passed, drift) in drifts {
            clock.advance(Duration::from_millis(passed));
            let by = Duration::from_millis(drift.unsigned_abs());
            // Read without a look: the look that counts comes after the drift.
            let Clock::Manual(manual) = &clock else { unreachable!() };
            let wall = manual.reading.lock().unwrap().wall;
            clock.set_wall(if drift < 0 { wall.before(by) } else { wall.after(by) });
            prop_assert_eq!(clock.look(), None);
        }
        prop_assert!(clock.is_vouched());
        prop_assert_eq!(clock.jumps(), 0);
    }

    #[test]
    fn a_machine_that_slept_has_a_clock_that_jumped(
        awake in 0u64..1_000_000,
        asleep in 60_001u64..1_000_000_000_000,
        drifts in drifts(),
    ) {
        let clock = clock();
        clock.advance(Duration::from_millis(awake));
        let asleep = Duration::from_millis(asleep);
        clock.look();
        clock.set_wall(clock.now().after(asleep));
        prop_assert_eq!(clock.look(), Some(Jump::Forward(asleep)));
        let mut since = Duration::ZERO;
        for (passed, _) in drifts {
            prop_assert_eq!(clock.is_vouched(), since >= PROBATION);
            clock.advance(Duration::from_millis(passed));
            since += Duration::from_millis(passed);
        }
        prop_assert_eq!(clock.jumps(), 1);
    }
}
