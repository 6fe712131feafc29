//! What a verification tells: what a store holds, what is wrong with it, what a repair would do.

use std::path::PathBuf;

use serde::Serialize;

use super::pieces::number;
use crate::{
    name::HandlerName,
    queue::{
        DeadLetterId,
        sled::{
            codec::values::Cursor,
            load::{Survey, numbers},
            write::high_water::HighWater,
        },
    },
};

/// Faults that are told one by one.
const TOLD: usize = 1000;

/// What a store holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub whole: bool,
    /// sled finds something in the database; otherwise the files were searched for what is whole.
    pub opens: bool,
    /// What is whole.
    pub holds: Holds,
    /// What is wrong, in words.
    pub faults: Vec<String>,
    /// The number of faults that `faults` does not tell.
    pub more_faults: u64,
    /// What a repair would do, or did.
    pub repair: Vec<String>,
    /// Where the damaged database is kept, after a repair.
    pub kept_aside: Option<PathBuf>,
}

/// Counts of what is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Events in the log.
    pub events: u64,
    /// Of them, those that are kept in parts.
    pub large_events: u64,
    /// Numbers whose events a former repair could not find.
    pub lost_before: u64,
    /// The number of the first event in the log, or that will be in it.
    pub oldest: u64,
    /// The number that the next event gets.
    pub next: u64,
    /// Identities remembered.
    pub dedup_ids: u64,
    /// Cursors of handlers.
    pub handlers: Vec<HandlerCursor>,
    /// Waiting retries.
    pub retries: u64,
    /// Dead letters of handlers.
    pub dead_letters: u64,
    /// Undecodable pushes.
    pub undecodable: u64,
}

/// How far a handler is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandlerCursor {
    /// Which.
    pub name: String,
    /// Events in the log that it has not settled.
    pub pending: u64,
}

impl Report {
    pub(super) fn fault(&mut self, fault: String) {
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }

    /// Tells what a walk found, with what the high-water file knows.
    pub(super) fn tell(&mut self, survey: &Survey, mark: Option<&HighWater>) {
        self.opens = true;
        self.holds = Holds::of(survey);
        survey.faults.iter().for_each(|fault| self.fault(fault.clone()));
        let Some(mark) = mark else { return };
        if mark.count > survey.noted {
            let what = "deliveries that were settled, retries and dead letters may be as they were";
            self.fault(format!("the last changes are missing: {what} before"));
        }
        if mark.next > self.holds.next {
            let missing = numbers(self.holds.next, mark.next);
            self.fault(format!("{missing} missing: the high-water file knew of more"));
        }
    }
}

impl Holds {
    fn of(survey: &Survey) -> Self {
        let contents = &survey.contents;
        let (oldest, next) = (contents.bounds.oldest, contents.bounds.next);
        let raw = contents.dead.iter().filter(|(id, ..)| matches!(id, DeadLetterId::Raw(_)));
        let raw = raw.count();
        let cursor = |(name, cursor): (&HandlerName, &Cursor)| {
            let pending = next.saturating_sub(cursor.window.low().max(oldest));
            let pending = pending.saturating_sub(cursor.window.above());
            HandlerCursor { name: name.to_string(), pending }
        };
        Self {
            events: survey.events,
            large_events: survey.large_events,
            lost_before: survey.lost.iter().map(|(first, end)| end - first).sum(),
            oldest,
            next,
            dedup_ids: number(survey.dedup.known.len()),
            handlers: contents.cursors.iter().map(cursor).collect(),
            retries: number(contents.retries.len()),
            dead_letters: number(contents.dead.len() - raw),
            undecodable: number(raw),
        }
    }
}
