//! Panics of the writer outside of any call to the disk, for tests of what becomes of it.

use std::sync::PoisonError;

use crate::queue::sled::shared::Shared;

/// What the writer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue::sled) enum Moment {
    /// What it was asked for, or what is due.
    Step,
    /// It looks what is next.
    Between,
}

impl Shared {
    /// The next time that the writer does this, it panics.
    pub(super) fn put_panic_in_the_way(&self, moment: Moment) {
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(moment);
        self.wake_writer.notify_one();
    }

    pub(in crate::queue::sled) fn meet_panic(&self, moment: Moment) {
        let mut due = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        if due.take_if(|due| *due == moment).is_some() {
            drop(due);
            std::panic::resume_unwind(Box::new("a test"));
        }
    }
}
