//! What systemd gives and wants: sockets, readiness, the watchdog.
//!
//! Without systemd all of it does nothing.

use std::{
    env,
    ffi::OsStr,
    io,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram, UnixListener},
        },
    },
    pin::pin,
    time::Duration,
};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;
use tokio::time::{Instant, timeout};

/// A start that takes long is given this much more each time that it asks.
const MORE: Duration = Duration::from_secs(60);
/// Between two requests for more time: one that is late or lost does no harm.
const ASK: Duration = Duration::from_secs(20);
/// After the bound of a start, for its last words.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// Sockets that systemd opened for us (`brevdue.socket`).
#[derive(Debug, Default)]
pub struct Sockets {
    /// For hooks.
    pub tcp: Vec<TcpListener>,
    /// For the admin API.
    pub unix: Vec<UnixListener>,
}

/// A descriptor that was passed to us and that nobody can connect to.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// It is something else.
    #[error(
        "LISTEN_FDS: descriptor {0} is no listening stream socket: pass TCP sockets for the hooks and Unix sockets for \
         the admin API (ListenStream= in brevdue.socket, without Accept=yes), or none"
    )]
    NotListening(usize),
    /// More than anyone passes.
    #[error(
        "LISTEN_FDS: is no number from 0 to {MOST_PASSED}: let systemd set it, or take it away"
    )]
    Number,
    /// It cannot be used.
    #[error("LISTEN_FDS: descriptor {0} cannot be used: {1}")]
    Io(usize, io::Error),
}

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;
/// Each is looked at; a larger number would be a list without end.
const MOST_PASSED: usize = 1024;

/// Takes the sockets that were passed to this process; the second call gets none.
pub fn sockets() -> Result<Sockets, PassedError> {
    let number = env::var("LISTEN_FDS").ok().map(|number| number.parse::<usize>());
    if number.is_some_and(|number| !number.is_ok_and(|number| number <= MOST_PASSED)) {
        return Err(PassedError::Number);
    }
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..passed.len() {
        let descriptor = FIRST + index;
        let good = |listens: io::Result<bool>, is_set: io::Result<()>| match (listens, is_set) {
            (Ok(true), Ok(())) => Ok(()),
            (Ok(false) | Err(_), _) => Err(PassedError::NotListening(descriptor)),
            (_, Err(error)) => Err(PassedError::Io(descriptor, error)),
        };
        // A descriptor of the other kind is an error here, and stays for the second question.
        if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
            good(SockRef::from(&listener).is_listener(), listener.set_nonblocking(true))?;
            sockets.tcp.push(listener);
        } else if let Ok(Some(listener)) = passed.take_unix_listener(index) {
            good(SockRef::from(&listener).is_listener(), listener.set_nonblocking(true))?;
            sockets.unix.push(listener);
        } else {
            return Err(PassedError::NotListening(descriptor));
        }
    }
    Ok(sockets)
}

/// READY=1.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Waits for a part of the start that can take longer than systemd's patience with a start
/// (`TimeoutStartSec`), and asks it for more time (`EXTEND_TIMEOUT_USEC`) until `bound` is over.
/// Whoever waits no more, drops this.
pub async fn with_more_time<T>(start: impl Future<Output = T>, bound: Duration) -> T {
    let micros = |by: Duration| u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    extended(start, bound, |by| tell(&[NotifyState::ExtendTimeoutUsec(micros(by))])).await
}

async fn extended<T>(
    start: impl Future<Output = T>,
    bound: Duration,
    mut ask: impl FnMut(Duration),
) -> T {
    let began = Instant::now();
    let mut start = pin!(start);
    loop {
        if let Some(by) = extension(began.elapsed(), bound) {
            ask(by);
        }
        if let Ok(started) = timeout(ASK, start.as_mut()).await {
            return started;
        }
    }
}

/// How much more time to ask for; none once the bound is over.
fn extension(waited: Duration, bound: Duration) -> Option<Duration> {
    let left = bound.checked_sub(waited)?;
    Some(left.saturating_add(LAST_WORDS).min(MORE))
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
    let Some(address) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&address, state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// Sends without waiting: who does not read what it is told must not hold us up.
fn send(address: &OsStr, state: &[NotifyState<'_>]) -> io::Result<()> {
    let lines: Vec<_> = state.iter().map(|state| format!("{state}\n")).collect();
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(lines.concat().as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// When more time was asked for, and until when it reached.
    async fn asked(start: impl Future<Output = ()>, bound: Duration) -> Vec<(Duration, Duration)> {
        let (began, mut asked) = (Instant::now(), Vec::new());
        let waiting = extended(start, bound, |by| {
            asked.push((began.elapsed(), began.elapsed() + by));
        });
        // Longer than any bound here: what goes on after it would be seen.
        drop(timeout(SECOND * 10_000, waiting).await);
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_asks_at_once_and_again_well_before_its_time_is_over() {
        let asked = asked(sleep(SECOND * 200), SECOND * 1000).await;
        assert_eq!(asked.len(), 10);
        assert_eq!(asked.first(), Some(&(Duration::ZERO, SECOND * 60)));
        for pair in asked.windows(2) {
            let margin = pair[0].1.saturating_sub(pair[1].0);
            assert!(margin >= SECOND * 30, "{pair:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_never_ends_is_given_up_a_little_after_its_bound() {
        for bound in [0, 1, 19, 20, 21, 60, 61, 3600].map(|seconds| SECOND * seconds) {
            let asked = asked(pending(), bound).await;
            assert!(asked.iter().all(|(at, _)| *at <= bound), "{bound:?}: {asked:?}");
            let last = asked.iter().map(|(_, until)| *until).max();
            assert_eq!(last, Some(bound + LAST_WORDS), "{bound:?}: {asked:?}");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let told = || send(path.as_os_str(), &[NotifyState::Ready, NotifyState::Watchdog]);
        told().unwrap();
        let full = (0..100_000).find_map(|_| told().err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut text = [0; 64];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1\nWATCHDOG=1\n");
        told().unwrap();

        let name = format!("brevdue-test-{}", fastrand::u64(..));
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), &[NotifyState::Stopping]).unwrap();
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"STOPPING=1\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_start_gave_is_handed_on() {
        assert_eq!(with_more_time(ready(7), SECOND).await, 7);
    }
}
