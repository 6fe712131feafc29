//! Whether a store that was left behind holds what its ledger says, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use brevdue::{
    clock::{Clock, Timestamp},
    metrics::Metrics,
    queue::{
        Appended, Delivery, Letter, Page, Queue,
        sled::{OpenError, Receipt, SledQueue},
    },
};

use tokio::task::spawn_blocking;

use crate::{
    ledger::{Expected, HANDLERS, State},
    workload::{arrival, event, options, raw},
};

/// The longest that looking at a store may take.
const PATIENCE: Duration = Duration::from_secs(120);
const ALL: Page = Page { limit: 1_000_000, newest: false };

/// What is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It says that it is damaged.
    Refused(String),
    /// It opens, and something that was answered is not in it, or something is wrong.
    Wrong(String),
    /// It panics.
    Panics,
    /// It does not come to an end.
    Hangs,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Wrong(why) => write!(f, "wrong: {why}"),
            Self::Panics => f.write_str("panics"),
            Self::Hangs => f.write_str("hangs"),
        }
    }
}

/// Opens the store in `folder` twice, takes all there is, and sends all of it again.
pub(crate) fn verify(folder: &Path, expected: &Expected) -> Result<(), Fault> {
    let (folder, expected) = (folder.to_owned(), expected.clone());
    let (answer, answered) = mpsc::sync_channel(1);
    // A thread of its own, so that one that hangs is seen to.
    let looking = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let result = runtime.block_on(look(&folder, &expected));
        answer.send(result).unwrap();
    });
    match answered.recv_timeout(PATIENCE) {
        Ok(result) => {
            looking.join().unwrap();
            result
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Fault::Panics),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Fault::Hangs),
    }
}

async fn look(folder: &Path, expected: &Expected) -> Result<(), Fault> {
    let queue = open(folder).await?;
    let found = Found::in_store(&queue).await.map_err(Fault::Wrong)?;
    found.compare(expected).map_err(Fault::Wrong)?;
    all_are_duplicates(&queue, expected).await.map_err(Fault::Wrong)?;
    queue.close().await.map_err(|error| Fault::Wrong(error.to_string()))?;
    let queue = open(folder).await?;
    let again = Found::in_store(&queue).await.map_err(Fault::Wrong)?;
    if again != found {
        return Err(Fault::Wrong("opened again, it holds something else".into()));
    }
    queue.close().await.map_err(|error| Fault::Wrong(error.to_string()))
}

async fn open(folder: &Path) -> Result<SledQueue, Fault> {
    // So late that every retry is due.
    let later = Timestamp::from_millis(Clock::System.now().as_millis() + 3_600_000);
    let options = options(folder);
    let opening =
        spawn_blocking(move || SledQueue::open(options, Clock::manual(later), Metrics::default()));
    opening.await.map_err(|_| Fault::Panics)?.map_err(|error| {
        if matches!(&error, OpenError::Damaged(why) if why.is_empty()) {
            return Fault::Wrong("refused without a word".into());
        }
        Fault::Refused(error.to_string())
    })
}

async fn all_are_duplicates(queue: &SledQueue, expected: &Expected) -> Result<(), String> {
    let ids: Vec<&String> = expected.stored.iter().collect();
    for some in ids.chunks(200) {
        let arrivals = some.iter().map(|id| arrival(id)).collect();
        let appended = queue.append(arrivals).await.map_err(|error| error.to_string())?;
        if let Some(at) = appended.iter().position(|one| *one != Appended::Duplicate) {
            return Err(format!("{} is taken for a new one", some[at]));
        }
    }
    Ok(())
}

/// What is in a store, as its users see it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// By handler and id.
    states: BTreeMap<(String, String), State>,
    raw: BTreeSet<String>,
}

impl Found {
    async fn in_store(queue: &SledQueue) -> Result<Self, String> {
        let mut found = Self { states: BTreeMap::new(), raw: BTreeSet::new() };
        let census = queue.census().await.map_err(|error| error.to_string())?;
        let mut held: Vec<Delivery<Receipt>> = Vec::new();
        for handler in &census.handlers {
            for _ in 0..handler.pending + handler.retrying {
                let taken = queue.take(&handler.name).await.map_err(|error| error.to_string())?;
                let id = right(&taken.stored.event)?;
                found.put(handler.name.as_str(), id, State::Waiting(taken.attempt))?;
                held.push(taken);
            }
        }
        for letter in queue.dead_letters(None, ALL).await.map_err(|error| error.to_string())? {
            match letter.letter {
                Letter::Event(stored) => {
                    let name = letter.id.to_string();
                    let handler = name.split(':').next().unwrap_or_default();
                    found.put(handler, right(&stored.event)?, State::Dead(letter.attempts))?;
                }
                Letter::Raw(push) => {
                    let body = String::from_utf8_lossy(&push.body);
                    let name = body.get(..body.len() / 50).unwrap_or_default().to_owned();
                    if push != raw(&name) {
                        return Err(format!("another push than {name}"));
                    }
                    found.raw.insert(name);
                }
            }
        }
        Ok(found)
    }

    fn put(&mut self, handler: &str, id: String, state: State) -> Result<(), String> {
        let key = (handler.to_owned(), id);
        match self.states.insert(key.clone(), state) {
            None => Ok(()),
            Some(other) => Err(format!("{key:?} is {state:?} and {other:?} at once")),
        }
    }

    fn compare(&self, expected: &Expected) -> Result<(), String> {
        let mut wrong = Vec::new();
        for id in &expected.stored {
            for handler in HANDLERS {
                let key = (handler.to_owned(), id.clone());
                let state = self.states.get(&key).copied().unwrap_or(State::Gone);
                let may_be = expected.may_be(handler, id);
                if !may_be.contains(&state) {
                    wrong.push(format!("{id} of {handler} is {state:?}, not one of {may_be:?}"));
                }
            }
        }
        let unknown = self.states.keys().filter(|(_, id)| !expected.asked.contains(id));
        wrong.extend(unknown.map(|(_, id)| format!("{id} was never sent")));
        let lost = expected.raw.difference(&self.raw);
        wrong.extend(lost.map(|name| format!("{name} is missing")));
        let unknown = self.raw.difference(&expected.raw_asked);
        wrong.extend(unknown.map(|name| format!("{name} was never sent")));
        match wrong.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} things are wrong: {first}", wrong.len())),
        }
    }
}

/// The event is what its id says.
fn right(found: &brevdue::event::Event) -> Result<String, String> {
    let id = found.attributes().id.clone();
    if *found == event(&id) { Ok(id) } else { Err(format!("another event than {id}")) }
}
