//! What systemd gives and wants: sockets, readiness, the watchdog.
//!
//! Without systemd all of it does nothing.

use std::{io, net::TcpListener, os::unix::net::UnixListener, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Sockets that systemd opened for us (`brevdue.socket`).
#[derive(Debug, Default)]
pub struct Sockets {
    /// For hooks.
    pub tcp: Vec<TcpListener>,
    /// For the admin API.
    pub unix: Vec<UnixListener>,
}

/// Takes the sockets that were passed to this process; the second call gets none.
pub fn sockets() -> io::Result<Sockets> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..passed.len() {
        // A descriptor of the other kind is an error here, and stays for the second question.
        if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
            listener.set_nonblocking(true)?;
            sockets.tcp.push(listener);
        } else if let Some(listener) = passed.take_unix_listener(index)? {
            listener.set_nonblocking(true)?;
            sockets.unix.push(listener);
        }
    }
    Ok(sockets)
}

/// READY=1.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// STOPPING=1.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often [`alive`] must be called, if the unit has a `WatchdogSec`: half of it.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|interval| interval / 2)
}

/// WATCHDOG=1.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
