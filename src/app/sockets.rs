//! Binding: systemd's sockets first, then the configured addresses.

use std::{
    fs::{self, Permissions},
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, UnixListener};

use super::descriptors::Room;
use crate::{
    config::{AllowFromMode, Config, Server},
    network,
    server::{AllowFn, Door, Socket, Unproven},
    systemd,
};

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;
/// Connections of one address to the admin API over TCP.
const ADMIN_SHARE: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// A connection to it that has shown no token is ended at this age.
const ADMIN_AGE: Duration = Duration::from_secs(60);

/// All sockets, bound.
pub(super) struct Bound {
    pub(super) hooks: Vec<Socket>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin: Admin,
    pub(super) admin_address: Option<SocketAddr>,
}

/// The admin API's.
pub(super) struct Admin {
    pub(super) unix: Vec<Socket>,
    pub(super) tcp: Option<Socket>,
    /// Connections to each kind.
    pub(super) most: NonZeroUsize,
}

/// Binds everything. Hook sockets that systemd passes replace `server.listen`.
///
/// `asking` says whether the daemon is about to call its own public URL, perhaps from an address
/// that is not in `allow_from`.
pub(super) fn bind(
    config: &Config,
    room: Room,
    asking: impl Fn() -> bool + Send + Sync + 'static,
) -> anyhow::Result<Bound> {
    let passed = systemd::sockets()?;
    let mut listeners = Vec::new();
    for listener in passed.tcp {
        listeners.push(TcpListener::from_std(listener)?);
    }
    if listeners.is_empty() {
        for address in &config.server.listen {
            listeners.extend(tcp("server.listen", *address, &config.server.listen)?);
        }
    }
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    let mut unix = Vec::new();
    for listener in passed.unix {
        unix.push(Socket::Unix(UnixListener::from_std(listener)?));
    }
    if unix.is_empty() {
        unix.push(Socket::Unix(admin_socket(&config.admin.socket)?));
    }
    let admin_tcp = match config.admin.listen {
        Some(address) => tcp("admin.listen", address, &[])?,
        None => None,
    };
    let admin_door = Arc::new(Door {
        share: ADMIN_SHARE.min(room.admin),
        unproven: Unproven::within(ADMIN_AGE),
        proxies: Vec::new(),
        proxy_protocol: false,
        allows: None,
    });
    let door = Arc::new(door(&config.server, room.connections, asking));
    let admin_address = admin_tcp.as_ref().map(TcpListener::local_addr).transpose()?;
    Ok(Bound {
        hooks: listeners.into_iter().map(|listener| public(listener, &door)).collect(),
        addresses,
        admin: Admin {
            unix,
            tcp: admin_tcp.map(|listener| public(listener, &admin_door)),
            most: room.admin,
        },
        admin_address,
    })
}

fn public(listener: TcpListener, door: &Arc<Door>) -> Socket {
    Socket::Public { listener, door: Arc::clone(door) }
}

/// Who is let in at the hooks, and what strangers may take.
fn door(
    server: &Server,
    max_connections: NonZeroUsize,
    asking: impl Fn() -> bool + Send + Sync + 'static,
) -> Door {
    // A proxy is asked for everyone: whom it is asked for, only its requests say.
    let list = server.allow_from.as_ref().filter(|_| server.trusted_proxies.is_empty());
    let list = list.filter(|list| list.mode == AllowFromMode::Enforce);
    let allows = list.map(|list| -> AllowFn {
        let networks = list.networks.clone();
        Arc::new(move |address| network::any_contains(&networks, address) || asking())
    });
    Door {
        share: server.max_connections_per_address.min(max_connections),
        // A good request can take this long in all: its handshake, its head, its body.
        unproven: Unproven::within(server.handshake_timeout + server.request_timeout * 2),
        proxies: server.trusted_proxies.clone(),
        proxy_protocol: server.proxy_protocol,
        allows,
    }
}

/// Listens; `None` where another one listens for this address, too.
fn tcp(key: &str, address: SocketAddr, all: &[SocketAddr]) -> anyhow::Result<Option<TcpListener>> {
    let beside = all.iter().any(|other| other.is_ipv4() && other.port() == address.port());
    let beside = beside && address.port() != 0;
    match listen(address, beside) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if is_any_ipv6(address) && has_no_ipv6(&error) => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            tracing::warn!(%address, %error, "there is no IPv6 here: only IPv4 is listened on");
            let is_there = all.contains(&instead) && beside;
            let listener = (!is_there).then(|| listen(instead, false)).transpose();
            listener.map_err(|error| refused(key, instead, &error))
        }
        Err(error) => Err(refused(key, address, &error)),
    }
}

/// Why an address cannot be listened on, and what to do.
fn refused(key: &str, address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let cure = CURES.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, cure)| cure);
    anyhow!("{key}: cannot listen on {address}: {error}{cure}")
}

const CURES: [(io::ErrorKind, &str); 3] = [
    (
        io::ErrorKind::AddrInUse,
        ": another program listens there, perhaps another brevdue: end it, or name another port",
    ),
    (io::ErrorKind::AddrNotAvailable, ": name an address of this machine"),
    (
        io::ErrorKind::PermissionDenied,
        ": name a port from 1024 on, or let systemd pass the socket (brevdue.socket)",
    ),
];

fn is_any_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// The kernel has none, or it is switched off.
fn has_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// The wildcard of IPv6 takes IPv4, too, whatever the system's `bindv6only` says, unless IPv4
/// addresses have listeners of their own.
fn listen(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if is_any_ipv6(address) {
        socket.set_only_v6(only_ipv6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds the Unix socket with mode 0660; one that a dead process left behind is replaced.
fn admin_socket(path: &Path) -> anyhow::Result<UnixListener> {
    let context = || format!("admin.socket: cannot listen on {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!(
            "admin.socket: another process listens on {}, perhaps another brevdue: end it, or name another path",
            path.display()
        );
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(context)?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).with_context(context)?;
    Ok(listener)
}
