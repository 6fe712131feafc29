//! What the writer does after an error: it lets go of the database and opens it anew.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{op::Op, writer::Writer};
use crate::queue::{Health, QueueError};

/// Between attempts.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Writer {
    /// The store is closed, whatever could be written down.
    pub(super) fn leave(&mut self) {
        {
            let mut state = self.shared.state();
            state.closed = true;
            state.wake_all();
        }
        self.shared.metrics.store_writable.set(0);
        self.drop_db();
    }

    /// Lets go of the database; waits for reads under way.
    fn drop_db(&mut self) {
        self.shared.set_db(None);
        (self.db, self.journal) = (None, None);
    }

    /// From here on nothing is written until it was reopened.
    pub(super) fn fail(&mut self, why: &str) {
        tracing::error!(%why, "the store does not work; it is being reopened");
        self.shared.state().health = Health::Failing(why.to_owned());
        self.shared.metrics.store_writable.set(0);
        self.drop_db();
    }

    /// Reopens with growing pauses, in which calls are refused. True when it was closed meanwhile.
    pub(super) fn heal(&mut self) -> bool {
        let mut pause = RETRY_FIRST;
        loop {
            if self.refuse_for(pause) {
                return true;
            }
            self.room.make(&self.shared.options.directory);
            match self.reopen() {
                Ok(()) => {
                    tracing::info!("the store works again");
                    return false;
                }
                Err(error) => {
                    self.room.disk_full |= error.is_full();
                    self.fail(&error.to_string());
                }
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn refuse_for(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let why = match &self.shared.state().health {
            Health::Failing(why) => why.clone(),
            Health::Writable | Health::Full(_) | Health::Damaged(_) => String::new(),
        };
        if let Some(op) = self.held.take() {
            op.refuse(QueueError::Unavailable(why.clone()));
        }
        loop {
            let mailbox = &mut self.mailbox;
            match self.runtime.block_on(async { timeout_at(until, mailbox.recv()).await }) {
                Err(_) => return false,
                Ok(Some(op)) => {
                    let closing = matches!(op, Op::Close { .. });
                    op.refuse(QueueError::Unavailable(why.clone()));
                    if closing {
                        drop(self.end());
                        return true;
                    }
                }
                Ok(None) => {
                    drop(self.end());
                    return true;
                }
            }
        }
    }
}
