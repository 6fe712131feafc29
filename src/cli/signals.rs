//! The signals of a command that runs until one comes.
//!
//! All of them are caught at one place, before anything else is done: from then on none ends the process
//! by itself, and one that comes early is remembered until someone asks.

use std::{io, os::unix::net::UnixStream};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

/// What the process is told from outside.
#[derive(Debug)]
pub(super) struct Signals {
    /// That it is to end.
    pub(super) end: End,
    /// SIGHUP.
    pub(super) hangup: Signal,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they are caught.
    fn caught() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let end = End { terminate, interrupt: signal(SignalKind::interrupt())? };
        Ok(Self { end, hangup: signal(SignalKind::hangup())? })
    }

    /// Waits for any, for which a command has no other use than to end; names it.
    pub(super) async fn any(&mut self) -> &'static str {
        tokio::select! {
            signal = self.end.came() => signal,
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

impl End {
    /// Waits for one, and names it.
    pub(super) async fn came(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A runtime, and the signals that are caught from now on.
pub(super) fn runtime() -> io::Result<(Runtime, Signals)> {
    // The runtime panics when it gets fewer files than these: an error instead.
    drop([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let signals = {
        let _entered = runtime.enter();
        Signals::caught()?
    };
    Ok((runtime, signals))
}
