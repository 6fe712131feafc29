//! Reading the feed page by page: what to ask next, and what an answer means. Pure.
//!
//! Altinn cuts a page and then drops from it what the caller may not see. So a short page says
//! nothing; only an empty one is the end, or a stretch of a thousand events that we may not see,
//! which looks the same. It begins anew at the oldest event, without a word, when it does not know
//! the cursor. Order is the order of storing, never of `time`.

use std::{collections::BTreeSet, marker::PhantomData, time::Duration};

use super::cursor::Cursor;
use crate::{clock::Timestamp, queue::StartAt};

/// As many as Altinn gives: the more, the longer a stretch that we may not see can be.
pub const SIZE: usize = 1000;
/// Items that are stored together, with the cursor after them.
const CHUNK: usize = 100;
/// An event may be older than one that was stored before it by so much.
const DISORDER: Duration = Duration::from_secs(2 * 24 * 3600);

/// One item of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// Its id, if one can be read.
    pub id: Option<String>,
    /// Its time, if one can be read.
    pub time: Option<Timestamp>,
    /// The rest.
    pub content: T,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page<T> {
    /// These.
    Items(Vec<Item<T>>),
    /// More bytes than we take at once.
    TooLarge,
}

/// Items to be taken in, and the cursor to be kept with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<T> {
    /// In the feed's order.
    pub items: Vec<T>,
    /// So many more were too old.
    pub old: usize,
    /// The place after them all.
    pub cursor: Cursor,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Take these in, one after the other; then ask again.
    Take(Vec<Chunk<T>>),
    /// Ask again.
    Again,
    /// That is all. The cursor is to be kept, if there is one.
    End(Option<Cursor>),
    /// It does not go on, and why.
    Stuck(&'static str),
    /// Take these in. It does not go on behind them, and why.
    Last(Chunk<T>, &'static str),
}

/// Why it does not go on behind items without an id.
const UNNAMED: &str = "no item of a page has an id";

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<'a> {
    /// An event's id, exclusive.
    pub after: &'a str,
    /// Items at the most.
    pub size: usize,
}

/// One reading of the feed, from a cursor to the end.
#[derive(Debug)]
pub struct Pager<T> {
    cursor: Cursor,
    /// Whether events from before a lost cursor are wanted.
    start: StartAt,
    doing: Doing,
    size: usize,
    /// As many as are asked for where there are items.
    usual: usize,
    /// As many as Altinn gives.
    largest: usize,
    too_large: Option<usize>,
    circle: Circle,
    restarted: bool,
    content: PhantomData<fn() -> T>,
}

#[derive(Debug)]
enum Doing {
    /// To the end, without taking anything in.
    Discarding,
    Reading,
    /// A page with these ids may be the feed's oldest. The feed's beginning tells; the page itself
    /// is not kept meanwhile.
    Checking(BTreeSet<String>),
    /// The page that was checked is asked for once more.
    Checked,
}

/// Finds out whether pages come again (Brent's way): of the pages one is remembered, and after
/// twice as many another one.
#[derive(Debug, Default)]
struct Circle {
    /// The first id of a page.
    remembered: Option<String>,
    pages: u64,
    next: u64,
}

impl Circle {
    fn closes_with(&mut self, id: &str) -> bool {
        if self.remembered.as_deref() == Some(id) {
            return true;
        }
        self.pages += 1;
        if self.pages >= self.next {
            self.next = self.pages * 2;
            self.remembered = Some(id.to_owned());
        }
        false
    }
}

impl<T> Pager<T> {
    /// Reads on after `cursor`, `usual` items at a time; only where there seem to be none, up to
    /// [`SIZE`].
    pub fn resume(cursor: Cursor, start: StartAt, usual: usize) -> Self {
        let usual = usual.clamp(1, SIZE);
        Self {
            cursor,
            start,
            doing: Doing::Reading,
            size: usual,
            usual,
            largest: SIZE,
            too_large: None,
            circle: Circle::default(),
            restarted: false,
            content: PhantomData,
        }
    }

    /// Looks for the end, to begin there.
    pub fn discard(now: Timestamp) -> Self {
        let reading = Self::resume(Cursor::oldest(now), StartAt::Now, SIZE);
        Self { doing: Doing::Discarding, ..reading }
    }

    /// What to ask for next.
    pub fn ask(&self) -> Ask<'_> {
        let after = match &self.doing {
            Doing::Checking(_) => "0",
            Doing::Discarding | Doing::Reading | Doing::Checked => self.cursor.after(),
        };
        Ask { after, size: self.size }
    }

    /// Whether Altinn was found not to know the cursor.
    pub fn restarted(&self) -> bool {
        self.restarted
    }

    /// What the answer to [`Pager::ask`] means.
    pub fn answered(&mut self, page: Page<T>, now: Timestamp) -> Outcome<T> {
        let items = match page {
            Page::TooLarge => return self.shrink(),
            Page::Items(items) => items,
        };
        match std::mem::replace(&mut self.doing, Doing::Reading) {
            Doing::Checking(held) => self.checked(&held, &items),
            Doing::Discarding if items.is_empty() => {
                self.doing = Doing::Discarding;
                self.empty(now)
            }
            Doing::Discarding => self.discarded(&items, now),
            Doing::Reading | Doing::Checked if items.is_empty() => self.empty(now),
            Doing::Reading if self.is_suspicious(&items) => {
                let ids = items.into_iter().filter_map(|item| item.id);
                self.doing = Doing::Checking(ids.collect());
                Outcome::Again
            }
            Doing::Reading | Doing::Checked if items.iter().all(|item| item.id.is_none()) => {
                self.unnamed(items)
            }
            Doing::Reading | Doing::Checked => self.take(items, now),
        }
    }

    fn shrink(&mut self) -> Outcome<T> {
        if self.size <= 1 {
            return Outcome::Stuck("one item is larger than an answer may be");
        }
        self.too_large = Some(self.size);
        self.size /= 2;
        Outcome::Again
    }

    /// Larger again, as far as it goes up to `most`; false if it does not go.
    fn grow(&mut self, most: usize) -> bool {
        let too_large = self.too_large.unwrap_or(self.largest + 1);
        let doubled = (self.size * 2).min(most);
        let between = self.size + too_large.saturating_sub(self.size) / 2;
        let size = if doubled < too_large { doubled } else { between };
        let goes = size > self.size;
        self.size = size;
        goes
    }

    /// The size after a page with items.
    fn settle(&mut self) {
        self.too_large = None;
        if self.size < self.usual {
            self.grow(self.usual);
        } else {
            self.size = self.usual;
        }
    }

    /// The end, as far as can be seen. Of a smaller page it is not believed, whyever it is small:
    /// the fewer items are asked for, the sooner all of them are some that we may not see.
    fn empty(&mut self, now: Timestamp) -> Outcome<T> {
        if self.size < self.largest {
            return if self.grow(self.largest) {
                Outcome::Again
            } else {
                Outcome::Stuck("a small page is empty and a large one is too large")
            };
        }
        let discarded = matches!(self.doing, Doing::Discarding);
        let from_oldest = self.cursor.floor.take().is_some();
        self.cursor.taken = now;
        Outcome::End((discarded || from_oldest).then(|| self.cursor.clone()))
    }

    fn discarded(&mut self, items: &[Item<T>], now: Timestamp) -> Outcome<T> {
        self.doing = Doing::Discarding;
        if let Some(why) = self.circle(items) {
            return Outcome::Stuck(why);
        }
        for item in items {
            if let Some(id) = &item.id {
                self.cursor = self.cursor.at(id, item.time, now);
            }
        }
        self.settle();
        Outcome::Again
    }

    /// Nothing can be asked for behind these; a larger page may go on behind them.
    fn unnamed(&mut self, items: Vec<Item<T>>) -> Outcome<T> {
        if self.size < self.largest && self.grow(self.largest) {
            return Outcome::Again;
        }
        self.last(items, UNNAMED)
    }

    /// The cursor stays where it is.
    fn last(&self, items: Vec<Item<T>>, why: &'static str) -> Outcome<T> {
        let items = items.into_iter().map(|item| item.content).collect();
        Outcome::Last(Chunk { items, old: 0, cursor: self.cursor.clone() }, why)
    }

    /// Much older than what was read before: it can be so, but not often.
    fn is_suspicious(&self, items: &[Item<T>]) -> bool {
        let line = self.cursor.time.before(DISORDER);
        self.cursor.id.is_some()
            && self.cursor.floor.is_none()
            && items.iter().any(|item| item.time.is_some_and(|time| time < line))
    }

    /// `oldest` is the feed's beginning. If the page with the ids that are `held` is that too, and
    /// the cursor is not in it, then Altinn does not know the cursor.
    fn checked(&mut self, held: &BTreeSet<String>, oldest: &[Item<T>]) -> Outcome<T> {
        self.doing = Doing::Checked;
        let known = oldest.iter().any(|item| item.id == self.cursor.id);
        let beginning = oldest.first().and_then(|item| item.id.as_ref());
        if beginning.is_some_and(|id| held.contains(id)) && !known {
            self.restarted = true;
            self.cursor.floor = match self.start {
                StartAt::Now => Some(self.cursor.time.before(DISORDER)),
                StartAt::Oldest => None,
            };
        }
        Outcome::Again
    }

    fn take(&mut self, mut items: Vec<Item<T>>, now: Timestamp) -> Outcome<T> {
        if let Some(why) = self.circle(&items) {
            return self.last(items, why);
        }
        // What stands after the last id comes again after it.
        let end = items.iter().rposition(|item| item.id.is_some()).map_or(0, |last| last + 1);
        items.truncate(end);
        let mut chunks = Vec::new();
        let mut chunk = Chunk { items: Vec::new(), old: 0, cursor: self.cursor.clone() };
        for Item { id, time, content } in items {
            if self.cursor.floor.zip(time).is_some_and(|(floor, time)| time < floor) {
                chunk.old += 1;
            } else {
                chunk.items.push(content);
            }
            let Some(id) = id else { continue };
            self.cursor = self.cursor.at(&id, time, now);
            chunk.cursor = self.cursor.clone();
            if chunk.items.len() + chunk.old >= CHUNK {
                let next = Chunk { items: Vec::new(), old: 0, cursor: self.cursor.clone() };
                chunks.push(std::mem::replace(&mut chunk, next));
            }
        }
        if !chunk.items.is_empty() || chunk.old > 0 {
            chunks.push(chunk);
        }
        self.settle();
        Outcome::Take(chunks)
    }

    /// A page that cannot lead on.
    fn circle(&mut self, items: &[Item<T>]) -> Option<&'static str> {
        let Some(id) = items.iter().find_map(|item| item.id.as_ref()) else {
            return Some(UNNAMED);
        };
        self.circle.closes_with(id).then_some("the feed comes in a circle")
    }
}

#[cfg(test)]
mod tests;
