//! Whether the kernel gives this process large pages where they are asked for.
//!
//! That is one switch for the whole process, and a child begins with its parent's. So it is turned
//! here only, and counted. It is off as long as nobody has a [`LargePages`].

use std::sync::{Mutex, PoisonError};

use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// Leave to use large pages, as long as it lives.
#[derive(Debug)]
pub struct LargePages(());

#[derive(Debug)]
struct Switch {
    holders: usize,
    /// They were off when the process began: then they stay off.
    denied: Option<bool>,
}

static SWITCH: Mutex<Switch> = Mutex::new(Switch { holders: 0, denied: None });

impl LargePages {
    /// Large pages are given from now on.
    #[must_use]
    pub fn allow() -> Self {
        let mut switch = SWITCH.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = || transparent_huge_pages_are_disabled().unwrap_or(true);
        let denied = *switch.denied.get_or_insert_with(begun);
        switch.holders += 1;
        if switch.holders == 1 && !denied {
            disable(false);
        }
        Self(())
    }
}

impl Drop for LargePages {
    fn drop(&mut self) {
        let mut switch = SWITCH.lock().unwrap_or_else(PoisonError::into_inner);
        switch.holders -= 1;
        if switch.holders == 0 && switch.denied == Some(false) {
            disable(true);
        }
    }
}

/// Where this may not be done, nothing is lost but time or memory.
fn disable(disable: bool) {
    if let Err(error) = disable_transparent_huge_pages(disable) {
        tracing::debug!(%error, "large pages are as the system has them");
    }
}
