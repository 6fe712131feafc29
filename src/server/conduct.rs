//! How one connection has behaved: what it has proved, what it has asked for, and when it is enough.

use std::{
    future::{Future, pending},
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{StatusCode, Version};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    door::{SHARED, Unproven},
    service::TurnedAway,
    slots::{Entered, Eviction, Holder, Id, NoSlot, Table, Told},
};

/// A connection that is told to end may take this long over it.
const FAREWELL: Duration = Duration::from_secs(5);
/// The same where another waits for its slot.
const SHORT_FAREWELL: Duration = Duration::from_millis(250);

/// The slots of a server, shared by its connections.
#[derive(Debug)]
pub(super) struct Slots {
    table: Mutex<Table>,
    /// Told when a slot may be had that was not before.
    pub(super) freed: Notify,
    pub(super) turned_away: TurnedAway,
}

impl Slots {
    pub(super) fn new(most: usize, turned_away: TurnedAway) -> Self {
        Self { table: Mutex::new(Table::new(most)), freed: Notify::new(), turned_away }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, eviction: Eviction) {
        match eviction {
            Eviction::Share => self.turned_away.share.inc(),
            Eviction::Full => self.turned_away.full.inc(),
        };
    }

    /// A slot for a newcomer; `unproven` has the bounds of one that has something to prove.
    pub(super) fn enter(
        self: &Arc<Self>,
        holder: Holder,
        share: usize,
        unproven: Option<Unproven>,
    ) -> Result<(Slot, Option<Eviction>), NoSlot> {
        let told = Told::default();
        let entered = self.table().enter(holder, share, unproven.is_none(), told.clone());
        let Entered { id, eviction } = entered?;
        if let Some(eviction) = eviction {
            self.count(eviction);
        }
        let conduct = Conduct {
            slots: Arc::clone(self),
            id,
            told,
            unproven,
            proven: AtomicBool::new(unproven.is_none()),
            requests: AtomicU32::new(0),
            refusals: AtomicU32::new(0),
            enough: CancellationToken::new(),
            ending: AtomicBool::new(false),
        };
        Ok((Slot(Arc::new(conduct)), eviction))
    }
}

/// A slot, as long as its connection lives.
#[derive(Debug)]
pub(super) struct Slot(pub(super) Arc<Conduct>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.slots.table().leave(self.0.id);
        self.0.slots.freed.notify_waiters();
    }
}

/// How one connection has behaved.
#[derive(Debug)]
pub(super) struct Conduct {
    slots: Arc<Slots>,
    pub(super) id: Id,
    pub(super) told: Told,
    unproven: Option<Unproven>,
    proven: AtomicBool,
    requests: AtomicU32,
    refusals: AtomicU32,
    /// It has used up what it may do without a proof.
    enough: CancellationToken,
    /// It is being ended.
    ending: AtomicBool,
}

/// By this a service says that the connection's peer has proved who it is. It comes with each
/// request, as an extension.
#[derive(Debug, Clone)]
pub struct Proof(Arc<Conduct>);

impl Proof {
    /// The peer has shown a secret or a signature that is right.
    pub fn give(&self) {
        if !self.0.proven.swap(true, Ordering::Relaxed) {
            self.0.slots.table().prove(self.0.id);
        }
    }

    /// Whether it has, in this request or in one before. A connection of a proxy that has nothing to prove
    /// is not its senders', who share it.
    pub fn is_given(&self) -> bool {
        self.0.unproven.is_some() && self.0.proven.load(Ordering::Relaxed)
    }
}

/// Counts a request while it is under way.
pub(super) struct Asking(Arc<Conduct>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.slots.table().ended(self.0.id);
        self.0.slots.freed.notify_waiters();
    }
}

/// A connection's bytes. What comes from the peer shows that it is not idle; not for ever, or a
/// byte now and then would do.
pub(super) struct Noticed<S> {
    stream: S,
    conduct: Arc<Conduct>,
    /// Reads that still count: a handshake and a request take fewer.
    left: u8,
}

impl<S> Noticed<S> {
    pub(super) fn new(stream: S, conduct: &Arc<Conduct>) -> Self {
        const READS: u8 = 8;
        Self { stream, conduct: Arc::clone(conduct), left: READS }
    }
}

impl Noticed<TcpStream> {
    /// Something came, or the end.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noticed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.left > 0 && buffer.filled().len() > before {
            self.left -= 1;
            self.conduct.got_on();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noticed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Conduct {
    pub(super) fn proof(self: &Arc<Self>) -> Proof {
        Proof(Arc::clone(self))
    }

    /// It got on by itself.
    pub(super) fn got_on(&self) {
        self.slots.table().got_on(self.id);
    }

    /// A proxy says whose it is.
    pub(super) fn belongs_to(&self, holder: Holder, share: usize) -> Result<(), NoSlot> {
        let moved = self.slots.table().belongs_to(self.id, holder, share);
        if let Some(eviction) = moved? {
            self.slots.count(eviction);
        }
        Ok(())
    }

    pub(super) fn asks(self: &Arc<Self>) -> Asking {
        self.slots.table().began(self.id);
        Asking(Arc::clone(self))
    }

    /// Whether the connection ends with this answer.
    pub(super) fn answered(self: &Arc<Self>, status: StatusCode, version: Version) -> bool {
        let Some(bounds) = self.unproven.filter(|_| !self.proof().is_given()) else { return false };
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let refused = status.is_client_error() || status.is_server_error();
        let refusals = self.refusals.fetch_add(refused.into(), Ordering::Relaxed);
        let refusals = refusals + u32::from(refused);
        let times = if version == Version::HTTP_2 { SHARED } else { 1 };
        let over = (requests >= bounds.requests * times, refusals >= bounds.refusals * times);
        let counter = match over {
            (_, true) => &self.slots.turned_away.refusals,
            (true, false) => &self.slots.turned_away.requests,
            (false, false) => return false,
        };
        if !self.enough.is_cancelled() {
            counter.inc();
            self.enough.cancel();
        }
        true
    }

    /// Waits until the connection is to be ended well; how long it may take over that.
    pub(super) async fn end(self: &Arc<Self>, idle: impl Future<Output = ()>) -> Duration {
        let patience = tokio::select! {
            () = idle => FAREWELL,
            () = self.told.leaving.cancelled() => SHORT_FAREWELL,
            () = self.enough.cancelled() => FAREWELL,
            () = self.too_old() => FAREWELL,
        };
        self.ending.store(true, Ordering::Relaxed);
        patience
    }

    /// Whether the answer to a request that is under way is the connection's last.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    async fn too_old(self: &Arc<Self>) {
        let Some(bounds) = self.unproven else { return pending().await };
        sleep(bounds.age).await;
        if self.proof().is_given() {
            return pending().await;
        }
        self.slots.turned_away.age.inc();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_byte_now_and_then_keeps_no_connection_for_ever() {
        let slots = Arc::new(Slots::new(2, TurnedAway::default()));
        let enter = || {
            let bounds = Unproven::within(Duration::from_secs(50));
            slots.enter(None, usize::MAX, Some(bounds)).expect("a slot").0
        };
        let (dripping, other) = (enter(), enter());
        let (mut peer, own) = duplex(64);
        let mut own = Noticed::new(own, &dripping.0);
        let mut drip = async || {
            peer.write_all(b"x").await.unwrap();
            own.read_u8().await.unwrap();
        };
        for _ in 0..20 {
            drip().await;
        }
        other.0.got_on();
        drip().await;
        let newcomer = enter();
        assert!(dripping.0.told.gone.is_cancelled(), "it is the one that is idle for longest");
        assert!(!other.0.told.gone.is_cancelled() && !newcomer.0.told.gone.is_cancelled());
    }
}
