//! What a process wrote down of what it asked the queue for and was told: and so, what a store
//! that it left must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// The two handlers.
pub(crate) const HANDLERS: [&str; 2] = ["a", "b"];

/// The ledger as a file of lines, each written with one call.
pub(crate) struct Ledger {
    file: Mutex<File>,
    next: AtomicU64,
}

/// A call under way.
#[must_use]
pub(crate) struct Asked(u64);

impl Ledger {
    /// `round` makes the numbers of this process other ones than those of an earlier one.
    pub(crate) fn new(file: File, round: u64) -> Self {
        Self { file: Mutex::new(file), next: AtomicU64::new(round << 32) }
    }

    /// Before a call.
    pub(crate) fn ask(&self, what: &str) -> Asked {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.line(&format!("? {number} {what}\n"));
        Asked(number)
    }

    /// After it, if it was `Ok`.
    pub(crate) fn told(&self, Asked(number): Asked) {
        self.line(&format!("! {number}\n"));
    }

    fn line(&self, line: &str) {
        self.file.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Where a handler is with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// It is or will be given out, as this attempt.
    Waiting(u32),
    /// It is a dead letter, after so many attempts.
    Dead(u32),
    /// It is settled for good.
    Gone,
}

/// What is known of an event and a handler.
#[derive(Debug, Clone)]
struct Fate {
    sure: State,
    /// Before it was settled: a process may end before that is written down.
    before: Option<State>,
    under_way: Option<(u64, State)>,
    /// What was refused may have happened all the same, until something else is durable.
    refused: BTreeSet<State>,
    /// The opening of the store that it was last settled in.
    opening: Opening,
}

/// One use of the store, from its opening on: the process, and the closes before it. What is only in
/// memory ends with it, unless its close says that all was written down.
type Opening = (u64, u64);

impl Fate {
    /// What it builds on has happened, whether or not that was told yet; if that is something else
    /// than what was asked for last, then this was refused.
    fn goes_on(&mut self, sure: State, under_way: (u64, State), opening: Opening) {
        match self.under_way {
            Some((_, after)) if after != sure => drop(self.refused.insert(after)),
            Some(_) => self.refused.clear(),
            None => {}
        }
        (self.sure, self.before, self.under_way) = (sure, None, Some(under_way));
        self.opening = opening;
    }
}

/// What a store must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// Ids that the queue has, by its word.
    pub(crate) stored: BTreeSet<String>,
    /// Ids that it was asked to keep.
    pub(crate) asked: BTreeSet<String>,
    /// Undecodable pushes that it has by its word; that it was asked to keep.
    pub(crate) raw: BTreeSet<String>,
    pub(crate) raw_asked: BTreeSet<String>,
    appending: BTreeMap<u64, Vec<String>>,
    raw_appending: BTreeMap<u64, String>,
    fates: BTreeMap<(String, String), Fate>,
    numbers: BTreeMap<u64, (String, String)>,
    /// How often it was asked to close; the last of these calls, and of which opening.
    closes: u64,
    closing: Option<(u64, Opening)>,
}

impl Expected {
    /// Reads whole lines; a line that is cut off was not written.
    pub(crate) fn read(text: &str) -> Self {
        let mut expected = Self::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["?", number, rest @ ..] => expected.ask(number.parse().unwrap(), rest),
                ["!", number] => expected.told(number.parse().unwrap()),
                other => panic!("a line {other:?}"),
            }
        }
        expected
    }

    fn ask(&mut self, number: u64, what: &[&str]) {
        match what {
            ["append", ids @ ..] => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                self.asked.extend(ids.iter().cloned());
                self.appending.insert(number, ids);
            }
            ["raw", name] => {
                self.raw_asked.insert((*name).to_owned());
                self.raw_appending.insert(number, (*name).to_owned());
            }
            ["close"] => {
                self.closing = Some((number, self.opening(number)));
                self.closes += 1;
            }
            [what, handler, id, attempt] => {
                let key = ((*handler).to_owned(), (*id).to_owned());
                let attempt: u32 = attempt.parse().unwrap();
                let (sure, after) = match *what {
                    "done" => (State::Waiting(attempt), State::Gone),
                    "retry" => (State::Waiting(attempt), State::Waiting(attempt + 1)),
                    "bury" => (State::Waiting(attempt), State::Dead(attempt)),
                    "revive" => (State::Dead(attempt), State::Waiting(attempt + 1)),
                    "discard" => (State::Dead(attempt), State::Gone),
                    other => panic!("a call {other}"),
                };
                let (opening, refused) = (self.opening(number), BTreeSet::new());
                let first = Fate { sure, before: None, under_way: None, refused, opening };
                let fate = self.fates.entry(key.clone()).or_insert(first);
                fate.goes_on(sure, (number, after), opening);
                self.numbers.insert(number, key);
            }
            other => panic!("a call {other:?}"),
        }
    }

    fn told(&mut self, number: u64) {
        if let Some(ids) = self.appending.remove(&number) {
            self.stored.extend(ids);
        } else if let Some(name) = self.raw_appending.remove(&number) {
            self.raw.insert(name);
        } else if let Some((_, opening)) = self.closing.filter(|(asked, _)| *asked == number) {
            // What an earlier opening did not write down is not known to this one.
            for fate in self.fates.values_mut().filter(|fate| fate.opening == opening) {
                fate.before = None;
            }
        } else {
            let key = self.numbers.remove(&number).expect("a call that was asked for");
            let fate = self.fates.get_mut(&key).unwrap();
            if let Some((_, after)) = fate.under_way.take_if(|(under_way, _)| *under_way == number)
            {
                // Discarding is durable when it is told; being done is written down later.
                let soft = after == State::Gone && matches!(fate.sure, State::Waiting(_));
                if !soft {
                    fate.refused.clear();
                }
                (fate.before, fate.sure) = (soft.then_some(fate.sure), after);
            }
        }
    }

    fn opening(&self, number: u64) -> Opening {
        (process(number), self.closes)
    }

    /// Where this handler may be with this event that is stored.
    pub(crate) fn may_be(&self, handler: &str, id: &str) -> BTreeSet<State> {
        match self.fates.get(&(handler.to_owned(), id.to_owned())) {
            None => [State::Waiting(1)].into(),
            Some(fate) => {
                let after = fate.under_way.map(|(_, after)| after);
                let sure = [Some(fate.sure), fate.before, after].into_iter().flatten();
                sure.chain(fate.refused.iter().copied()).collect()
            }
        }
    }
}

/// The process that made the call with this number.
fn process(number: u64) -> u64 {
    number >> 32
}

#[test]
fn a_close_vouches_for_what_was_done_since_the_store_was_opened() {
    let may_be = |closes: &str| {
        let text = format!("? 0 append x y\n! 0\n? 1 done a x 1\n! 1\n? 2 close\n{closes}");
        let ledger = Expected::read(&text);
        [ledger.may_be("a", "x"), ledger.may_be("a", "y")]
    };
    let (waiting, gone) = (State::Waiting(1), State::Gone);
    let done = "? 3 done a y 1\n! 3\n? 4 close\n! 4\n";
    let next_process = "? 4294967296 done a y 1\n! 4294967296\n? 4294967297 close\n! 4294967297\n";
    assert_eq!(may_be(&format!("! 2\n{done}")), [[gone].into(), [gone].into()]);
    for after in [done, next_process] {
        assert_eq!(may_be(after), [[waiting, gone].into(), [gone].into()], "{after}");
    }
}

#[test]
fn a_ledger_says_what_must_be_and_what_may_be() {
    let ledger = Expected::read(
        "? 0 append x y\n! 0\n? 1 append z\n? 2 retry a x 1\n? 3 done a y 1\n! 3\n? 4 bury b y 1\n\
         ! 4\n? 5 discard b y 1\n! 5\n? 6 raw r\n? 7 bury b x 1\n! 7\n? 8 app",
    );
    assert_eq!(ledger.stored.iter().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!((ledger.asked.len(), ledger.raw.len(), ledger.raw_asked.len()), (3, 0, 1));
    assert_eq!(ledger.may_be("a", "x"), [State::Waiting(1), State::Waiting(2)].into());
    assert_eq!(ledger.may_be("a", "y"), [State::Waiting(1), State::Gone].into());
    assert_eq!(ledger.may_be("b", "y"), [State::Gone].into());
    assert_eq!(ledger.may_be("b", "x"), [State::Dead(1)].into());
    assert_eq!(ledger.may_be("a", "z"), [State::Waiting(1)].into());
    let ledger = Expected::read(
        "? 0 append x\n! 0\n? 1 retry a x 1\n? 2 done a x 1\n! 2\n? 3 retry b x 1\n\
         ? 4 bury b x 2\n? 5 bury b x 2\n! 5\n",
    );
    let refused = [State::Waiting(1), State::Waiting(2), State::Gone];
    assert_eq!(ledger.may_be("a", "x"), refused.into());
    assert_eq!(ledger.may_be("b", "x"), [State::Dead(2)].into());
}
