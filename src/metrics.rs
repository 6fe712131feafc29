//! What is counted, and the names it has in `/metrics`.
//!
//! One registry a daemon, so that tests in one process do not share counters. No label holds
//! anything from outside: only names from the configuration and fixed words.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// A hook.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HookLabels {
    /// Its name; empty for a path that is no hook.
    pub hook: String,
}

/// A hook and the status it answered.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AnswerLabels {
    /// Its name; empty for a path that is no hook.
    pub hook: String,
    /// The status.
    pub status: u16,
}

/// A handler.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandlerLabels {
    /// Its name.
    pub handler: String,
}

/// A handler and how an attempt ended.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// Its name.
    pub handler: String,
    /// `delivered`, `retry`, `rejected`, `given_up`, `timeout` or `panic`.
    pub outcome: &'static str,
}

/// A subscription, and why an item of its feed was not taken in.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SkipLabels {
    /// The subscription's name.
    pub hook: String,
    /// `old`, `other` or `unreadable`.
    pub reason: &'static str,
}

/// A call to Altinn or Maskinporten.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CallLabels {
    /// `metadata`, `token`, `exchange`, `list`, `create`, `delete`, `feed`, `doctor`.
    pub call: &'static str,
    /// `ok` or `failed`.
    pub result: &'static str,
}

/// Why a connection was closed.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TurnedAwayLabels {
    /// `full`, `share`, `not_allowed`, `no_proxy_header`, `age`, `requests` or `refusals`.
    pub reason: &'static str,
}

/// All that is counted. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Answers to requests at the hook endpoint.
    pub answers: Family<AnswerLabels, Counter>,
    /// Requests from outside `allow_from`, refused or only reported.
    pub not_allowed: Family<HookLabels, Counter>,
    /// Events stored.
    pub stored: Family<HookLabels, Counter>,
    /// Events that were stored before.
    pub duplicates: Family<HookLabels, Counter>,
    /// Validation handshakes answered.
    pub validations: Family<HookLabels, Counter>,
    /// Authenticated pushes that could not be decoded.
    pub undecodable: Family<HookLabels, Counter>,
    /// Events stored that break a rule of CloudEvents.
    pub odd: Family<HookLabels, Counter>,
    /// Events that no handler matched.
    pub unmatched: Counter,
    /// From the end of a hook request's body to its answer.
    pub append_seconds: Histogram,
    /// Connections open at the hook endpoint.
    pub connections: Gauge,
    /// How many of them there may be.
    pub max_connections: Gauge,
    /// Connections that ended before a request: handshake failures and time-outs.
    pub handshakes_failed: Counter,
    /// Connections that were closed for what they are or take.
    pub turned_away: Family<TurnedAwayLabels, Counter>,
    /// Attempts to deliver.
    pub attempts: Family<OutcomeLabels, Counter>,
    /// Deliveries in flight.
    pub in_flight: Family<HandlerLabels, Gauge>,
    /// Unsettled events of a handler.
    pub pending: Family<HandlerLabels, Gauge>,
    /// Waiting retries of a handler.
    pub retrying: Family<HandlerLabels, Gauge>,
    /// Dead letters of a handler.
    pub dead_letters: Family<HandlerLabels, Gauge>,
    /// 1 while a handler is paused.
    pub paused: Family<HandlerLabels, Gauge>,
    /// Age of a handler's oldest unsettled event.
    pub oldest_seconds: Family<HandlerLabels, Gauge>,
    /// Events in the log.
    pub queue_events: Gauge,
    /// Live bytes of the store.
    pub queue_bytes: Gauge,
    /// 1 while new events are refused for want of room.
    pub queue_full: Gauge,
    /// Dead letters dropped because they were too many, too large or too old.
    pub dead_letters_dropped: Counter,
    /// Ids in the dedup window.
    pub dedup_ids: Gauge,
    /// 1 while the store takes events: it is neither full nor failing.
    pub store_writable: Gauge,
    /// 1 once something that was read of the store was damaged.
    pub store_damaged: Gauge,
    /// Commits of the store, each one sync.
    pub commits: Counter,
    /// A commit's time, its sync included.
    pub commit_seconds: Histogram,
    /// Calls to Altinn and Maskinporten.
    pub calls: Family<CallLabels, Counter>,
    /// Lines of the log that nobody read in time.
    pub log_dropped: Counter,
    /// Jumps of this machine's clock.
    pub clock_jumps: Counter,
    /// This machine's clock less Maskinporten's.
    pub clock_skew_seconds: Gauge<f64, AtomicU64>,
    /// 1 while a subscription is validated at Altinn.
    pub subscription_validated: Family<HookLabels, Gauge>,
    /// When an event was last pushed, in seconds since 1970.
    pub last_push_seconds: Family<HookLabels, Gauge<f64, AtomicU64>>,
    /// 1 while something is wrong with a subscription.
    pub subscription_degraded: Family<HookLabels, Gauge>,
    /// Pages of the feed read.
    pub feed_pages: Family<HookLabels, Counter>,
    /// Events that the feed brought before any push did.
    pub feed_events: Family<HookLabels, Counter>,
    /// Of these, events that were pushed after all.
    pub feed_pushed_later: Family<HookLabels, Counter>,
    /// Items of the feed that were not taken in.
    pub feed_skipped: Family<SkipLabels, Counter>,
    /// When the feed was last read to its end, in seconds since 1970.
    pub feed_read_seconds: Family<HookLabels, Gauge<f64, AtomicU64>>,
    /// How old the item is that the reader is at; 0 at the feed's end.
    pub feed_lag_seconds: Family<HookLabels, Gauge<f64, AtomicU64>>,
}

fn seconds() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 20.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            answers: Family::default(),
            not_allowed: Family::default(),
            stored: Family::default(),
            duplicates: Family::default(),
            validations: Family::default(),
            undecodable: Family::default(),
            odd: Family::default(),
            unmatched: Counter::default(),
            append_seconds: seconds(),
            connections: Gauge::default(),
            max_connections: Gauge::default(),
            handshakes_failed: Counter::default(),
            turned_away: Family::default(),
            attempts: Family::default(),
            in_flight: Family::default(),
            pending: Family::default(),
            retrying: Family::default(),
            dead_letters: Family::default(),
            paused: Family::default(),
            oldest_seconds: Family::default(),
            queue_events: Gauge::default(),
            queue_bytes: Gauge::default(),
            queue_full: Gauge::default(),
            dead_letters_dropped: Counter::default(),
            dedup_ids: Gauge::default(),
            store_writable: Gauge::default(),
            store_damaged: Gauge::default(),
            commits: Counter::default(),
            commit_seconds: seconds(),
            calls: Family::default(),
            log_dropped: Counter::default(),
            clock_jumps: Counter::default(),
            clock_skew_seconds: Gauge::default(),
            subscription_validated: Family::default(),
            last_push_seconds: Family::default(),
            subscription_degraded: Family::default(),
            feed_pages: Family::default(),
            feed_events: Family::default(),
            feed_pushed_later: Family::default(),
            feed_skipped: Family::default(),
            feed_read_seconds: Family::default(),
            feed_lag_seconds: Family::default(),
        }
    }
}

impl Metrics {
    /// The page that Prometheus reads (OpenMetrics text).
    pub fn page(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.registry())?;
        Ok(page)
    }

    /// A handler is no more: its gauges end.
    pub fn forget(&self, handler: &HandlerLabels) {
        for gauges in [
            &self.pending,
            &self.retrying,
            &self.dead_letters,
            &self.paused,
            &self.oldest_seconds,
            &self.in_flight,
        ] {
            gauges.remove(handler);
        }
    }

    #[rustfmt::skip]
    fn registry(&self) -> Registry {
        let mut r = Registry::with_prefix("brevdue");
        r.register("hook_answers", "Answers at the hook endpoint", self.answers.clone());
        r.register("requests_not_allowed", "Requests from outside allow_from", self.not_allowed.clone());
        r.register("events_stored", "Events stored", self.stored.clone());
        r.register("events_duplicate", "Events that were stored before", self.duplicates.clone());
        r.register("events_undecodable", "Authenticated pushes that are no CloudEvent", self.undecodable.clone());
        r.register("events_odd", "Events stored that break a rule of CloudEvents", self.odd.clone());
        r.register("events_unmatched", "Events that no handler matched", self.unmatched.clone());
        r.register("validations", "Validation handshakes answered", self.validations.clone());
        r.register_with_unit("append", "Time to store what a request brought", Unit::Seconds, self.append_seconds.clone());
        r.register("connections", "Open connections at the hook endpoint", self.connections.clone());
        r.register("connections_max", "Connections that there may be at the hook endpoint", self.max_connections.clone());
        r.register("connections_turned_away", "Connections closed for what they are or take", self.turned_away.clone());
        r.register("handshakes_failed", "Connections that ended before a request", self.handshakes_failed.clone());
        r.register("delivery_attempts", "Attempts to deliver", self.attempts.clone());
        r.register("deliveries_in_flight", "Deliveries in flight", self.in_flight.clone());
        r.register("handler_pending", "Events that a handler has not settled", self.pending.clone());
        r.register("handler_retrying", "Deliveries that wait for their next attempt", self.retrying.clone());
        r.register("handler_dead_letters", "Deliveries given up", self.dead_letters.clone());
        r.register("handler_paused", "1 while a handler is paused", self.paused.clone());
        r.register_with_unit("handler_oldest", "Age of a handler's oldest unsettled event", Unit::Seconds, self.oldest_seconds.clone());
        r.register("queue_events", "Events in the log", self.queue_events.clone());
        r.register_with_unit("queue_live", "Live bytes of the store", Unit::Bytes, self.queue_bytes.clone());
        r.register("queue_full", "1 while new events are refused for want of room", self.queue_full.clone());
        r.register("dead_letters_dropped", "Dead letters dropped: too many, too large or too old", self.dead_letters_dropped.clone());
        r.register("dedup_ids", "Identities remembered", self.dedup_ids.clone());
        r.register("store_writable", "1 while the store takes events", self.store_writable.clone());
        r.register("store_damaged", "1 once something read of the store was damaged: see brevdue verify", self.store_damaged.clone());
        r.register("store_commits", "Commits of the store, each one sync", self.commits.clone());
        r.register_with_unit("store_commit", "Time of a commit", Unit::Seconds, self.commit_seconds.clone());
        r.register("altinn_calls", "Calls to Altinn and Maskinporten", self.calls.clone());
        r.register("log_lines_dropped", "Lines of the log that nobody read in time", self.log_dropped.clone());
        r.register("clock_jumps", "Jumps of this machine's clock", self.clock_jumps.clone());
        r.register_with_unit("clock_skew", "This machine's clock less Maskinporten's", Unit::Seconds, self.clock_skew_seconds.clone());
        r.register("subscription_validated", "1 while validated at Altinn", self.subscription_validated.clone());
        r.register_with_unit("last_push", "When an event was last pushed, since 1970", Unit::Seconds, self.last_push_seconds.clone());
        r.register("subscription_degraded", "1 while something is wrong with a subscription", self.subscription_degraded.clone());
        r.register("feed_pages", "Pages of Altinn's feed read", self.feed_pages.clone());
        r.register("feed_events", "Events that the feed brought before any push did", self.feed_events.clone());
        r.register("feed_events_pushed_later", "Of these, events that were pushed after all", self.feed_pushed_later.clone());
        r.register("feed_items_skipped", "Items of the feed that were not taken in", self.feed_skipped.clone());
        r.register_with_unit("feed_read_to_end", "When the feed was last read to its end, since 1970", Unit::Seconds, self.feed_read_seconds.clone());
        r.register_with_unit("feed_lag", "How old the item is that the feed's reader is at", Unit::Seconds, self.feed_lag_seconds.clone());
        r
    }
}

impl HookLabels {
    /// Labels for this hook.
    pub fn new(hook: &impl ToString) -> Self {
        Self { hook: hook.to_string() }
    }
}

impl HandlerLabels {
    /// Labels for this handler.
    pub fn new(handler: &impl ToString) -> Self {
        Self { handler: handler.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_counters_by_their_names() {
        let metrics = Metrics::default();
        metrics.stored.get_or_create(&HookLabels { hook: "innboks".into() }).inc();
        let page = metrics.page().unwrap();
        assert!(page.contains("brevdue_events_stored_total{hook=\"innboks\"} 1"), "{page}");
        assert!(
            page.contains("brevdue_commit_seconds")
                || page.contains("brevdue_store_commit_seconds")
        );
    }
}
