//! What this store has seen and asked of its subscriptions at Altinn, so that restarts keep it.
//!
//! Altinn says neither when a subscription was validated nor which store asked for it, and a
//! replaced one may go only some time after its replacement was validated. Owns what is remembered
//! and for how long; keeping it is `history_file`'s. A code is kept as a digest only. Losing it does
//! no harm: overlaps begin again, and what is not known to be ours to remove is only reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{api::SubscriptionId, ownership::OwnRow};
use crate::{clock::Timestamp, name::HookName, secret::Digest};

/// A hook is answered for so long after Altinn has no subscription with it any more: an event that
/// was fanned out before is pushed for up to 46 h 47 min.
pub const STILL_ACCEPTED: Duration = Duration::from_secs(48 * 3600);

/// A secret that a hook of this store accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCode {
    /// The hook.
    pub name: HookName,
    /// Which.
    pub code: Digest,
    /// Whether it is the one that new subscriptions get.
    pub current: bool,
}

/// One hook with one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hook {
    name: HookName,
    code: Digest,
    /// Whether this store has asked Altinn for a subscription with it.
    #[serde(default)]
    asked: bool,
    /// Since when it is not current, and Altinn has nothing with it.
    #[serde(default)]
    gone: Option<Timestamp>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    pub(super) hooks: Vec<Hook>,
    /// When a row was first seen validated.
    pub(super) validated: BTreeMap<SubscriptionId, Timestamp>,
}

impl History {
    /// Takes over what a list says, and forgets what is over.
    pub(super) fn observe(&mut self, held: &[HookCode], ours: &[OwnRow<'_>], now: Timestamp) {
        for held in held {
            if self.find(held.name.as_str(), &held.code).is_none() {
                let (name, code) = (held.name.clone(), held.code.clone());
                self.hooks.push(Hook { name, code, asked: false, gone: None });
            }
        }
        for hook in &mut self.hooks {
            let current = held
                .iter()
                .any(|held| held.current && held.name == hook.name && held.code == hook.code);
            let there = ours
                .iter()
                .any(|row| row.name == hook.name.as_str() && row.code.as_ref() == Some(&hook.code));
            hook.gone =
                if current || there { None } else { Some(hook.gone.map_or(now, |at| at.min(now))) };
        }
        let over = |gone: Timestamp| now.since(gone) >= STILL_ACCEPTED;
        self.hooks.retain(|hook| !hook.gone.is_some_and(over));
        let seen: BTreeSet<_> =
            ours.iter().filter(|row| row.row.validated).map(|row| row.row.id).collect();
        self.validated.retain(|id, _| seen.contains(id));
        for id in seen {
            let at = self.validated.entry(id).or_insert(now);
            // The clock may have been wrong, and is set right since.
            *at = now.min(*at);
        }
    }

    fn find(&self, name: &str, code: &Digest) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.name.as_str() == name && hook.code == *code)
    }

    /// Notes, before it is done, that a subscription is asked for.
    pub(super) fn asks(&mut self, name: &HookName, code: &Digest) {
        let known = self.hooks.iter_mut().find(|hook| hook.name == *name && hook.code == *code);
        if let Some(hook) = known {
            hook.asked = true;
        }
    }

    /// Whether this store has asked for a subscription of this name with this code.
    pub(super) fn asked(&self, name: &str, code: &Digest) -> bool {
        self.find(name, code).is_some_and(|hook| hook.asked)
    }

    /// When a row was first seen validated.
    pub(super) fn validated(&self, id: SubscriptionId) -> Option<Timestamp> {
        self.validated.get(&id).copied()
    }

    /// Whether a hook is still answered with this code.
    pub fn remembers(&self, name: &HookName, code: &Digest) -> bool {
        self.find(name.as_str(), code).is_some()
    }

    /// Every hook with its codes that are still accepted.
    pub fn hooks(&self) -> BTreeMap<HookName, Vec<Digest>> {
        let mut hooks: BTreeMap<HookName, Vec<Digest>> = BTreeMap::new();
        for hook in &self.hooks {
            hooks.entry(hook.name.clone()).or_default().push(hook.code.clone());
        }
        hooks
    }
}

#[cfg(test)]
mod tests;
