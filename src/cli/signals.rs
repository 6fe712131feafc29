//! The signals of a command that runs until one comes.
//!
//! All of them are caught at one place, before anything else is done: from then on none ends the process
//! by itself, and one that comes early is remembered until someone asks.

use std::{
    future::pending,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
};

use anyhow::Context;
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::app::descriptors;

/// What the process is told from outside.
#[derive(Debug)]
pub(super) struct Signals {
    /// That it is to end.
    pub(super) end: End,
    /// SIGHUP.
    pub(super) hangup: Signal,
}

/// SIGTERM and SIGINT, and the end of standard input where that counts.
#[derive(Debug)]
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<pipe::Receiver>,
}

impl Signals {
    /// From now on they are caught.
    fn caught() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let end = End { terminate, interrupt, stdin: None };
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
    /// From now on it also comes when nobody can write to standard input any more.
    pub(super) fn comes_with_stdin(&mut self) -> anyhow::Result<()> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let stdin = pipe::Receiver::from_owned_fd(stdin).context("standard input is no pipe")?;
        self.stdin = Some(stdin);
        Ok(())
    }

    /// Waits for one, and names it.
    pub(super) async fn came(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = closed(self.stdin.as_mut()) => "the end of standard input",
        }
    }
}

/// Waits until nobody has the other end.
async fn closed(stdin: Option<&mut pipe::Receiver>) {
    let Some(stdin) = stdin else { return pending().await };
    // What is written into it means nothing.
    let mut bytes = [0; 64];
    while let Ok(1..) = stdin.read(&mut bytes).await {}
}

/// A runtime, and the signals that are caught from now on; with `least` files that may be open.
pub(super) fn runtime(least: u64) -> anyhow::Result<(Runtime, Signals)> {
    descriptors::raise_to(least)?;
    // The runtime panics when it gets fewer files than these: an error instead.
    drop([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let signals = {
        let _entered = runtime.enter();
        Signals::caught()?
    };
    Ok((runtime, signals))
}
