//! The one thread that writes: it takes what waits, commits it with one sync, and answers then.
//!
//! Owns the mailbox, the size of a commit, and what happens after a failure: calls are refused, and
//! the store is opened anew with growing pauses. Whatever ends the thread is told to those who
//! watch it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{
    command::Command,
    commit::{Answer, Commit},
    engine::Engine,
    gather::gather,
    upkeep::{Forgetting, expire, upkeep},
};
#[cfg(test)]
use crate::queue::sled::tests::panics::Moment;
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
const RETRY_MAX: Duration = Duration::from_secs(15);
/// The longest first pause of a store that fails again soon after it healed.
const RELAPSE_MAX: Duration = Duration::from_secs(1);
/// A store that fails again sooner than this has not healed: the pauses go on growing.
const HEALED: Duration = Duration::from_secs(5);

/// The thread's own things.
struct Writer {
    engine: Engine,
    mailbox: mpsc::Receiver<Command>,
    /// A call that was taken out of the mailbox, and comes next.
    held: Option<Command>,
    runtime: Runtime,
    upkept: Instant,
    forgetting: Forgetting,
    /// Calls shared the last commit.
    crowded: bool,
    /// The last pause before the store was opened again, and when that was.
    healed: Option<(Duration, Instant)>,
    /// It is closed, and what its caller hears once all is let go.
    farewell: Option<(Answer<()>, Result<(), QueueError>)>,
}

/// Opens the store and starts the thread. Why it died is told to the receiver, should it end by
/// itself; if it was told to end, its sender is dropped.
pub(crate) fn start(
    shared: Arc<Shared>,
    mailbox: mpsc::Receiver<Command>,
) -> Result<watch::Receiver<Option<String>>, Error> {
    let engine = Engine::claim(Arc::clone(&shared))?;
    let limit = directory::patience(engine.directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let writer = Writer {
        engine,
        mailbox,
        held: None,
        runtime,
        upkept: Instant::now(),
        forgetting: Forgetting::new(),
        crowded: false,
        healed: None,
        farewell: None,
    };
    let (tell, death) = watch::channel(None);
    let (opened, hear) = sync_channel(1);
    // On its own thread, because sled can hang on files that are damaged, or for want of files.
    thread::Builder::new().name("store-writer".into()).spawn(move || {
        let mut writer = writer;
        let lived = catch_unwind(AssertUnwindSafe(|| writer.live(&opened)));
        let farewell = writer.farewell.take();
        // After a panic has ended, not while it unwinds: sled's own drop panics when its last sync
        // fails, and two panics at once end the process. The directory is free before anyone hears that the store is closed, or could not be opened.
        // Calls that still wait in the mailbox see that it is gone.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(writer)));
        match lived.and_then(|lived| dropped.map(|()| lived)) {
            Ok(lived) => drop(lived.map_err(|error| opened.try_send(Err(error)))),
            Err(panic) => {
                let why = format!("the store's thread ended: {}", words(&*panic));
                shared.state().failing = Some(why.clone());
                shared.metrics.store_writable.set(0);
                // If it was still being opened.
                drop(opened.try_send(Err(Error::Panicked(why.clone()))));
                tell.send_replace(Some(why));
            }
        }
        if let Some((answer, result)) = farewell {
            drop(answer.send(result));
        }
    })?;
    hear.recv_timeout(limit).unwrap_or(Err(Error::Stuck(limit.as_secs())))?;
    Ok(death)
}

/// A panic is an error.
fn caught(call: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let result = catch_unwind(AssertUnwindSafe(call));
    result.unwrap_or_else(|panic| Err(Error::other(format!("it panicked: {}", words(&*panic)))))
}

impl Writer {
    /// Errs if the store cannot be opened.
    fn live(&mut self, opened: &SyncSender<Result<(), Error>>) -> Result<(), Error> {
        self.open().inspect_err(|_| self.engine.let_go())?;
        // Nobody waits any more if it took too long: then it is let go again.
        if opened.send(Ok(())).is_ok() {
            while self.farewell.is_none() {
                self.turn();
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Error> {
        self.engine.open()?;
        self.upkeep()?;
        self.engine.ready();
        Ok(())
    }

    /// Does what is next; after a failure opens the store anew.
    fn turn(&mut self) {
        let next = self.next();
        let result = caught(|| self.step(next));
        let why = match result {
            Err(error) => error.to_string(),
            Ok(()) if self.engine.shared.state().broken => "a read failed".to_owned(),
            Ok(()) => return,
        };
        if self.farewell.is_none() {
            self.engine.fail(&why);
            self.heal();
        }
    }

    /// The next call; `None` if it is time for upkeep.
    fn next(&mut self) -> Option<Command> {
        loop {
            #[cfg(test)]
            self.engine.shared.meet_panic(Moment::Between);
            let (broken, unwritten) = {
                let state = self.engine.shared.state();
                (state.broken, state.unwritten())
            };
            if broken {
                return None;
            }
            if let Some(command) = self.held.take() {
                return Some(command);
            }
            let due = self.upkept + if unwritten == 0 { IDLE } else { UPKEEP };
            let engine = &self.engine;
            if engine.more || engine.tidy_due || unwritten >= MANY || Instant::now() >= due {
                return None;
            }
            if let Some(command) = self.wait(due) {
                return Some(command);
            }
        }
    }

    /// The next call, or none when there may be something else to do.
    fn wait(&mut self, until: Instant) -> Option<Command> {
        let (mailbox, shared) = (&mut self.mailbox, &self.engine.shared);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                command = mailbox.recv() => Some(command.unwrap_or_else(nobody_is_left)),
                () = shared.wake_writer.notified() => None,
                () = tokio::time::sleep_until(until) => None,
            }
        })
    }

    fn step(&mut self, next: Option<Command>) -> Result<(), Error> {
        #[cfg(test)]
        self.engine.shared.meet_panic(Moment::Step);
        if next.is_none() {
            return self.upkeep();
        }
        // Held, it is refused with the reason should the beginning of its commit fail.
        self.held = next;
        self.commit()
    }

    /// Commits the call that is held and what else waits.
    fn commit(&mut self) -> Result<(), Error> {
        expire(&mut self.engine)?;
        // A sender alone never waits: the writer gives way only when calls came together.
        if self.crowded || !self.mailbox.is_empty() {
            gather(COMMIT_LEN, || self.mailbox.len());
        }
        self.engine.look_for_room();
        let full = self.engine.shared.state().full;
        let mut commit = Commit::new(&self.engine.shared);
        for taken in 0..COMMIT_LEN {
            let next = self.held.take().or_else(|| self.mailbox.try_recv().ok());
            let Some(command) = next else { break };
            let alone = command.is_alone();
            if alone && taken > 0 {
                self.held = Some(command);
                break;
            }
            match (command, full) {
                (command, Some(why)) if command.needs_room() => {
                    command.refuse(QueueError::Full(why));
                }
                (Command::Call(_, decide), _) => decide(Ok((&mut commit, &self.engine))),
                (Command::Forget(handler, answer), _) => self.forget(handler, answer),
                (Command::Close(answer), _) => self.close(answer),
            }
            if alone || commit.len() >= COMMIT_LEN || commit.bytes >= COMMIT_BYTES {
                break;
            }
        }
        self.crowded = commit.calls() > 1;
        self.engine.write(commit)
    }

    /// A handler that is not configured is to be forgotten; upkeep does it.
    fn forget(&mut self, handler: HandlerName, answer: Answer<()>) {
        let refused = match self.engine.shared.state().handlers.get(&handler) {
            None => QueueError::NotFound,
            Some(of) if of.configured => QueueError::Configured,
            Some(_) => {
                self.forgetting.entry(handler).or_default().push(answer);
                self.engine.more = true;
                return;
            }
        };
        drop(answer.send(Err(refused)));
    }

    /// Everything that has become due for writing or deleting.
    fn upkeep(&mut self) -> Result<(), Error> {
        self.upkept = Instant::now();
        upkeep(&mut self.engine, &mut self.forgetting)?;
        if self.engine.more {
            // What waits is not held up by what takes many commits.
            self.held = self.held.take().or_else(|| self.mailbox.try_recv().ok());
        }
        Ok(())
    }

    /// Writes down what is settled, gives sled everything, and lets go.
    fn close(&mut self, answer: Answer<()>) {
        self.mailbox.close();
        let result = caught(|| self.end()).map_err(|error| {
            tracing::warn!(%error, "the store could not write down its last settled deliveries");
            QueueError::Unavailable(error.to_string())
        });
        self.leave(answer, result);
    }

    fn end(&mut self) -> Result<(), Error> {
        self.upkeep()?;
        while self.engine.more {
            self.upkeep()?;
        }
        self.engine.tidy_due = true;
        self.upkeep()?;
        self.engine.note(true)?;
        self.engine.checkpoint()
    }

    /// The store is closed, whatever could be written down.
    fn leave(&mut self, answer: Answer<()>, result: Result<(), QueueError>) {
        {
            let mut state = self.engine.shared.state();
            state.closed = true;
            state.wake_all();
        }
        self.engine.shared.metrics.store_writable.set(0);
        self.engine.let_go();
        self.farewell = Some((answer, result));
    }

    /// Opens the store anew with growing pauses, in which calls are refused, unless it is closed
    /// meanwhile.
    fn heal(&mut self) {
        for answer in std::mem::take(&mut self.forgetting).into_values().flatten() {
            drop(answer.send(Err(QueueError::Unavailable("it failed".into()))));
        }
        let mut pause = match self.healed {
            Some((pause, at)) if at.elapsed() < HEALED => (pause * 2).min(RELAPSE_MAX),
            Some(_) | None => RETRY_FIRST,
        };
        loop {
            self.refuse_for(pause);
            if self.farewell.is_some() {
                return;
            }
            let Err(error) = caught(|| self.open()) else { break };
            self.engine.fail(&error.to_string());
            pause = (pause * 2).min(RETRY_MAX);
        }
        self.healed = Some((pause, Instant::now()));
        tracing::info!("the store works again");
    }

    fn refuse_for(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        let why = self.engine.shared.state().failing.clone().unwrap_or_default();
        let refusal = QueueError::Unavailable(why);
        loop {
            let held = self.held.take();
            let next = async { if held.is_some() { held } else { self.mailbox.recv().await } };
            let next = self.runtime.block_on(async { timeout_at(until, next).await });
            let Ok(next) = next else { return };
            let command = next.unwrap_or_else(nobody_is_left);
            if let Command::Close(answer) = command {
                return self.leave(answer, Err(refusal));
            }
            command.refuse(refusal.clone());
        }
    }
}

/// With the last clone of the queue the store ends, too.
fn nobody_is_left() -> Command {
    Command::Close(oneshot::channel().0)
}
