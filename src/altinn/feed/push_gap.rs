//! Which way events come: by push, or by the feed only. And whether that is as it should be.
//!
//! Owns the judgement of silence. An event that the feed brings first is old enough to have been
//! pushed long before; so it was not, unless there is an excuse: Altinn pushes by a list of
//! subscriptions that can be an hour old, or we were not there to be pushed to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    altinn::http::error_text::ErrorText,
    clock::{Clock, Timestamp},
    event::{Arrival, happened},
    metrics::{HookLabels, Metrics, SkipLabels},
    name::HookName,
    queue::Appended,
};

/// Events brought by the feed that are remembered, to see whether they are pushed after all.
const REMEMBERED: usize = 1000;
/// If nothing at all is pushed, that is told for so long after the last event that was missed.
const SILENT: Duration = Duration::from_secs(24 * 3600);
/// Of the time that a new subscription needs, the part by which clocks may differ.
const SKEW: u32 = 65;

/// What is known of one subscription, since the start.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    /// Events that a push brought first.
    pub pushed: u64,
    /// Events that the feed brought first.
    pub fed: u64,
    /// When something was last pushed, duplicates included.
    pub last_push: Option<Timestamp>,
    /// When the feed last had an item that was new to the reader.
    pub last_row: Option<Timestamp>,
    /// When the feed was last read to its end.
    pub last_read: Option<Timestamp>,
    /// Why the feed cannot be read now.
    pub trouble: Option<ErrorText>,
    /// When a push was last refused for want of room.
    refused: Option<Timestamp>,
    /// When an event came by the feed that should have been pushed.
    missed: Option<Timestamp>,
    unpushed: VecDeque<Unpushed>,
}

/// An event that the feed brought.
#[derive(Debug, Clone)]
struct Unpushed {
    key: String,
    excused: bool,
}

impl Ways {
    /// Whether Altinn leaves out pushes, or lately did.
    pub fn is_silent(&self, now: Timestamp, settle: Duration) -> bool {
        let Some(missed) = self.missed else { return false };
        let nothing = self.last_push.is_none_or(|push| push <= missed);
        now.since(missed) < if nothing { SILENT.max(settle) } else { settle }
    }

    fn pushed_after_all(&mut self, key: &str) -> bool {
        let before = self.unpushed.len();
        self.unpushed.retain(|event| event.key != key);
        if self.unpushed.iter().all(|event| event.excused) {
            self.missed = None;
        }
        self.unpushed.len() < before
    }
}

/// All subscriptions' ways. Clones share them.
#[derive(Debug, Clone)]
pub struct PushGap(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    metrics: Metrics,
    started: Timestamp,
    settle: Duration,
    ways: Mutex<BTreeMap<HookName, Ways>>,
}

impl PushGap {
    /// Nothing has come yet; a new subscription needs `settle` until everything is pushed.
    pub fn new(clock: Clock, metrics: Metrics, settle: Duration) -> Self {
        let started = clock.now();
        Self(Arc::new(Shared { clock, metrics, started, settle, ways: Mutex::default() }))
    }

    /// How long a new subscription may need.
    pub fn settle(&self) -> Duration {
        self.0.settle
    }

    /// What is known of this one.
    pub fn ways(&self, name: &HookName) -> Ways {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    /// Whether `name` gets less than it should by push.
    pub fn is_silent(&self, name: &HookName) -> bool {
        let now = self.0.clock.now();
        self.lock().get(name).is_some_and(|ways| ways.is_silent(now, self.0.settle))
    }

    /// An event was pushed and is stored.
    pub fn pushed(&self, name: &HookName, arrival: &Arrival, appended: Appended) {
        let now = self.0.clock.now();
        let later = self.change(name, |ways| {
            ways.last_push = Some(now);
            match appended {
                Appended::Stored(_) => {
                    ways.pushed += 1;
                    false
                }
                Appended::Duplicate if ways.unpushed.is_empty() => false,
                Appended::Duplicate => ways.pushed_after_all(&key(arrival)),
            }
        });
        if later {
            self.0.metrics.feed_pushed_later.get_or_create(&HookLabels::new(name)).inc();
        }
    }

    /// A push could not be stored: Altinn pushes it again, by and by.
    pub fn refused(&self, name: &HookName) {
        let now = self.0.clock.now();
        self.change(name, |ways| ways.refused = Some(now));
    }

    /// The feed brought an event, and it is stored. Whoever knows when the subscription was last
    /// made or validated says it.
    pub fn fed(
        &self,
        name: &HookName,
        arrival: &Arrival,
        appended: Appended,
        fresh: Option<Timestamp>,
    ) {
        let Shared { clock, metrics, started, settle, .. } = &*self.0;
        let now = clock.now();
        let time = arrival.event.attributes().time.as_deref().and_then(happened);
        let slack = *settle / SKEW;
        self.change(name, |ways| {
            ways.last_row = Some(now);
            if appended == Appended::Duplicate {
                return;
            }
            ways.fed += 1;
            let before = |line: Option<Timestamp>, slack| {
                line.is_some_and(|line| time.is_none_or(|time| time < line.after(slack)))
            };
            let excused = before(Some(*started), slack)
                || before(fresh, *settle)
                || before(ways.refused, slack);
            if !excused {
                ways.missed = Some(now);
            }
            if ways.unpushed.len() >= REMEMBERED {
                ways.unpushed.pop_front();
            }
            ways.unpushed.push_back(Unpushed { key: key(arrival), excused });
        });
        if appended != Appended::Duplicate {
            metrics.feed_events.get_or_create(&HookLabels::new(name)).inc();
        }
    }

    /// A page came; the item read last is of this time.
    pub(crate) fn paged(&self, name: &HookName, time: Option<Timestamp>) {
        let labels = HookLabels::new(name);
        self.0.metrics.feed_pages.get_or_create(&labels).inc();
        if let Some(time) = time {
            let lag = self.0.clock.now().since(time).as_secs_f64();
            self.0.metrics.feed_lag_seconds.get_or_create(&labels).set(lag);
        }
    }

    /// Items were not taken in.
    pub(crate) fn skipped(&self, name: &HookName, reason: &'static str, count: usize) {
        if count > 0 {
            let labels = SkipLabels { hook: name.to_string(), reason };
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.0.metrics.feed_skipped.get_or_create(&labels).inc_by(count);
        }
    }

    /// An event that the feed brought breaks a rule of CloudEvents.
    pub(crate) fn odd(&self, name: &HookName) {
        self.0.metrics.odd.get_or_create(&HookLabels::new(name)).inc();
    }

    /// The feed was read to its end, or not, and why.
    pub(crate) fn read(&self, name: &HookName, trouble: Option<ErrorText>) {
        let now = self.0.clock.now();
        if trouble.is_none() {
            let (labels, metrics) = (HookLabels::new(name), &self.0.metrics);
            let seconds = now.since(Timestamp::default()).as_secs_f64();
            metrics.feed_read_seconds.get_or_create(&labels).set(seconds);
            metrics.feed_lag_seconds.get_or_create(&labels).set(0.0);
        }
        self.change(name, |ways| {
            if trouble.is_none() {
                ways.last_read = Some(now);
            }
            ways.trouble = trouble;
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HookName, Ways>> {
        self.0.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, name: &HookName, change: impl FnOnce(&mut Ways) -> T) -> T {
        change(self.lock().entry(name.clone()).or_default())
    }
}

fn key(arrival: &Arrival) -> String {
    Arrival::idempotency_key(&arrival.origin, arrival.event.attributes())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::{
        event::{Event, Origin},
        queue::Seq,
    };

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);
    const SETTLE: Duration = Duration::from_secs(3900);

    struct Rig {
        clock: Clock,
        watch: PushGap,
        name: HookName,
        started: Timestamp,
    }

    impl Rig {
        fn new() -> Self {
            let started = Timestamp::from_millis(1_800_000_000_000);
            let clock = Clock::manual(started);
            let watch = PushGap::new(clock.clone(), Metrics::default(), SETTLE);
            Self { clock, watch, name: "a".parse().unwrap(), started }
        }

        fn event(id: &str, time: Option<Timestamp>) -> Arrival {
            let time = time.map(|time| time.to_string());
            let json =
                json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "time": time});
            let event = Event::from_json(Bytes::from(json.to_string())).unwrap();
            Arrival { event, origin: Origin::Altinn, from: vec![], only_by_hook: None }
        }

        fn fed(&self, id: &str, time: Timestamp, fresh: Option<Timestamp>) {
            let stored = Appended::Stored("1".parse::<Seq>().unwrap());
            self.watch.fed(&self.name, &Self::event(id, Some(time)), stored, fresh);
        }

        fn pushed(&self, id: &str, appended: Appended) {
            self.watch.pushed(&self.name, &Self::event(id, None), appended);
        }

        fn is_silent(&self) -> bool {
            self.watch.is_silent(&self.name)
        }
    }

    #[test]
    fn an_event_that_only_the_feed_brings_is_silence_unless_there_is_an_excuse() {
        // Hours after the start: the event, the subscription, the last refusal → silence.
        for (event, fresh, refused, silent) in [
            (10, None, None, true),
            // We were not there.
            (-1, None, None, false),
            (-40, None, None, false),
            // The subscription was new.
            (10, Some(9), None, true),
            (10, Some(10), None, false),
            (10, Some(11), None, false),
            // We had no room, and Altinn waits before it pushes again.
            (10, None, Some(9), true),
            (10, None, Some(10), false),
            (10, None, Some(12), false),
        ] {
            let rig = Rig::new();
            let hours = |hours: i32| match u32::try_from(hours) {
                Ok(after) => rig.started.after(HOUR * after),
                Err(_) => rig.started.before(HOUR * hours.unsigned_abs()),
            };
            if let Some(refused) = refused {
                rig.clock.advance(hours(refused).since(rig.started));
                rig.watch.refused(&rig.name);
            }
            rig.clock.advance((HOUR * 13).saturating_sub(rig.clock.now().since(rig.started)));
            // Fresh: just over an hour before the event is old enough.
            let fresh = fresh.map(|fresh| hours(fresh).before(MINUTE * 6));
            rig.fed("1", hours(event), fresh);
            assert_eq!(rig.is_silent(), silent, "{event} {fresh:?} {refused:?}");
        }
    }

    #[test]
    fn silence_ends_when_the_event_is_pushed_after_all_or_some_time_after_others_are() {
        let stored = Appended::Stored("1".parse().unwrap());
        let rig = Rig::new();
        rig.clock.advance(HOUR);
        rig.fed("1", rig.clock.now(), None);
        rig.fed("2", rig.clock.now(), None);
        rig.pushed("1", Appended::Duplicate);
        assert!(rig.is_silent());
        rig.pushed("2", Appended::Duplicate);
        assert!(!rig.is_silent());
        let labels = HookLabels::new(&rig.name);
        assert_eq!(rig.watch.0.metrics.feed_events.get_or_create(&labels).get(), 2);
        assert_eq!(rig.watch.0.metrics.feed_pushed_later.get_or_create(&labels).get(), 2);

        rig.fed("3", rig.clock.now(), None);
        rig.clock.advance(23 * HOUR);
        assert!(rig.is_silent());
        rig.pushed("4", stored);
        assert!(!rig.is_silent());
        rig.fed("5", rig.clock.now(), None);
        rig.clock.advance(MINUTE);
        rig.pushed("6", stored);
        // Others are pushed: it is told for an hour.
        assert!(rig.is_silent());
        rig.clock.advance(SETTLE);
        assert!(!rig.is_silent());
        assert_eq!(rig.watch.ways(&rig.name).pushed, 2);
        assert_eq!(rig.watch.ways(&rig.name).fed, 4);
    }

    #[test]
    fn an_event_that_was_pushed_before_is_no_silence() {
        let rig = Rig::new();
        rig.clock.advance(HOUR);
        let event = Rig::event("1", Some(rig.clock.now()));
        rig.watch.fed(&rig.name, &event, Appended::Duplicate, None);
        assert!(!rig.is_silent());
        assert_eq!(rig.watch.ways(&rig.name).last_row, Some(rig.clock.now()));
        assert_eq!(rig.watch.ways(&rig.name).fed, 0);
    }
}
