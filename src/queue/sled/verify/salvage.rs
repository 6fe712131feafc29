//! What a search of the file brought, made into what a store holds.

use super::{
    report::{HandlerCursor, Report},
    scan::{Pieces, Spot},
};
use crate::{
    name::HandlerName,
    queue::{
        StoredEvent,
        sled::{
            codec::record::{Head, decode_group},
            load::numbers,
            write::high_water::HighWater,
        },
    },
    store::{
        Error, chunked,
        codec::{self, Stub},
    },
};

impl Pieces {
    /// The whole value that begins there, its parts included.
    pub(super) fn whole(&self, spot: Spot) -> Result<Option<Vec<u8>>, Error> {
        let value = self.read(spot)?;
        let Some(stub) = Stub::of(&value) else { return Ok(Some(value)) };
        let of = codec::crc(stub.beginning());
        let part = |index| {
            let spot = self.parts.get(&(of, index));
            spot.map(|spot| self.read(*spot)).transpose()
        };
        Ok(chunked::join(&stub, part)?.ok())
    }

    /// Groups that are whole and do not overlap, in the order of their numbers.
    pub(super) fn log(&self) -> impl Iterator<Item = (Head, Vec<StoredEvent>)> {
        let mut end = 0;
        self.groups.iter().filter_map(move |(first, (_, spot))| {
            let value = self.whole(*spot).ok().flatten()?;
            let (head, events) = decode_group(&value).ok().filter(|_| *first >= end)?;
            end = head.end();
            Some((head, events))
        })
    }

    /// The first group that is whole and lies between these numbers.
    pub(super) fn between(&self, from: u64, end: u64) -> Option<(Head, Vec<StoredEvent>)> {
        self.groups.range(from..end).find_map(|(_, (_, spot))| {
            let group = decode_group(&self.whole(*spot).ok()??).ok()?;
            (group.0.end() <= end && !group.1.is_empty()).then_some(group)
        })
    }

    /// The number of events that are found between these numbers.
    pub(super) fn count_between(&self, mut from: u64, end: u64) -> u64 {
        let mut count = 0;
        while let Some((head, events)) = self.between(from, end) {
            count += u64::try_from(events.len()).unwrap_or(0);
            from = head.end();
        }
        count
    }

    /// Says it.
    pub(super) fn tell(
        &self,
        mark: Option<&HighWater>,
        handlers: &[HandlerName],
        report: &mut Report,
    ) {
        let (mut holes, mut end) = (Vec::new(), None);
        for (head, events) in self.log() {
            let begin = *end.get_or_insert(head.first);
            if begin < head.first {
                holes.push((begin, head.first));
            }
            if report.holds.oldest == 0 {
                report.holds.oldest = head.first;
            }
            report.holds.events += u64::try_from(events.len()).unwrap_or(0);
            end = Some(head.end());
        }
        let end = end.unwrap_or(1);
        let next = mark.map_or(end, |mark| mark.next.max(end));
        if end < next {
            holes.push((end, next));
        }
        report.holds.next = next;
        report.holds.undecodable = u64::try_from(self.undecodable.len()).unwrap_or(0);
        report.holds.retries = u64::try_from(self.retries.len()).unwrap_or(0);
        for name in handlers {
            let (name, pending) = (name.to_string(), report.holds.events);
            report.holds.handlers.push(HandlerCursor { name, pending });
        }
        for (first, end) in &holes {
            report.fault(format!("{} not to be found", numbers(*first, *end)));
        }
        report.repair = self.plan(report.holds.events, mark);
    }

    fn plan(&self, events: u64, mark: Option<&HighWater>) -> Vec<String> {
        let since = mark.map_or_else(
            || "that are still to be found".to_owned(),
            |mark| format!("from number {} on, where the slowest handler was", mark.low),
        );
        let mut plan = vec![
            "keep the database as it is aside, with the high-water file".to_owned(),
            format!("carry over {events} events {since}: every handler gets them (again)"),
            format!(
                "carry over {} retries as events of every handler, and {} undecodable pushes",
                self.retries.len(),
                self.undecodable.len()
            ),
        ];
        if self.dead > 0 {
            plan.push(format!(
                "leave {} dead letters, old ones among them: it cannot be told whose they are",
                self.dead
            ));
        }
        if self.key.is_none() {
            plan.push("forget the identities: an event that is sent again is stored again".into());
        }
        plan
    }
}
