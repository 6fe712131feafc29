//! The one thread that writes: it takes what waits, commits it with one sync, and answers then.
//!
//! Owns the mailbox, the size of a commit, and what happens after a failure: calls are refused, and
//! the store is opened anew with growing pauses. Whatever ends the thread is told to those who
//! watch it.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use super::{
    command::{Answer, Command},
    commit::Commit,
    engine::{Broken, Engine},
    gather::gather,
    upkeep::{expire, upkeep},
};
#[cfg(test)]
use crate::queue::sled::shared::panics::Moment;
use crate::{
    name::HandlerName,
    queue::{QueueError, sled::shared::Shared},
    store::{Error, directory, disk::words},
};

/// A commit is not made larger than this by what waits.
const COMMIT_LEN: usize = 256;
const COMMIT_BYTES: usize = 256 * 1024;
/// Settled marks are written down this often.
const UPKEEP: Duration = Duration::from_millis(150);
/// At the latest then the writer looks whether something has become old.
const IDLE: Duration = Duration::from_secs(1);
/// Settled marks of one handler at which they are written down at once.
pub(crate) const MANY: usize = 1000;
/// Between attempts to open a store that failed.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest first pause of a store that fails again soon after it healed.
const RELAPSE_MAX: Duration = Duration::from_secs(1);
/// A store that fails again sooner than this has not healed: the pauses go on growing.
const HEALED: Duration = Duration::from_secs(5);

/// How the thread is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// It takes calls.
    Runs,
    /// It ended because it was told to.
    Closed,
    /// It ended by itself, and why.
    Died(String),
}

/// The thread's own things.
struct Writer {
    engine: Engine,
    mailbox: mpsc::Receiver<Command>,
    /// An operator's call that waits for a commit of its own.
    held: Option<Command>,
    runtime: Runtime,
    upkept: Instant,
    /// Handlers that are being forgotten, and whom to tell.
    forgotten: BTreeSet<HandlerName>,
    forgetting: Vec<(HandlerName, Answer<()>)>,
    /// Calls shared the last commit.
    crowded: bool,
    /// The last pause before the store was opened again, and when that was.
    healed: Option<(Duration, Instant)>,
    /// Told once all is let go.
    farewell: Option<(Answer<()>, Result<(), QueueError>)>,
}

enum Next {
    Command(Command),
    Upkeep,
    End,
}

/// Opens the store and starts the thread; how it is, from then on.
pub(crate) fn start(
    shared: Arc<Shared>,
    mailbox: mpsc::Receiver<Command>,
) -> Result<watch::Receiver<Life>, Error> {
    let engine = Engine::claim(shared)?;
    let limit = directory::patience(engine.directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let writer = Writer {
        engine,
        mailbox,
        held: None,
        runtime,
        upkept: Instant::now(),
        forgotten: BTreeSet::new(),
        forgetting: Vec::new(),
        crowded: false,
        healed: None,
        farewell: None,
    };
    let (tell, life) = watch::channel(Life::Runs);
    let (opened, hear) = sync_channel(1);
    // On its own thread, because sled can hang on files that are damaged, or for want of files.
    thread::Builder::new().name("store-writer".into()).spawn(move || {
        let shared = Arc::clone(&writer.engine.shared);
        let lived = catch_unwind(AssertUnwindSafe(|| live(writer, &opened)));
        if let Err(panic) = lived {
            let why = format!("the store's thread ended: {}", words(&*panic));
            shared.state().failing = Some(why.clone());
            shared.metrics.store_writable.set(0);
            tell.send_replace(Life::Died(why));
        } else {
            tell.send_replace(Life::Closed);
        }
    })?;
    hear.recv_timeout(limit).unwrap_or(Err(Error::Stuck(limit.as_secs())))?;
    Ok(life)
}

fn live(mut writer: Writer, opened: &std::sync::mpsc::SyncSender<Result<(), Error>>) {
    match writer.open() {
        // Nobody waits any more if it took too long: then it is let go again.
        Ok(()) => {
            if opened.send(Ok(())).is_ok() {
                writer.run();
            }
        }
        Err(error) => {
            writer.engine.let_go();
            // The directory is free before anyone hears that it could not be opened.
            drop(writer);
            drop(opened.send(Err(error)));
        }
    }
}

impl Writer {
    fn open(&mut self) -> Result<(), Error> {
        let opened = self
            .engine
            .open()
            .and_then(|()| self.upkeep().map_err(|Broken(why)| Error::other(why)));
        if opened.is_ok() {
            self.engine.ready();
        }
        opened
    }

    fn run(mut self) {
        self.serve();
        let farewell = self.farewell.take();
        // The directory is free before anyone hears that the store is closed. Calls that still
        // wait in the mailbox see that it is gone.
        drop(self);
        if let Some((answer, result)) = farewell {
            drop(answer.send(result));
        }
    }

    fn serve(&mut self) {
        loop {
            let next = self.next();
            let result = catch_unwind(AssertUnwindSafe(|| self.step(next)))
                .unwrap_or_else(|panic| Err(Broken(format!("it panicked: {}", words(&*panic)))));
            if self.engine.shared.state().closed {
                return;
            }
            match result {
                Ok(()) if self.engine.shared.is_broken() => self.engine.fail("a read failed"),
                Ok(()) => continue,
                Err(Broken(why)) => self.engine.fail(&why),
            }
            if self.heal() {
                return;
            }
        }
    }

    fn step(&mut self, next: Next) -> Result<(), Broken> {
        #[cfg(test)]
        self.engine.shared.meet_panic(Moment::Step);
        match next {
            Next::Command(Command::Forget { handler, answer }) => {
                self.forget(handler, answer);
                Ok(())
            }
            Next::Command(command) => self.commit(command),
            Next::Upkeep => self.upkeep(),
            Next::End => self.end(),
        }
    }

    fn next(&mut self) -> Next {
        loop {
            #[cfg(test)]
            self.engine.shared.meet_panic(Moment::Between);
            if self.engine.shared.is_broken() {
                return Next::Upkeep;
            }
            if let Some(command) = self.held.take() {
                return Next::Command(command);
            }
            let unwritten = self.engine.shared.state().unwritten();
            let due = self.upkept + if unwritten == 0 { IDLE } else { UPKEEP };
            let engine = &self.engine;
            if engine.more || engine.tidy_due || unwritten >= MANY || Instant::now() >= due {
                return Next::Upkeep;
            }
            if let Some(next) = self.wait(due) {
                return next;
            }
        }
    }

    /// The next call, or none when there may be something else to do.
    fn wait(&mut self, until: Instant) -> Option<Next> {
        let (mailbox, shared) = (&mut self.mailbox, &self.engine.shared);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                command = mailbox.recv() => Some(command.map_or(Next::End, Next::Command)),
                () = shared.wake_writer.notified() => None,
                () = tokio::time::sleep_until(until) => None,
            }
        })
    }

    /// Commits this call and what else waits, and closes if one of them says so.
    fn commit(&mut self, first: Command) -> Result<(), Broken> {
        let ready = expire(&mut self.engine).and_then(|()| self.engine.view().cloned());
        let view = match ready {
            Ok(view) => view,
            Err(broken) => {
                first.refuse(QueueError::Unavailable(broken.0.clone()));
                return Err(broken);
            }
        };
        // A sender alone never waits: the writer gives way only when calls came together.
        if self.crowded || !self.mailbox.is_empty() {
            gather(COMMIT_LEN, || self.mailbox.len());
        }
        let mut commit = Commit::new(&self.engine.shared);
        let mut closing = None;
        let mut next = Some(first);
        while let Some(command) = next.take() {
            let alone = matches!(command, Command::Operate(_) | Command::Forget { .. });
            if alone && commit.len() > 0 {
                self.held = Some(command);
                break;
            }
            match command {
                Command::Close { answer } => {
                    closing = Some(answer);
                    break;
                }
                Command::Append { .. } | Command::BuryRaw { .. } => {
                    self.admit(&mut commit, command);
                }
                Command::Settle { receipt, verdict, answer } => {
                    commit.settle(&self.engine.shared, receipt, verdict, answer);
                }
                Command::Operate(operation) => {
                    commit.operate(&self.engine.shared, &view, operation);
                }
                Command::Forget { handler, answer } => self.forget(handler, answer),
            }
            if !alone && commit.len() < COMMIT_LEN && commit.bytes < COMMIT_BYTES {
                next = self.mailbox.try_recv().ok();
            }
        }
        drop(view);
        self.crowded = commit.answers.len() > 1;
        let written = self.engine.write(commit);
        if let Some(answer) = closing {
            let result = written.and_then(|()| self.end());
            self.leave();
            let result = result.map_err(|Broken(why)| QueueError::Unavailable(why));
            self.farewell = Some((answer, result));
            return Ok(());
        }
        written
    }

    /// What needs room goes in only while there is some.
    fn admit(&mut self, commit: &mut Commit, command: Command) {
        self.engine.look_for_room();
        let full = self.engine.shared.state().full;
        if let Some(why) = full {
            command.refuse(QueueError::Full(why));
            return;
        }
        match command {
            Command::Append { arrivals, bookmark, answer, room } => {
                commit.append(&self.engine.dedup, arrivals, bookmark, answer);
                drop(room);
            }
            Command::BuryRaw { push, failure, answer, room } => {
                commit.bury_raw(push, failure, answer);
                drop(room);
            }
            Command::Settle { .. }
            | Command::Operate(_)
            | Command::Forget { .. }
            | Command::Close { .. } => {}
        }
    }

    /// A handler that is not configured is to be forgotten; upkeep does it.
    fn forget(&mut self, handler: HandlerName, answer: Answer<()>) {
        let refused = match self.engine.shared.state().handlers.get(&handler) {
            None => Some(QueueError::NotFound),
            Some(of) if of.configured => Some(QueueError::Configured),
            Some(_) => None,
        };
        if let Some(error) = refused {
            drop(answer.send(Err(error)));
            return;
        }
        self.forgotten.insert(handler.clone());
        self.forgetting.push((handler, answer));
        self.engine.more = true;
    }

    /// Everything that has become due for writing or deleting.
    fn upkeep(&mut self) -> Result<(), Broken> {
        self.upkept = Instant::now();
        upkeep(&mut self.engine, &mut self.forgotten)?;
        if self.engine.more {
            // What waits is not held up by what takes many commits.
            self.held = self.held.take().or_else(|| self.mailbox.try_recv().ok());
        }
        let done = |(name, _): &mut (HandlerName, Answer<()>)| !self.forgotten.contains(name);
        for (_, answer) in self.forgetting.extract_if(.., done) {
            drop(answer.send(Ok(())));
        }
        Ok(())
    }

    /// Writes down what is settled, and gives sled everything.
    fn end(&mut self) -> Result<(), Broken> {
        self.mailbox.close();
        let result = loop {
            match self.upkeep() {
                Ok(()) if self.engine.more => {}
                result => break result,
            }
        };
        self.engine.tidy_due = true;
        let result = result
            .and_then(|()| self.upkeep())
            .and_then(|()| self.engine.note(true))
            .and_then(|()| self.engine.checkpoint());
        self.leave();
        if let Err(Broken(why)) = &result {
            tracing::warn!(%why, "the store could not write down its last settled deliveries");
        }
        result
    }

    /// The store is closed, whatever could be written down.
    fn leave(&mut self) {
        {
            let mut state = self.engine.shared.state();
            state.closed = true;
            state.wake_all();
        }
        self.engine.shared.metrics.store_writable.set(0);
        self.engine.let_go();
    }

    /// Opens the store anew with growing pauses, in which calls are refused. True when it was closed
    /// meanwhile.
    fn heal(&mut self) -> bool {
        for (_, answer) in self.forgetting.drain(..) {
            drop(answer.send(Err(QueueError::Unavailable("it failed".into()))));
        }
        self.forgotten.clear();
        let mut pause = match self.healed {
            Some((pause, at)) if at.elapsed() < HEALED => (pause * 2).min(RELAPSE_MAX),
            Some(_) | None => RETRY_FIRST,
        };
        loop {
            if self.refuse_for(pause) {
                return true;
            }
            let opened = catch_unwind(AssertUnwindSafe(|| self.open()))
                .unwrap_or_else(|panic| Err(Error::Panicked(words(&*panic))));
            match opened {
                Ok(()) => {
                    self.healed = Some((pause, Instant::now()));
                    tracing::info!("the store works again");
                    return false;
                }
                Err(error) => self.engine.fail(&error.to_string()),
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn refuse_for(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let why = self.engine.shared.state().failing.clone().unwrap_or_default();
        if let Some(command) = self.held.take() {
            command.refuse(QueueError::Unavailable(why.clone()));
        }
        loop {
            let mailbox = &mut self.mailbox;
            match self.runtime.block_on(async { timeout_at(until, mailbox.recv()).await }) {
                Err(_) => return false,
                Ok(Some(command)) => {
                    let closing = matches!(command, Command::Close { .. });
                    command.refuse(QueueError::Unavailable(why.clone()));
                    if closing {
                        self.leave();
                        return true;
                    }
                }
                Ok(None) => {
                    self.leave();
                    return true;
                }
            }
        }
    }
}
