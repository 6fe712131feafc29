//! What the keys mean: one part for each table, each reports all that is wrong with its own.
//!
//! Owns the checks that several parts share; `root` begins with the whole. No part opens anything.

mod address;
mod altinn;
mod handler;
pub(super) mod root;
mod server;
mod source;
mod subscription;

use std::time::Duration;

pub(crate) use address::encrypted_or_local;

/// A handshake or request that takes longer holds a connection for nobody.
const LONGEST_REQUEST: Duration = Duration::from_secs(600);

const ZERO: &str = "must be longer than zero";

fn at_most(longest: Duration) -> impl Fn(Duration) -> Result<Duration, String> {
    move |duration| {
        if duration > longest {
            Err(format!("must be at most {}s", longest.as_secs()))
        } else {
            Ok(duration)
        }
    }
}

fn above_zero(longest: Duration) -> impl Fn(Duration) -> Result<Duration, String> {
    move |duration| {
        if duration.is_zero() { Err(ZERO.to_owned()) } else { at_most(longest)(duration) }
    }
}

/// For what must not become a busy loop.
fn interval(duration: Duration) -> Result<Duration, String> {
    let shortest = Duration::from_millis(100);
    if duration < shortest { Err("must be at least 100ms".to_owned()) } else { Ok(duration) }
}
