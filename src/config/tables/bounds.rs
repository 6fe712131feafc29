//! The bounds that several tables share.

use std::time::Duration;

/// A handshake or request that takes longer holds a connection for nobody.
pub(super) const LONGEST_REQUEST: Duration = Duration::from_secs(600);

pub(super) const ZERO: &str = "must be longer than zero";

pub(super) fn at_most(longest: Duration) -> impl Fn(Duration) -> Result<Duration, String> {
    move |duration| {
        if duration > longest {
            Err(format!("must be at most {}s", longest.as_secs()))
        } else {
            Ok(duration)
        }
    }
}

pub(super) fn above_zero(longest: Duration) -> impl Fn(Duration) -> Result<Duration, String> {
    move |duration| {
        if duration.is_zero() { Err(ZERO.to_owned()) } else { at_most(longest)(duration) }
    }
}

pub(super) fn between(
    shortest: Duration,
    longest: Duration,
) -> impl Fn(Duration) -> Result<Duration, String> {
    move |duration| {
        if (shortest..=longest).contains(&duration) {
            Ok(duration)
        } else {
            let (least, most) = (shortest.as_millis(), longest.as_secs());
            Err(format!("must be at least {least}ms and at most {most}s"))
        }
    }
}

/// For what must not become a busy loop.
pub(super) fn interval(duration: Duration) -> Result<Duration, String> {
    let shortest = Duration::from_millis(100);
    if duration < shortest { Err("must be at least 100ms".to_owned()) } else { Ok(duration) }
}
