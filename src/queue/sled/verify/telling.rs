//! What was found, and what a repair would do, in words.

use super::{Holds, Report, check::Found, scan::Pieces};
use crate::queue::sled::mark::Mark;

impl Found {
    /// Says it, with what the high-water file knows.
    pub(super) fn tell(&self, mark: Option<&Mark>, report: &mut Report) {
        report.holds = self.holds.clone();
        self.faults.faults.iter().for_each(|fault| report.fault(fault.clone()));
        report.more_faults += self.faults.more_faults;
        if let (Some(mark), Some(identity)) = (mark, &self.identity)
            && mark.store != identity.store
        {
            report.fault("the high-water file is of another store than the database".to_owned());
        }
        if let Some(mark) = mark.filter(|mark| mark.next > self.holds.next) {
            let missing = numbers(self.holds.next, mark.next);
            report.fault(format!("{missing} missing: the high-water file knew of more"));
        }
    }

    /// Nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.identity.is_none() && self.holds == Holds { oldest: 1, next: 1, ..Holds::default() }
    }

    /// Numbers that are missing: first, and the one after the last. The high-water file knows the end.
    fn missing(&self, mark: Option<&Mark>) -> Vec<(u64, u64)> {
        let (oldest, next) = (self.holds.oldest, self.holds.next);
        let end = mark.map_or(next, |mark| mark.next);
        let head = (self.first(), oldest);
        let all = [head].into_iter().chain(self.holes.iter().copied()).chain([(next, end)]);
        all.filter(|(first, end)| first < end).collect()
    }

    /// The first number that is, or should be, in the log.
    pub(super) fn first(&self) -> u64 {
        self.noted_oldest.map_or(self.holds.oldest, |noted| noted.min(self.holds.oldest))
    }

    /// Says what a repair would do.
    pub(super) fn plan(&self, spare: &Pieces, mark: Option<&Mark>, report: &mut Report) {
        let holds = &self.holds;
        report.repair = vec![
            "keep the database as it is aside, with the high-water file".to_owned(),
            format!(
                "carry over {} events, {} identities, {} retries, {} dead letters, {} undecodable \
                 pushes and the places of {} handlers",
                holds.events,
                holds.dedup_ids,
                holds.retries,
                holds.dead_letters,
                holds.undecodable,
                holds.handlers.len()
            ),
            format!("leave out {} entries that are not whole", self.bad.len()),
        ];
        for (first, end) in self.missing(mark) {
            let found = spare.count_between(first, end);
            if found > 0 {
                let again = format!("put back {found} of the events {first} to {}", end - 1);
                report.repair.push(format!("{again}: the file still has them"));
            }
            if found < end - first {
                let lost = numbers(first, end);
                report
                    .repair
                    .push(format!("note that {lost} lost, as far as they are not put back"));
            }
        }
        if self.identity.is_none() && spare.identity.is_none() {
            let words = "forget the identities: an event that is sent again is stored again";
            report.repair.push(words.to_owned());
        }
    }
}

/// A range of events, up to but not with `end`, and its verb.
pub(super) fn numbers(first: u64, end: u64) -> String {
    let last = end.saturating_sub(1);
    if first == last {
        format!("event {first} is")
    } else {
        format!("events {first} to {last} are")
    }
}
