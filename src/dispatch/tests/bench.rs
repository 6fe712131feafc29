//! A dispatcher on a model queue, with a handler that does what a test has written down.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::sleep;

use super::{super::*, watched::Watched};
use crate::{
    backoff::Backoff,
    clock::Timestamp,
    config::Match,
    event::{Event, Origin},
    handler::Outcome,
    queue::{DeadLetter, Failure, HandlerCensus, Page, StartAt, model::ModelQueue},
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the scripted handler does with one attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Deliver,
    Fail(&'static str),
    Answer(&'static Failure),
    Reject,
    Panic,
    Hang,
    Take(Duration),
}

/// Does what is written for each event's id, attempt by attempt; delivers what is not written.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) script: Mutex<BTreeMap<String, VecDeque<Act>>>,
    pub(super) otherwise: Option<Act>,
    /// Id, attempt, and when.
    pub(super) tried: Mutex<Vec<(String, u32, Instant)>>,
    pub(super) keys: Mutex<Vec<String>>,
    pub(super) now: AtomicUsize,
    pub(super) most: AtomicUsize,
}

pub(super) struct Running<'a>(&'a Scripted);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Handler for Scripted {
    async fn deliver(&self, attempt: Attempt<'_>) -> Outcome {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let _running = Running(self);
        let id = attempt.stored.event.attributes().id.clone();
        self.keys.lock().unwrap().push(attempt.idempotency_key.to_owned());
        self.tried.lock().unwrap().push((id.clone(), attempt.number, Instant::now()));
        let act = self.script.lock().unwrap().get_mut(&id).and_then(VecDeque::pop_front);
        match act.or(self.otherwise).unwrap_or(Act::Deliver) {
            Act::Deliver => Outcome::Delivered,
            Act::Fail(reason) => Outcome::retry(reason),
            Act::Answer(failure) => Outcome::Retry { failure: failure.clone(), after: None },
            Act::Reject => {
                let failure = Failure { reason: "bad".into(), answer: None };
                Outcome::Rejected { failure }
            }
            Act::Panic => panic!("scripted"),
            Act::Hang => pending().await,
            Act::Take(time) => {
                sleep(time).await;
                Outcome::Delivered
            }
        }
    }
}

pub(super) struct Bench {
    pub(super) queue: ModelQueue,
    pub(super) handler: Arc<Scripted>,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    /// The dispatcher, and what makes the clock go with tokio's paused time.
    pub(super) tasks: JoinSet<Result<(), QueueError>>,
}

impl Bench {
    pub(super) fn new(concurrency: usize, matches: &Match, handler: Scripted) -> Self {
        Self::on(ModelQueue::clone, concurrency, matches, handler)
    }

    /// On a queue that is watched, and takes `reading` to find a delivery.
    pub(super) fn watched(
        concurrency: usize,
        handler: Scripted,
        reading: Duration,
    ) -> (Self, Watched) {
        let mut watched = None;
        let queue = |model: &ModelQueue| watched.insert(Watched::new(model, reading)).clone();
        let bench = Self::on(queue, concurrency, &Match::default(), handler);
        (bench, watched.unwrap())
    }

    fn on<Q: Queue>(
        queue_of: impl FnOnce(&ModelQueue) -> Q,
        concurrency: usize,
        matches: &Match,
        handler: Scripted,
    ) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        let name: HandlerName = "h".parse().unwrap();
        let queue = ModelQueue::new(&[(name.clone(), StartAt::Now)], clock.clone());
        let (handler, metrics) = (Arc::new(handler), Metrics::default());
        let backoff = Backoff::try_new(SECOND, MINUTE, 2.0).unwrap();
        let dispatcher = Dispatcher {
            name,
            queue: queue_of(&queue),
            handler: handler.clone(),
            filter: Filter::new(matches),
            limits: Limits {
                timeout: SECOND * 30,
                concurrency: concurrency.try_into().unwrap(),
                retry: Retry { backoff, give_up_after: MINUTE * 10 },
            },
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(dispatcher.run(stop.clone()));
        Self { queue, handler, metrics, clock, stop, tasks }
    }

    pub(super) fn scripted(concurrency: usize, script: &[(&str, &[Act])]) -> Self {
        let script = script.iter().map(|(id, acts)| ((*id).into(), acts.to_vec().into()));
        let script = Mutex::new(script.collect());
        Self::new(concurrency, &Match::default(), Scripted { script, ..Scripted::default() })
    }

    pub(super) async fn store(&self, ids: &[&str]) {
        let arrivals = ids.iter().map(|id| {
            let json = format!(r#"{{"id":"{id}","source":"/a","type":"t"}}"#);
            let event = Event::from_json(Bytes::from(json)).unwrap();
            Arrival { event, origin: Origin::Altinn, from: Vec::new(), only_by_hook: None }
        });
        self.queue.append(arrivals.collect()).await.unwrap();
    }

    /// Lets this much time pass, for tokio and for the clock.
    pub(super) async fn pass(&self, time: Duration) {
        self.pass_in_steps(time, Duration::from_millis(50)).await;
    }

    pub(super) async fn pass_in_steps(&self, time: Duration, step: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let step = step.min(end - Instant::now());
            sleep(step).await;
            self.clock.advance(step);
        }
        // What became due just now happens now.
        sleep(Duration::from_millis(1)).await;
    }

    /// Stores one event with personal things in it.
    pub(super) async fn store_personal(&self) {
        let json = r#"{"id":"1\nforged","source":"/a","type":"t","subject":"01017012345",
            "alternativesubject":"/person/01017012345","data":"body"}"#;
        let event = Event::from_json(Bytes::from(json)).unwrap();
        let (origin, from) = (Origin::Altinn, Vec::new());
        let arrival = Arrival { event, origin, from, only_by_hook: None };
        self.queue.append(vec![arrival]).await.unwrap();
    }

    /// Stops, and says how the dispatcher ended.
    pub(super) async fn stopped(mut self) -> Result<(), QueueError> {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap()
    }

    pub(super) fn tried(&self) -> Vec<(String, u32)> {
        let tried = self.handler.tried.lock().unwrap();
        tried.iter().map(|(id, attempt, _)| (id.clone(), *attempt)).collect()
    }

    pub(super) fn counted(&self, outcome: &'static str) -> u64 {
        let labels = OutcomeLabels { handler: "h".into(), outcome };
        self.metrics.attempts.get_or_create(&labels).get()
    }

    pub(super) fn in_flight(&self) -> i64 {
        let labels = HandlerLabels { handler: "h".into() };
        self.metrics.in_flight.get_or_create(&labels).get()
    }

    pub(super) async fn census(&self) -> HandlerCensus {
        self.queue.census().await.unwrap().handlers.remove(0)
    }

    pub(super) async fn letters(&self) -> Vec<DeadLetter> {
        self.queue.dead_letters(None, Page { limit: 10, newest: false }).await.unwrap()
    }
}

/// What a test logs.
#[derive(Clone, Default)]
pub(super) struct Written(pub(super) Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
