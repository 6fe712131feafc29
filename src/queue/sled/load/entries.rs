//! Everything beside the log: cursors, retries, dead letters, undecodable pushes, parts.

use super::{Survey, contents::Waiting};
use crate::{
    clock::Timestamp,
    queue::{
        DeadLetterId, Seq,
        sled::{
            codec::{
                DEAD, RAW, RETRY, Value,
                values::{Cursor, Tried, Undecodable, decided_at},
            },
            keys,
            read_error::whole_at_rest,
        },
    },
    store::{
        Error,
        chunked::{part_of, size},
        codec::{Kind, Malformed, Stub},
    },
};

const KEY: Malformed = Malformed("its key");

impl Survey {
    pub(super) fn cursors(&mut self) -> Result<(), Error> {
        for entry in self.view.range(keys::all(keys::CURSORS)) {
            let (key, value) = entry?;
            let handler = keys::handler_of(&key).ok_or(KEY);
            match handler.and_then(|handler| Ok((handler, Cursor::decode(&value)?))) {
                Ok((handler, cursor)) => {
                    self.contents.cursors.insert(handler, cursor);
                }
                Err(error) => self.bad(&key, error)?,
            }
        }
        Ok(())
    }

    /// Reads the retries, the dead letters and the undecodable pushes. The log was read before.
    pub(super) fn beside_the_log(&mut self) -> Result<(), Error> {
        for (prefix, kind) in [(keys::RETRIES, RETRY), (keys::DEAD, DEAD), (keys::RAW, RAW)] {
            for entry in self.view.range(keys::all(prefix)) {
                let (key, value) = entry?;
                let whole = whole_at_rest(&self.view, &key, &value)?;
                let taken = whole.and_then(|whole| self.take(kind, &key, &whole));
                if let Err(error) = taken {
                    self.bad(&key, error)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, kind: Kind, key: &[u8], whole: &[u8]) -> Result<(), Malformed> {
        let (decided, bytes) = (decided_at(kind, whole)?, size(key, whole));
        let id = if kind == RAW {
            let number = keys::number_of(key).ok_or(KEY)?;
            match Undecodable::decode(whole) {
                Ok(kept) => self.contents.raw.push((number, kept.push.identity())),
                Err(error) if self.is_deep() => return Err(error),
                // A start does not look: it is told when someone reads it.
                Err(_) => {}
            }
            self.contents.next_raw = self.contents.next_raw.max(number.saturating_add(1));
            Some(DeadLetterId::Raw(number))
        } else if kind == DEAD {
            // Its event may come again all the same, after a replay.
            let (handler, seq) = keys::dead_of(key).ok_or(KEY)?;
            self.tried(kind, whole, seq)?;
            Some(DeadLetterId::Delivery(handler, Seq(seq)))
        } else {
            let (due, handler, seq) = keys::retry_of(key).ok_or(KEY)?;
            self.tried(kind, whole, seq)?;
            let window = self.contents.cursors.get(&handler).map(|cursor| &cursor.window);
            if self.is_deep()
                && window.is_some_and(|window| window.reaches(seq) && !window.contains(seq))
                && !self.is_lost(seq)
            {
                // The event would come twice. Out of reach, a start sees to it.
                return Err(Malformed("the handler's cursor is before it"));
            }
            let waiting = Waiting { due: Timestamp::from_millis(due), decided, bytes };
            self.contents.retries.push((handler, seq, waiting));
            None
        };
        self.contents.dead.extend(id.map(|id| (id, decided, bytes)));
        self.contents.live_bytes += bytes;
        Ok(())
    }

    /// The event of a retry or dead letter is the one that its key says; a start does not look.
    fn tried(&self, kind: Kind, whole: &[u8], seq: u64) -> Result<(), Malformed> {
        if !self.is_deep() {
            return Ok(());
        }
        if Tried::decode(kind, whole)?.stored.seq.0 != seq {
            return Err(Malformed("it is of another event than its key says"));
        }
        if seq >= self.contents.bounds.next {
            return Err(Malformed("its number was never given"));
        }
        Ok(())
    }

    fn is_lost(&self, seq: u64) -> bool {
        self.lost.iter().chain(&self.holes).any(|(first, end)| (*first..*end).contains(&seq))
    }

    /// Looks at every entry for what only a verification sees: bookmarks, and what belongs to nothing.
    /// Parts of a whole value were read with it.
    pub(super) fn all_entries(&mut self) -> Result<(), Error> {
        let view = self.view.clone();
        for entry in view.entries() {
            let (key, value) = entry?;
            let judged = if let Some((of, index)) = part_of(&key) {
                let owner = view.get(of)?;
                let parts = owner.as_deref().and_then(Stub::of).map_or(0, |stub| stub.parts());
                let is_one = (1..=parts).contains(&index);
                is_one.then_some(()).ok_or(Malformed("it belongs to nothing"))
            } else if key.starts_with(keys::BOOKMARK) {
                bytes::Bytes::decode(&value).map(drop)
            } else {
                keys::is_known(&key).then_some(()).ok_or(Malformed("it is none of ours"))
            };
            if let Err(error) = judged {
                self.bad(&key, error)?;
            }
        }
        Ok(())
    }
}
