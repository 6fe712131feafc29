//! Between the listening socket and a connection's task: accepting, who is let in, and the wait
//! for a slot.
//!
//! Owns what is said in the log of connections that were turned away.

use std::{io, net::IpAddr, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::{
    conduct::{Slot, Slots},
    door::{Door, Entrance},
    proxy::{self, ProxyError},
    service::{Gauges, Limits, Peer},
    slots::{
        Eviction, Holder, NoSlot,
        turns::{Turns, Weigh},
    },
};
use crate::{log_lines::LogRate, network::Network};

/// How long to wait after a failed accept: out of file descriptors must not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// One line for each sort of trouble and peer in this time.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Where connections come from.
#[derive(Debug)]
pub enum Socket {
    /// TCP, where every peer is trusted alike: a loopback address, a test.
    Tcp(TcpListener),
    /// TCP, where strangers can connect.
    Public {
        /// Where they connect to.
        listener: TcpListener,
        /// What they may take, and who is let in.
        door: Arc<Door>,
    },
    /// A Unix socket: its mode decides who gets here.
    Unix(UnixListener),
}

/// A connection with a slot.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) slot: Slot,
    /// Bounds the connections that are still there, those that were told to end included.
    pub(super) there: OwnedSemaphorePermit,
}

/// A connection as it was accepted.
pub(super) enum Stream {
    Tcp(TcpStream),
    /// Begins with a PROXY header.
    Proxied(TcpStream, Arc<Door>),
    Unix(UnixStream),
}

/// What the accept loops of a server share.
pub(super) struct Lobby {
    slots: Arc<Slots>,
    pub(super) turns: Arc<Turns>,
    there: Arc<Semaphore>,
    most: usize,
    gauges: Gauges,
    failing: LogRate<()>,
    full: LogRate<()>,
    shares: LogRate<Holder>,
    outside: LogRate<Network>,
    no_header: LogRate<Option<Network>>,
}

impl Lobby {
    pub(super) fn new(limits: &Limits, gauges: &Gauges) -> Self {
        let most = limits.max_connections.get();
        let slots = Arc::new(Slots::new(most, gauges.turned_away.clone()));
        let weighed = Arc::clone(&slots);
        let weigh: Weigh = Box::new(move |ids| {
            let table = weighed.table();
            ids.iter().map(|id| table.weight(*id)).collect()
        });
        // One is left for those whose handshake is behind them.
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let at_once = processors.saturating_sub(1).max(1);
        Self {
            slots,
            turns: Turns::new(at_once, weigh),
            there: Arc::new(Semaphore::new(most + spare(most))),
            most,
            gauges: gauges.clone(),
            failing: LogRate::new(LINE_EVERY),
            full: LogRate::new(LINE_EVERY),
            shares: LogRate::new(LINE_EVERY),
            outside: LogRate::new(LINE_EVERY),
            no_header: LogRate::new(LINE_EVERY),
        }
    }

    /// The next connection that is let in.
    pub(super) async fn next(&self, socket: &Socket) -> Accepted {
        loop {
            let (stream, peer) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.cannot_accept(&error).await;
                    continue;
                }
            };
            let Some(slot) = self.slot(socket, &stream, peer).await else { continue };
            // Those that were told to go are given the time to.
            let Ok(there) = Arc::clone(&self.there).acquire_owned().await else { continue };
            return Accepted { stream, peer, slot, there };
        }
    }

    async fn cannot_accept(&self, error: &io::Error) {
        if is_the_peers(error) {
            return;
        }
        let code = error.raw_os_error();
        let out_of_files =
            [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()));
        if out_of_files {
            self.slots.table().shed();
        }
        if let Some(count) = self.failing.note((), ()) {
            let cure = if out_of_files {
                "raise the limit of open files (LimitNOFILE of the unit, or ulimit -n)"
            } else {
                "it is tried again"
            };
            tracing::warn!(%error, count, cure, "cannot accept a connection");
        }
        sleep(ACCEPT_PAUSE).await;
    }

    /// `None` if the connection is to be closed at once.
    async fn slot(&self, socket: &Socket, stream: &Stream, peer: Peer) -> Option<Slot> {
        let (holder, share, unproven) = match (socket, peer.address) {
            (Socket::Public { door, .. }, Some(address)) => {
                let own = || stream.own_address();
                let bounds = Some(door.unproven);
                match door.entrance(address.ip(), own) {
                    Entrance::Proxy => (None, usize::MAX, None),
                    Entrance::Proxied => (None, usize::MAX, bounds),
                    Entrance::Guest(holder) => (holder, door.share.get(), bounds),
                    Entrance::NotAllowed => {
                        self.not_allowed(address.ip());
                        return None;
                    }
                    Entrance::NoProxy => {
                        self.gauges.failed.inc();
                        let fault = ProxyError::Malformed(proxy::NO_PROXY);
                        self.no_proxy_header(peer, &fault);
                        return None;
                    }
                }
            }
            (Socket::Public { .. } | Socket::Tcp(_) | Socket::Unix(_), _) => {
                (None, usize::MAX, None)
            }
        };
        loop {
            let freed = self.slots.freed.notified();
            match self.slots.enter(holder, share, unproven) {
                Ok((slot, eviction)) => {
                    self.tell(eviction, holder);
                    return Some(slot);
                }
                Err(NoSlot::Share) => {
                    self.slots.count(Eviction::Share);
                    self.tell(Some(Eviction::Share), holder);
                    return None;
                }
                Err(NoSlot::Full) => {
                    self.tell(Some(Eviction::Full), holder);
                    freed.await;
                }
            }
        }
    }

    /// Connections that were told to end because there are no slots left.
    fn tell(&self, eviction: Option<Eviction>, holder: Holder) {
        match eviction {
            Some(Eviction::Full) => {
                if let Some(count) = self.full.note((), ()) {
                    let most = self.most;
                    tracing::warn!(
                        max_connections = most,
                        count,
                        "all slots for connections are taken: those that have proved nothing, or are \
                         idle, make room"
                    );
                }
            }
            Some(Eviction::Share) => self.share_is_used_up(holder),
            None => {}
        }
    }

    /// Tells that a peer has as many connections as one may have.
    pub(super) fn share_is_used_up(&self, holder: Holder) {
        if let Some(count) = self.shares.note(holder, ()) {
            let peer = holder.map(tracing::field::display);
            tracing::warn!(
                peer,
                count,
                "a peer has its share of connections (max_connections_per_address): its longest idle \
                 one makes room for its next"
            );
        }
    }

    fn not_allowed(&self, peer: IpAddr) {
        self.gauges.turned_away.not_allowed.inc();
        if let Some(count) = self.outside.note(Network::of_one_peer(peer), ()) {
            tracing::warn!(
                peer = %peer.to_canonical(),
                count,
                "closed a connection from outside allow_from"
            );
        }
    }

    /// Tells why a connection was closed for want of a PROXY header, and what to do.
    pub(super) fn no_proxy_header(&self, peer: Peer, fault: &ProxyError) {
        self.gauges.turned_away.no_proxy_header.inc();
        let address = peer.address.map(|address| address.ip().to_canonical());
        if let Some(count) = self.no_header.note(address.map(Network::host), ()) {
            let peer = address.map(tracing::field::display);
            let cure = proxy::cure(fault);
            tracing::warn!(
                peer,
                reason = %fault,
                cure,
                count,
                "closed a connection without a PROXY header of version 2"
            );
        }
    }
}

/// How many connections beside the others may be about to end.
pub(super) fn spare(most: usize) -> usize {
    (most / 8).clamp(1, 256)
}

/// The peer went away before it was accepted: its fault, and no reason to pause.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

impl Stream {
    /// This machine's end.
    fn own_address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) | Self::Proxied(stream, _) => {
                stream.local_addr().ok().map(|address| address.ip())
            }
            Self::Unix(_) => None,
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let (stream, address) = match self {
            Self::Tcp(listener) | Self::Public { listener, .. } => listener.accept().await?,
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                return Ok((Stream::Unix(stream), Peer { address: None }));
            }
        };
        // Only a peer that is gone again makes this fail.
        let gone = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
        stream.set_nodelay(true).map_err(gone)?;
        let peer = Peer { address: Some(address) };
        Ok(match self {
            Self::Public { door, .. } if door.proxy_protocol => {
                (Stream::Proxied(stream, Arc::clone(door)), peer)
            }
            Self::Tcp(_) | Self::Public { .. } | Self::Unix(_) => (Stream::Tcp(stream), peer),
        })
    }
}
