//! The real binary, a real receiver, and what tests ask of them.

pub(crate) mod daemon;
pub(crate) mod receiver;
pub(crate) mod steps;
pub(crate) mod world;

use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

/// The longest that anything here may take; a test that runs into it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `look` sees something, at most [`PATIENCE`] long.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let mut tick = interval(Duration::from_millis(20));
    let seen = timeout(PATIENCE, async {
        loop {
            tick.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    });
    seen.await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// How long `future` took, beside what it gave.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let before = Instant::now();
    let value = future.await;
    (value, before.elapsed())
}
