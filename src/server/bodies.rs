//! The memory for all request bodies that are under way.
//!
//! Owns one budget of bytes for the process. A body's bytes are taken out of it before the first of
//! them is read, and given back when the request is answered. Senders that have proved who they are
//! have a part of their own, so that strangers cannot use it up. In both parts a sender who holds
//! more for longer makes room for one who holds less, and a body that has stalled for anyone.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    future::pending,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::network::Network;

/// Bytes are counted in units of this many: the least that a body takes.
const UNIT: usize = 4096;
/// The share of senders that have proved nothing: all bytes divided by this.
pub const STRANGERS: usize = 4;
/// A body that is there within this time is never asked to make room for another.
const GRACE: Duration = Duration::from_millis(250);
/// A body of which nothing came for this time makes room for any other.
const STALLED: Duration = Duration::from_secs(2);

/// The budget.
#[derive(Debug)]
pub struct Bodies {
    known: Arc<Pool>,
    strangers: Arc<Pool>,
    /// Most units of one body.
    largest: u32,
}

/// A part of it, and who holds what.
#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    held: Mutex<Held>,
}

/// Who sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// One that has proved who it is, and its address.
    Known(Option<IpAddr>),
    /// One that has not, or not yet, and its address.
    Stranger(Option<IpAddr>),
}

/// Room for one body.
#[derive(Debug)]
pub struct Room {
    pool: Arc<Pool>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// Nobody else gets it.
    Own { _units: OwnedSemaphorePermit },
    /// What the books hold under this number.
    Lent { id: u64, taken_back: CancellationToken },
}

/// What is held for bodies that are still coming.
#[derive(Debug, Default)]
struct Held {
    ids: u64,
    lent: BTreeMap<u64, Lent>,
    units: HashMap<Option<Network>, usize>,
}

#[derive(Debug)]
struct Lent {
    units: OwnedSemaphorePermit,
    holder: Option<Network>,
    since: Instant,
    /// When the last of its bytes came.
    moved: Instant,
    taken_back: CancellationToken,
}

impl Bodies {
    /// A budget of this many bytes. No single body is given more than strangers have together.
    pub fn new(total: usize) -> Arc<Self> {
        let units = (total / UNIT).clamp(STRANGERS, Semaphore::MAX_PERMITS);
        let strangers = units / STRANGERS;
        Arc::new(Self {
            known: Pool::new(units - strangers),
            strangers: Pool::new(strangers),
            largest: u32::try_from(strangers).unwrap_or(u32::MAX),
        })
    }

    /// Waits for room. How long is for the caller to bound.
    pub async fn take(self: &Arc<Self>, bytes: usize, sender: Sender) -> Room {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.largest);
        let (pool, address) = match sender {
            Sender::Known(address) => (Arc::clone(&self.known), address),
            Sender::Stranger(address) => (Arc::clone(&self.strangers), address),
        };
        let part = pool.lend(units, address.map(Network::of_one_peer)).await;
        Room { pool, part }
    }
}

impl Pool {
    fn new(units: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(units)), held: Mutex::default() })
    }

    async fn lend(&self, units: u32, holder: Option<Network>) -> Part {
        if let Some(part) = self.lend_now(units, holder) {
            return part;
        }
        let waiting = acquired(Arc::clone(&self.free), units);
        let units = tokio::select! {
            units = waiting => units,
            units = self.after_grace(units, holder) => units,
        };
        self.held().lend(units, holder)
    }

    fn lend_now(&self, units: u32, holder: Option<Network>) -> Option<Part> {
        let free = Arc::clone(&self.free).try_acquire_many_owned(units).ok();
        let mut held = self.held();
        let units = free.or_else(|| held.take_back(units, holder))?;
        Some(held.lend(units, holder))
    }

    /// Asks again and again: what is too fresh to be taken back now is not for long.
    async fn after_grace(&self, units: u32, holder: Option<Network>) -> OwnedSemaphorePermit {
        loop {
            sleep(GRACE).await;
            let taken = self.held().take_back(units, holder);
            if let Some(units) = taken {
                return units;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The semaphores are never closed.
async fn acquired(semaphore: Arc<Semaphore>, units: u32) -> OwnedSemaphorePermit {
    match semaphore.acquire_many_owned(units).await {
        Ok(units) => units,
        Err(_) => pending().await,
    }
}

impl Held {
    fn lend(&mut self, units: OwnedSemaphorePermit, holder: Option<Network>) -> Part {
        self.ids += 1;
        *self.units.entry(holder).or_default() += units.num_permits();
        let taken_back = CancellationToken::new();
        let now = Instant::now();
        let lent = Lent { units, holder, since: now, moved: now, taken_back: taken_back.clone() };
        self.lent.insert(self.ids, lent);
        Part::Lent { id: self.ids, taken_back }
    }

    /// Takes this many units from those who hold more than this holder, and have for some time, and
    /// from bodies that have stalled: from who holds most, what it has held for longest.
    fn take_back(&mut self, wanted: u32, holder: Option<Network>) -> Option<OwnedSemaphorePermit> {
        let wanted = usize::try_from(wanted).ok()?;
        let own = self.held_by(holder);
        let now = Instant::now();
        // In the order of their numbers they are in that of their age.
        let (_, oldest) = self.lent.first_key_value()?;
        if now - oldest.since < GRACE {
            return None;
        }
        let may_go = |lent: &Lent| {
            let stalled = now - lent.moved >= STALLED;
            stalled || (now - lent.since >= GRACE && self.held_by(lent.holder) > own)
        };
        let may_go = |(_, lent): &(&u64, &Lent)| may_go(lent);
        let there = self.lent.iter().filter(may_go).map(|(_, lent)| lent.units.num_permits());
        if there.sum::<usize>() < wanted {
            return None;
        }
        let candidates: Vec<u64> = self.lent.iter().filter(may_go).map(|(id, _)| *id).collect();
        let mut taken: Option<OwnedSemaphorePermit> = None;
        while taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) < wanted {
            let weight = |lent: &Lent| (self.held_by(lent.holder), Reverse(lent.since));
            // Those that were taken have none, which is less than any.
            let heaviest = |id: &&u64| self.lent.get(id).map(weight);
            let id = *candidates.iter().max_by_key(heaviest)?;
            let lent = self.give_back(id)?;
            lent.taken_back.cancel();
            match &mut taken {
                None => taken = Some(lent.units),
                Some(taken) => taken.merge(lent.units),
            }
        }
        let surplus = taken.as_ref()?.num_permits() - wanted;
        drop(taken.as_mut()?.split(surplus));
        taken
    }

    fn give_back(&mut self, id: u64) -> Option<Lent> {
        let lent = self.lent.remove(&id)?;
        if let Some(units) = self.units.get_mut(&lent.holder) {
            *units -= lent.units.num_permits();
            if *units == 0 {
                self.units.remove(&lent.holder);
            }
        }
        Some(lent)
    }

    fn held_by(&self, holder: Option<Network>) -> usize {
        self.units.get(&holder).copied().unwrap_or(0)
    }
}

impl Room {
    /// Something of the body came.
    pub fn moved(&self) {
        if let Part::Lent { id, .. } = &self.part
            && let Some(lent) = self.pool.held().lent.get_mut(id)
        {
            lent.moved = Instant::now();
        }
    }

    /// Returns when the room is needed for another body; never once this one is there.
    pub async fn taken_back(&self) {
        match &self.part {
            Part::Own { .. } => pending().await,
            Part::Lent { taken_back, .. } => taken_back.cancelled().await,
        }
    }

    /// The body is there: from now on nobody takes the room back.
    pub fn settle(&mut self) {
        if let Part::Lent { id, .. } = &self.part
            && let Some(lent) = self.pool.held().give_back(*id)
        {
            self.part = Part::Own { _units: lent.units };
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Part::Lent { id, .. } = &self.part {
            drop(self.pool.held().give_back(*id));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const KNOWN: Sender = Sender::Known(None);
    const ONE: Sender = stranger(1);
    const OTHER: Sender = stranger(2);

    const fn stranger(number: u8) -> Sender {
        Sender::Stranger(Some(IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, number))))
    }

    /// Four units for strangers, twelve for the others.
    fn budget() -> Arc<Bodies> {
        Bodies::new(16 * UNIT)
    }

    fn take(bodies: &Arc<Bodies>, units: usize, sender: Sender) -> Room {
        bodies.take(units * UNIT, sender).now_or_never().expect("there is room")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_is_waited_for_and_given_back() {
        let bodies = budget();
        let known = take(&bodies, 4, KNOWN);
        let _more = [take(&bodies, 4, KNOWN), take(&bodies, 4, KNOWN)];
        let waiting = bodies.take(1, KNOWN);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        let lent = take(&bodies, 4, ONE);
        drop(known);
        assert!(waiting.as_mut().now_or_never().is_some(), "any body takes at least a unit");
        drop(lent);
        take(&bodies, 4, ONE);
        let held = bodies.strangers.held();
        assert!(held.lent.is_empty() && held.units.is_empty());
        assert_eq!(bodies.strangers.free.available_permits(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_more_for_longer_makes_room_for_who_holds_less() {
        let bodies = budget();
        let first = take(&bodies, 1, ONE);
        tokio::time::advance(GRACE / 2).await;
        let second = take(&bodies, 3, ONE);
        assert!(bodies.take(UNIT, OTHER).now_or_never().is_none(), "a fresh body stays");
        tokio::time::advance(GRACE / 2).await;
        // The same sender gets nothing by asking for more.
        assert!(bodies.take(UNIT, ONE).now_or_never().is_none());
        let third = take(&bodies, 1, OTHER);
        assert!(first.taken_back().now_or_never().is_some());
        assert!(second.taken_back().now_or_never().is_none());
        // Three against one: taking two more leaves none with less than it had.
        tokio::time::advance(GRACE).await;
        let _fourth = take(&bodies, 1, OTHER);
        assert!(second.taken_back().now_or_never().is_some());
        drop((first, second));
        assert!(third.taken_back().now_or_never().is_none());
        assert_eq!(bodies.strangers.free.available_permits(), 2, "the surplus is free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_there_is_not_taken_back() {
        let bodies = budget();
        let mut whole = take(&bodies, 4, ONE);
        whole.settle();
        tokio::time::advance(GRACE * 2).await;
        let waiting = bodies.take(UNIT, OTHER);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(whole.taken_back().now_or_never().is_none());
        drop(whole);
        assert!(waiting.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_waits_behind_fresh_bodies_gets_room_once_they_are_old() {
        let bodies = budget();
        let slow = take(&bodies, 4, ONE);
        let room = tokio::time::timeout(GRACE * 2, bodies.take(UNIT, OTHER)).await;
        assert!(room.is_ok());
        assert!(slow.taken_back().now_or_never().is_some());
    }

    fn taken_back(rooms: &[Room]) -> usize {
        rooms.iter().filter(|room| room.taken_back().now_or_never().is_some()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_known_sender_that_holds_everything_makes_room_for_another() {
        let bodies = budget();
        let of = |last| Sender::Known(Some([127, 0, 0, last].into()));
        let slow: Vec<Room> = (0..3).map(|_| take(&bodies, 4, of(1))).collect();
        assert!(bodies.take(UNIT, of(2)).now_or_never().is_none(), "fresh bodies stay");
        tokio::time::advance(GRACE).await;
        drop(take(&bodies, 1, of(2)));
        assert_eq!(taken_back(&slow), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_makes_room_for_one_of_the_same_sender_and_a_moving_one_does_not() {
        for sender in [ONE, KNOWN] {
            let bodies = budget();
            let filled: Vec<Room> =
                (0..if sender == ONE { 1 } else { 3 }).map(|_| take(&bodies, 4, sender)).collect();
            for _ in 0..3 {
                tokio::time::advance(STALLED / 2).await;
                assert!(bodies.take(UNIT, sender).now_or_never().is_none(), "it moves");
                filled.iter().for_each(Room::moved);
            }
            tokio::time::advance(STALLED).await;
            drop(take(&bodies, 1, sender));
            assert_eq!(taken_back(&filled), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn any_size_fits_at_some_time() {
        let bodies = budget();
        for bytes in [0, 1, UNIT, UNIT + 1, 16 * UNIT, usize::MAX] {
            for sender in [ONE, KNOWN] {
                assert!(bodies.take(bytes, sender).now_or_never().is_some(), "{bytes}");
            }
        }
    }
}
