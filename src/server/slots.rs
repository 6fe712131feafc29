//! Who holds the slots for connections, and who gives one up for a newcomer.
//!
//! Owns the shares and the choice: a connection that has proved nothing goes before one that has,
//! of the peer with the most of them the one that has been idle for longest. So a peer can displace
//! itself, and others only down to what it holds itself. Pure but for the tokens that tell a
//! connection; accepting and serving are elsewhere.

pub(super) mod turns;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use tokio_util::sync::CancellationToken;

use crate::network::Network;

/// Who is counted together; `None` for peers that have no share: proxies, and Unix sockets.
pub(super) type Holder = Option<Network>;

/// Names a connection while it has a slot.
pub(super) type Id = u64;

/// How a connection is told that another needs its slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// It has proved nothing: it ends at once.
    pub(super) gone: CancellationToken,
    /// It has, and is idle: it is ended as its protocol ends connections.
    pub(super) leaving: CancellationToken,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// The peer's share is all in use by requests of its own.
    Share,
    /// All slots are in use by requests.
    Full,
}

/// For whose sake a connection had to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eviction {
    /// Another one of the same peer: its share was used up.
    Share,
    /// Anyone: all slots were taken.
    Full,
}

/// A newcomer's slot, and whether another had to go for it.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) id: Id,
    pub(super) eviction: Option<Eviction>,
}

/// All slots.
#[derive(Debug)]
pub(super) struct Table {
    most: usize,
    slots: HashMap<Id, Slot>,
    groups: HashMap<Holder, Group>,
    /// The same groups, the one that has to give up an unproven connection last.
    unproven: BTreeSet<Weight>,
    /// The same for idle connections that have proved themselves.
    idle: BTreeSet<Weight>,
    /// Counts what happens; a smaller number is longer ago.
    moment: u64,
    ids: u64,
}

#[derive(Debug)]
struct Slot {
    holder: Holder,
    proven: bool,
    requests: usize,
    /// When it last did something.
    since: u64,
    told: Told,
}

/// What one holder has, by when it last did something.
#[derive(Debug, Default)]
struct Group {
    total: usize,
    unproven: BTreeMap<u64, Id>,
    idle: BTreeMap<u64, Id>,
}

/// How many, since when the longest idle one, whose.
type Weight = (usize, Reverse<u64>, Holder);

fn weight(holder: Holder, connections: &BTreeMap<u64, Id>) -> Option<Weight> {
    let (since, _) = connections.first_key_value()?;
    Some((connections.len(), Reverse(*since), holder))
}

impl Table {
    /// Nobody yet; `most` connections at the same time.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            slots: HashMap::new(),
            groups: HashMap::new(),
            unproven: BTreeSet::new(),
            idle: BTreeSet::new(),
            moment: 0,
            ids: 0,
        }
    }

    /// A slot for a newcomer, of which its holder may have `share`.
    pub(super) fn enter(
        &mut self,
        holder: Holder,
        share: usize,
        proven: bool,
        told: Told,
    ) -> Result<Entered, NoSlot> {
        let eviction = self.make_room(holder, share)?;
        self.ids += 1;
        let id = self.ids;
        let since = self.tick();
        self.add(id, Slot { holder, proven, requests: 0, since, told });
        Ok(Entered { id, eviction })
    }

    /// A connection turns out to be another peer's, which may have `share`.
    pub(super) fn belongs_to(
        &mut self,
        id: Id,
        holder: Holder,
        share: usize,
    ) -> Result<Option<Eviction>, NoSlot> {
        let Some(mut slot) = self.remove(id) else { return Ok(None) };
        let eviction = self.make_room(holder, share)?;
        slot.holder = holder;
        self.add(id, slot);
        Ok(eviction)
    }

    /// The connection has ended.
    pub(super) fn leave(&mut self, id: Id) {
        self.remove(id);
    }

    /// The connection got on: it shook hands, or a request began.
    pub(super) fn got_on(&mut self, id: Id) {
        self.change(id, |_| {});
    }

    /// A request on it was accepted.
    pub(super) fn prove(&mut self, id: Id) {
        self.change(id, |slot| slot.proven = true);
    }

    /// A request began.
    pub(super) fn began(&mut self, id: Id) {
        self.change(id, |slot| slot.requests += 1);
    }

    /// A request was answered. An unproven connection is idle for as long as before: an answer is
    /// nothing that the peer did.
    pub(super) fn ended(&mut self, id: Id) {
        let since = self.slots.get(&id).filter(|slot| !slot.proven).map(|slot| slot.since);
        self.change(id, |slot| {
            slot.requests = slot.requests.saturating_sub(1);
            slot.since = since.unwrap_or(slot.since);
        });
    }

    /// How many connections the holder of this one has; `None` if it has gone.
    pub(super) fn weight(&self, id: Id) -> Option<usize> {
        let holder = self.slots.get(&id)?.holder;
        self.groups.get(&holder).map(|group| group.total)
    }

    /// Tells a connection that has proved nothing to go, if there is one.
    pub(super) fn shed(&mut self) -> bool {
        let longest = self.unproven.last().and_then(|(_, _, holder)| self.longest(*holder).0);
        longest.is_some_and(|id| self.evict(id))
    }

    fn make_room(&mut self, holder: Holder, share: usize) -> Result<Option<Eviction>, NoSlot> {
        if holder.is_some() && self.groups.get(&holder).is_some_and(|group| group.total >= share) {
            let (unproven, idle) = self.longest(holder);
            let evicted = unproven.or(idle).is_some_and(|id| self.evict(id));
            return if evicted { Ok(Some(Eviction::Share)) } else { Err(NoSlot::Share) };
        }
        if self.slots.len() < self.most {
            return Ok(None);
        }
        let heaviest = |weights: &BTreeSet<Weight>| weights.last().map(|(_, _, holder)| *holder);
        let unproven = heaviest(&self.unproven).and_then(|holder| self.longest(holder).0);
        let idle = || heaviest(&self.idle).and_then(|holder| self.longest(holder).1);
        let evicted = unproven.or_else(idle).is_some_and(|id| self.evict(id));
        if evicted { Ok(Some(Eviction::Full)) } else { Err(NoSlot::Full) }
    }

    /// The holder's longest idle connections: unproven, and proven without a request.
    fn longest(&self, holder: Holder) -> (Option<Id>, Option<Id>) {
        let Some(group) = self.groups.get(&holder) else { return (None, None) };
        let first = |connections: &BTreeMap<u64, Id>| connections.values().next().copied();
        (first(&group.unproven), first(&group.idle))
    }

    fn evict(&mut self, id: Id) -> bool {
        let Some(slot) = self.remove(id) else { return false };
        let told = if slot.proven { &slot.told.leaving } else { &slot.told.gone };
        told.cancel();
        true
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut Slot)) {
        let now = self.tick();
        let Some(mut slot) = self.remove(id) else { return };
        slot.since = now;
        change(&mut slot);
        self.add(id, slot);
    }

    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn add(&mut self, id: Id, slot: Slot) {
        let holder = slot.holder;
        self.unweigh(holder);
        let group = self.groups.entry(holder).or_default();
        group.total += 1;
        if !slot.proven {
            group.unproven.insert(slot.since, id);
        } else if slot.requests == 0 {
            group.idle.insert(slot.since, id);
        }
        self.slots.insert(id, slot);
        self.weigh(holder);
    }

    fn remove(&mut self, id: Id) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        self.unweigh(slot.holder);
        if let Some(group) = self.groups.get_mut(&slot.holder) {
            group.total -= 1;
            group.unproven.remove(&slot.since);
            group.idle.remove(&slot.since);
            if group.total == 0 {
                self.groups.remove(&slot.holder);
            }
        }
        self.weigh(slot.holder);
        Some(slot)
    }

    fn unweigh(&mut self, holder: Holder) {
        let Some(group) = self.groups.get(&holder) else { return };
        if let Some(weight) = weight(holder, &group.unproven) {
            self.unproven.remove(&weight);
        }
        if let Some(weight) = weight(holder, &group.idle) {
            self.idle.remove(&weight);
        }
    }

    fn weigh(&mut self, holder: Holder) {
        let Some(group) = self.groups.get(&holder) else { return };
        self.unproven.extend(weight(holder, &group.unproven));
        self.idle.extend(weight(holder, &group.idle));
    }
}

#[cfg(test)]
mod tests;
