//! What is committed, in order, and what a reader may see of it.

use shuttle::sync::atomic::{AtomicUsize, Ordering};

use crate::{base::Slice, slice};

/// Keys that there are.
pub(crate) const KEYS: usize = 5;

pub(crate) fn key(number: usize) -> Slice {
    slice(&[b'k', u8::try_from(number).unwrap()])
}

/// Which commits set or remove which keys.
const CHANGES: [&[(usize, bool)]; 8] = [
    &[],
    &[(0, true), (2, true), (4, true)],
    &[(1, true), (2, false)],
    &[(3, true), (0, true)],
    &[(2, true), (1, false)],
    &[(0, false), (3, true)],
    &[(1, true), (2, true)],
    &[(0, true), (3, false), (4, true)],
];

/// Values after each commit, and how far the writer is.
pub(crate) struct History {
    states: Vec<[Option<u8>; KEYS]>,
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl History {
    pub(crate) fn new() -> Self {
        let mut states = Vec::new();
        let mut state = [None; KEYS];
        for (number, changes) in (0..).zip(CHANGES) {
            for (key, is_set) in changes {
                state[*key] = is_set.then_some(number);
            }
            states.push(state);
        }
        Self { states, begun: AtomicUsize::new(0), ended: AtomicUsize::new(0) }
    }

    /// Commits, with the empty store as the first.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// The changes of a commit, which may be seen from now on.
    pub(crate) fn begin(&self, number: usize) -> Vec<(Slice, Option<Slice>)> {
        self.begun.store(number, Ordering::SeqCst);
        let value = |is_set: bool| is_set.then(|| slice(&[u8::try_from(number).unwrap()]));
        CHANGES[number].iter().map(|(of, is_set)| (key(*of), value(*is_set))).collect()
    }

    /// That commit must be seen from now on.
    pub(crate) fn end(&self, number: usize) {
        self.ended.store(number, Ordering::SeqCst);
    }

    /// The value of a key after all commits.
    pub(crate) fn last(&self, of: usize) -> Option<[u8; 1]> {
        self.states.last().and_then(|state| state[of]).map(|value| [value])
    }
}

/// A reader, which remembers what it saw.
pub(crate) struct Witness<'a> {
    history: &'a History,
    /// The earliest commit that explains what was seen of each key.
    seen: [usize; KEYS],
}

impl<'a> Witness<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        Self { history, seen: [0; KEYS] }
    }

    /// Before a read: commits up to this one must be seen.
    pub(crate) fn begin(&self) -> usize {
        self.history.ended.load(Ordering::SeqCst)
    }

    /// After a read that began at `moment`: it is the value at some moment since then, and not an
    /// older one than was seen before.
    pub(crate) fn end(&mut self, moment: usize, of: usize, value: Option<&[u8]>) {
        let now = self.history.begun.load(Ordering::SeqCst);
        let from = moment.max(self.seen[of]);
        let found = (from..=now).find(|number| {
            self.history.states[*number][of].map(|value| [value]).as_ref().map(|v| &v[..]) == value
        });
        assert!(found.is_some(), "{value:?} was not the value of {of} from {from} to {now}");
        self.seen[of] = found.unwrap_or(from);
    }
}
