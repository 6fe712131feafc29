//! sled against the reference model: the same made-up history on both, and the same said of both
//! after each step. Histories that once failed are in `regressions.txt` and come first.

use std::time::Duration;

use brevdue::{
    event::Arrival,
    name::HandlerName,
    queue::{
        Census, DeadLetterId, Delivery, Page, Queue, QueueError, RawPush, ReplayFrom, Seq, StartAt,
        StoredEvent, Verdict,
        model::{ModelQueue, ModelReceipt},
        sled::{Receipt, SledQueue},
    },
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{FileFailurePersistence, TestRunner},
};
use tokio::runtime::{Builder, Runtime};

use crate::support::{ALL, Disk, Memory, Store, arrival, at, clock, failure, handler, try_take};

const HANDLERS: [&str; 3] = ["h", "i", "j"];

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Sent>),
    BuryRaw(u8),
    Take(usize),
    Settle(Index, Fate),
    Advance(u64),
    Reopen(Vec<bool>),
    Crash,
    Revive(Index),
    Discard(Index),
    Replay(usize, From),
    Pause(usize, bool),
    Forget(usize),
}

#[derive(Debug, Clone)]
enum From {
    Oldest,
    Seq(u8),
    /// So many milliseconds ago.
    Ago(u64),
}

/// An event by one of the hooks that can send it: often the same one again.
#[derive(Debug, Clone)]
struct Sent {
    id: u8,
    hook: Index,
    filling: usize,
}

#[derive(Debug, Clone)]
enum Fate {
    Done,
    Dropped,
    Retry(u64),
    Bury,
}

fn sent() -> impl Strategy<Value = Sent> {
    let filling = prop_oneof![8 => 0..200_usize, 1 => 20_000..60_000_usize];
    (0..40_u8, any::<Index>(), filling).prop_map(|(id, hook, filling)| Sent { id, hook, filling })
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        4 => Just(Fate::Done),
        1 => Just(Fate::Dropped),
        3 => (0..5_000_u64).prop_map(Fate::Retry),
        2 => Just(Fate::Bury),
    ];
    let from = prop_oneof![
        2 => Just(From::Oldest),
        2 => (0..40_u8).prop_map(From::Seq),
        1 => (0..8_000_u64).prop_map(From::Ago),
    ];
    prop_oneof![
        6 => vec(sent(), 0..5).prop_map(Step::Append),
        1 => (0_u8..4).prop_map(Step::BuryRaw),
        12 => (0..HANDLERS.len()).prop_map(Step::Take),
        10 => (any::<Index>(), fate).prop_map(|(which, fate)| Step::Settle(which, fate)),
        3 => (0..4_000_u64).prop_map(Step::Advance),
        1 => vec(prop::bool::weighted(0.8), HANDLERS.len()).prop_map(Step::Reopen),
        1 => Just(Step::Crash),
        2 => any::<Index>().prop_map(Step::Revive),
        1 => any::<Index>().prop_map(Step::Discard),
        3 => (0..HANDLERS.len(), from).prop_map(|(which, from)| Step::Replay(which, from)),
        1 => (0..HANDLERS.len(), any::<bool>()).prop_map(|(which, on)| Step::Pause(which, on)),
        1 => (0..HANDLERS.len()).prop_map(Step::Forget),
    ]
}

/// What a sender would send: plain hooks send what is theirs by its attributes (here: its id);
/// `s` and `t` send what is theirs for reasons of their own.
fn arrivals(sent: &[Sent]) -> Vec<Arrival> {
    sent.iter()
        .map(|Sent { id, hook, filling }| {
            let theirs: &[&str] = [&[][..], &["a"], &["a", "b"]][usize::from(id % 3)];
            let can_send = [theirs, &["s", "t"]].concat();
            let by = *hook.get(&can_send);
            let others = theirs.iter().copied().filter(|other| *other != by);
            let from: Vec<_> = [by].into_iter().chain(others).collect();
            arrival(&id.to_string(), &from, !theirs.contains(&by), *filling)
        })
        .collect()
}

/// One event as both gave it to one handler.
struct Held {
    handler: HandlerName,
    real: Delivery<Receipt>,
    model: Delivery<ModelReceipt>,
}

/// A store on disk and the model, at the same point of one history.
struct Pair {
    retain: bool,
    disk: Disk,
    memory: Memory,
    real: SledQueue,
    model: ModelQueue,
    held: Vec<Held>,
    letters: Vec<DeadLetterId>,
}

fn configured(which: &[bool]) -> Vec<(HandlerName, StartAt)> {
    let starts = [StartAt::Now, StartAt::Oldest, StartAt::Now];
    let all = HANDLERS.into_iter().zip(starts).zip(which);
    all.filter(|(_, here)| **here).map(|((name, start), _)| (handler(name), start)).collect()
}

/// As far as both must agree: the store's own ids and bytes are its own, and so is which events
/// are in the log, unless it is to retain them all.
fn comparable(mut census: Census, retain: bool) -> Census {
    (census.live_bytes, census.dedup_ids) = (0, 0);
    if !retain {
        census.events = 0;
    }
    census
}

fn seen<R>(delivery: &Delivery<R>) -> (StoredEvent, u32, u64) {
    (StoredEvent::clone(&delivery.stored), delivery.attempt, delivery.since.as_millis())
}

impl Pair {
    async fn new(retain: bool) -> Self {
        let clock = clock();
        let (mut disk, mut memory) = (Disk::new(clock.clone(), retain), Memory::new(clock));
        let handlers = configured(&[true, true, !retain]);
        let (real, model) = (disk.open(&handlers).await, memory.open(&handlers).await);
        Self { retain, disk, memory, real, model, held: Vec::new(), letters: Vec::new() }
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Append(sent) => {
                let arrivals = arrivals(sent);
                let real = self.real.append(arrivals.clone()).await;
                prop_assert_eq!(real, self.model.append(arrivals).await);
            }
            Step::BuryRaw(byte) => {
                let body = vec![*byte].into();
                let media_type = "text/plain".to_owned();
                let push = RawPush { hook: "a".parse().unwrap(), media_type, body };
                let real = self.real.bury_raw(push.clone(), failure("raw")).await;
                prop_assert_eq!(real, self.model.bury_raw(push, failure("raw")).await);
            }
            Step::Take(which) => self.take(&handler(HANDLERS[*which])).await?,
            Step::Settle(which, fate) => self.settle(which, fate).await?,
            Step::Advance(ms) => self.disk.clock().advance(Duration::from_millis(*ms)),
            Step::Reopen(which) => self.reopen(which).await,
            Step::Crash => self.crash().await?,
            Step::Revive(which) => {
                let id = self.letter(*which);
                prop_assert_eq!(self.real.revive(&id).await, self.model.revive(&id).await);
            }
            Step::Discard(which) => {
                let id = self.letter(*which);
                prop_assert_eq!(self.real.discard(&id).await, self.model.discard(&id).await);
            }
            Step::Replay(which, from) => self.replay(&handler(HANDLERS[*which]), from).await?,
            Step::Pause(which, paused) => {
                let name = handler(HANDLERS[*which]);
                let real = self.real.pause(&name, *paused).await;
                prop_assert_eq!(real, self.model.pause(&name, *paused).await);
            }
            Step::Forget(which) => {
                let name = handler(HANDLERS[*which]);
                prop_assert_eq!(self.real.forget(&name).await, self.model.forget(&name).await);
            }
        }
        self.compare().await
    }

    async fn take(&mut self, name: &HandlerName) -> Result<(), TestCaseError> {
        let known = self.model.census().await.unwrap().handlers;
        if !known.iter().any(|at| at.name == *name && at.configured) {
            prop_assert_eq!(self.real.take(name).await.unwrap_err(), QueueError::NotFound);
            return Ok(());
        }
        let (real, model) = (try_take(&self.real, name).await, try_take(&self.model, name).await);
        prop_assert_eq!(real.as_ref().map(seen), model.as_ref().map(seen));
        let both = real.zip(model).map(|(real, model)| Held { handler: name.clone(), real, model });
        self.held.extend(both);
        Ok(())
    }

    async fn settle(&mut self, which: &Index, fate: &Fate) -> Result<(), TestCaseError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = self.held.swap_remove(which.index(self.held.len()));
        let verdict = match fate {
            Fate::Dropped => return Ok(()),
            Fate::Done => Verdict::Done,
            Fate::Retry(ms) => Verdict::RetryAfter(Duration::from_millis(*ms), failure("again")),
            Fate::Bury => {
                self.letters.push(DeadLetterId::Delivery(held.handler, held.real.stored.seq));
                Verdict::Bury(failure("given up"))
            }
        };
        let real = self.real.settle(held.real.receipt, verdict.clone()).await;
        prop_assert_eq!(real, self.model.settle(held.model.receipt, verdict).await);
        Ok(())
    }

    async fn replay(&mut self, name: &HandlerName, from: &From) -> Result<(), TestCaseError> {
        let number = |number: &u8| number.to_string().parse::<Seq>().unwrap();
        let from = match from {
            From::Seq(seq) => ReplayFrom::Seq(number(seq)),
            // The model does not know what is still in the log.
            From::Oldest | From::Ago(_) if !self.retain => ReplayFrom::Seq(number(&0)),
            From::Oldest => ReplayFrom::Oldest,
            From::Ago(ms) => {
                ReplayFrom::Time(self.disk.clock().now().before(Duration::from_millis(*ms)))
            }
        };
        let real = self.real.replay(name, from).await;
        let from = match from {
            ReplayFrom::Seq(seq) if !self.retain && real.is_ok() => {
                // The log is held from there on now, or from where it began.
                let first = self.real.events(Page { limit: 1, newest: false }).await.unwrap();
                let Some(first) = first.first() else {
                    prop_assert_eq!(real, Ok(0));
                    return Ok(());
                };
                ReplayFrom::Seq(seq.max(first.seq))
            }
            ReplayFrom::Oldest | ReplayFrom::Seq(_) | ReplayFrom::Time(_) => from,
        };
        prop_assert_eq!(real, self.model.replay(name, from).await);
        Ok(())
    }

    /// A dead letter that there is, was, or never was.
    fn letter(&self, which: Index) -> DeadLetterId {
        let mut ids = self.letters.clone();
        ids.extend((1..4).map(DeadLetterId::Raw));
        which.get(&ids).clone()
    }

    /// The handlers from now on. What is not retained goes when one leaves: then none does.
    fn handlers(&self, which: &[bool]) -> Vec<(HandlerName, StartAt)> {
        let all = [true; HANDLERS.len()];
        configured(if self.retain { which } else { &all })
    }

    async fn reopen(&mut self, which: &[bool]) {
        let handlers = self.handlers(which);
        self.held.clear();
        self.real.close().await.unwrap();
        self.real = self.disk.open(&handlers).await;
        self.model = self.memory.open(&handlers).await;
    }

    /// All that comes back must have been done since the last start, and comes as it first came.
    /// With all handlers, so that it shows.
    async fn crash(&mut self) -> Result<(), TestCaseError> {
        let handlers = configured(&[true; HANDLERS.len()]);
        let mut crashed = self.disk.crashed();
        self.held.clear();
        self.real.close().await.unwrap();
        let report = crashed.verified().await;
        prop_assert!(report.whole, "{report:?}");
        self.real = crashed.open(&handlers).await;
        self.disk = crashed;
        let whole = self.model.reopened(&handlers);
        let mut forgotten = Vec::new();
        for (name, _) in &handlers {
            let paused = at(&whole, name).await.paused;
            prop_assert_eq!(at(&self.real, name).await.paused, paused);
            self.real.pause(name, false).await.unwrap();
            whole.pause(name, false).await.unwrap();
            let real = all(&self.real, name).await;
            let model = all(&whole, name).await;
            let gone: Vec<_> = model.iter().filter(|seq| !real.contains(seq)).collect();
            prop_assert!(gone.is_empty(), "{name} lost {gone:?}");
            let back = real.into_iter().filter(|seq| !model.contains(seq));
            forgotten.extend(back.map(|seq| (name.clone(), seq)));
            self.real.pause(name, paused).await.unwrap();
        }
        let model = self.model.crashed(&handlers, &forgotten);
        prop_assert!(model.is_some(), "came again, but was not just done: {forgotten:?}");
        self.model = model.unwrap();
        self.memory.is_now(&self.model);
        Ok(())
    }

    async fn compare(&mut self) -> Result<(), TestCaseError> {
        let (real, model) = (self.real.census().await.unwrap(), self.model.census().await.unwrap());
        prop_assert_eq!(comparable(real, self.retain), comparable(model, self.retain));
        let letters = self.model.dead_letters(None, ALL).await;
        prop_assert_eq!(self.real.dead_letters(None, ALL).await, letters);
        if self.retain {
            prop_assert_eq!(self.real.events(ALL).await, self.model.events(ALL).await);
        }
        Ok(())
    }
}

/// What can be taken now; all of it is given back.
async fn all<Q: Queue>(queue: &Q, name: &HandlerName) -> Vec<Seq> {
    let mut taken = Vec::new();
    while let Some(delivery) = try_take(queue, name).await {
        taken.push(delivery);
    }
    taken.iter().map(|delivery| delivery.stored.seq).collect()
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn sled_does_what_the_model_does_where_events_are_retained() {
    compare(true);
}

#[test]
fn sled_does_what_the_model_does_where_events_go_when_all_have_them() {
    compare(false);
}

fn compare(retain: bool) {
    let long = std::env::var("BREVDUE_TESTS").is_ok_and(|value| value == "long");
    let regressions = FileFailurePersistence::Direct("tests/model/regressions.txt");
    let config = ProptestConfig {
        cases: if long { 3_000 } else { 120 },
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(regressions)),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let runtime = runtime();
    TestRunner::new(config)
        .run(&vec(step(), 1..60), |steps| {
            runtime.block_on(async {
                let mut pair = Pair::new(retain).await;
                for step in &steps {
                    pair.step(step).await?;
                }
                pair.held.clear();
                pair.real.close().await.unwrap();
                Ok(())
            })
        })
        .unwrap();
}
