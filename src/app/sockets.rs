//! Binding: systemd's sockets first, then the configured addresses.

use std::{
    fs::{self, Permissions},
    io,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
};

use anyhow::{Context, bail};
use tokio::net::{TcpListener, UnixListener};

use crate::{config::Config, server::Socket, systemd};

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
}

/// Binds everything. Hook sockets that systemd passes replace `server.listen`.
pub(super) async fn bind(config: &Config) -> anyhow::Result<Bound> {
    let passed = systemd::sockets().context("cannot take the sockets that systemd passed")?;
    let mut listeners = Vec::new();
    for listener in passed.tcp {
        listeners.push(TcpListener::from_std(listener)?);
    }
    if listeners.is_empty() {
        for address in &config.server.listen {
            listeners.push(tcp(*address).await?);
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
        Some(address) => Some(tcp(address).await?),
        None => None,
    };
    let admin_address = admin_tcp.as_ref().map(TcpListener::local_addr).transpose()?;
    Ok(Bound {
        hooks: listeners.into_iter().map(|listener| hook_socket(listener, config)).collect(),
        addresses,
        admin: Admin { unix, tcp: admin_tcp.map(Socket::Tcp) },
        admin_address,
    })
}

fn hook_socket(listener: TcpListener, config: &Config) -> Socket {
    if config.server.proxy_protocol {
        Socket::Proxied { listener, from: config.server.trusted_proxies.clone().into() }
    } else {
        Socket::Tcp(listener)
    }
}

async fn tcp(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Binds the Unix socket with mode 0660; one that a dead process left behind is replaced.
fn admin_socket(path: &Path) -> anyhow::Result<UnixListener> {
    let context = || format!("cannot listen on admin.socket {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another process listens on admin.socket {}: is brevdue running?", path.display());
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
