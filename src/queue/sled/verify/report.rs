//! What a verification tells: what a store holds, what is wrong with it, what a repair would do.

use std::path::PathBuf;

use serde::Serialize;

use crate::queue::sled::{
    load::{Collected, Survey, numbers},
    write::high_water::HighWater,
};

/// Faults that are told one by one.
const TOLD: usize = 1000;

/// What a store holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub whole: bool,
    /// sled finds something in the database; otherwise its file was searched for what is whole.
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
}

/// The counts of a survey.
pub(super) fn holds(survey: &Survey) -> Holds {
    let bounds = survey.contents.bounds;
    let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    let raw = survey.contents.dead.iter();
    let raw = raw.filter(|(id, ..)| matches!(id, crate::queue::DeadLetterId::Raw(_))).count();
    let pending = |cursor: &crate::queue::sled::codec::values::Cursor| {
        let low = cursor.window.low().max(bounds.oldest);
        let pending = bounds.next.saturating_sub(low).saturating_sub(cursor.window.above());
        pending.min(bounds.next.saturating_sub(bounds.oldest))
    };
    let handlers = survey.contents.cursors.iter();
    Holds {
        events: survey.events,
        large_events: survey.large_events,
        lost_before: survey.lost.iter().map(|(first, end)| end - first).sum(),
        oldest: bounds.oldest,
        next: bounds.next,
        dedup_ids: count(survey.dedup.known.len()),
        handlers: handlers
            .map(|(name, cursor)| HandlerCursor {
                name: name.to_string(),
                pending: pending(cursor),
            })
            .collect(),
        retries: count(survey.contents.retries.len()),
        dead_letters: count(survey.contents.dead.len() - raw),
        undecodable: count(raw),
    }
}

/// Tells what a walk found, with what the high-water file knows.
pub(super) fn tell(
    survey: &Survey,
    faults: &Collected,
    mark: Option<&HighWater>,
    report: &mut Report,
) {
    report.holds = holds(survey);
    faults.words.iter().for_each(|fault| report.fault(fault.clone()));
    if mark.is_some_and(|mark| mark.count > survey.noted) {
        let what = "deliveries that were settled, retries and dead letters may be as they were";
        report.fault(format!("the last changes are missing: {what} before"));
    }
    if let Some(mark) = mark.filter(|mark| mark.next > report.holds.next) {
        let missing = numbers(report.holds.next, mark.next);
        report.fault(format!("{missing} missing: the high-water file knew of more"));
    }
}

/// Whether the walk found nothing at all.
pub(super) fn is_empty(survey: &Survey) -> bool {
    let nothing = Holds { oldest: 1, next: 1, ..Holds::default() };
    survey.key.is_none() && holds(survey) == nothing
}

/// Numbers that are missing: first, and the one after the last. The high-water file knows the end.
fn missing(survey: &Survey, mark: Option<&HighWater>) -> Vec<(u64, u64)> {
    let next = survey.contents.bounds.next;
    let end = mark.map_or(next, |mark| mark.next);
    let all = survey.holes.iter().copied().chain([(next, end)]);
    all.filter(|(first, end)| first < end).collect()
}

/// Says what a repair would do; `found` counts the events between two numbers that the files have.
pub(super) fn plan(
    (survey, faults): (&Survey, &Collected),
    found: impl Fn(u64, u64) -> u64,
    mark: Option<&HighWater>,
    report: &mut Report,
) {
    let holds = &report.holds;
    let mut plan = vec![
        "keep the database as it is aside, with the high-water file".to_owned(),
        format!(
            "carry over {} events, {} identities, {} retries, {} dead letters, {} undecodable \
             pushes and the cursors of {} handlers",
            holds.events,
            holds.dedup_ids,
            holds.retries,
            holds.dead_letters,
            holds.undecodable,
            holds.handlers.len()
        ),
        format!("leave out {} entries that are not whole", faults.bad.len()),
    ];
    for (first, end) in missing(survey, mark) {
        let found = found(first, end);
        if found > 0 {
            let again = format!("put back {found} of the events {first} to {}", end - 1);
            plan.push(format!("{again}: the file still has them"));
        }
        if found < end - first {
            let lost = numbers(first, end);
            plan.push(format!("note that {lost} lost, as far as they are not put back"));
        }
    }
    if survey.key.is_none() {
        let words = "forget the identities unless their key is found: \
                     an event that is sent again is stored again";
        plan.push(words.to_owned());
    }
    report.repair = plan;
}
