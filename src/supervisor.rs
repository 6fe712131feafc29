//! Named tasks with a common end.
//!
//! Owns the rule that a task which ends by itself is a failure, and the two-phase stop with a
//! bound: first everyone is asked to end, then what has not ended in time is left behind.

use std::{future::Future, time::Duration};

use anyhow::Context;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// The daemon's tasks.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
    grace: Duration,
}

impl Supervisor {
    /// Nothing yet; stopping may take `grace`.
    pub fn new(grace: Duration) -> Self {
        Self { tasks: JoinSet::new(), stop: CancellationToken::new(), grace }
    }

    /// Cancelled when it is time to end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that must not end before it is asked to.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Waits for `signal`, or for a task that ends by itself; then stops all within the grace
    /// period, and reports the first failure.
    pub async fn run(mut self, signal: impl Future<Output = ()>) -> anyhow::Result<()> {
        let early = tokio::select! {
            () = signal => Ok(()),
            Some(ended) = self.tasks.join_next() => Err(by_itself(ended)),
        };
        self.stop.cancel();
        let drained = timeout(self.grace, drain(&mut self.tasks)).await.unwrap_or_else(|_| {
            tracing::warn!(tasks = self.tasks.len(), "the grace period is over; leaving");
            Ok(())
        });
        early.and(drained)
    }
}

fn by_itself(
    ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow::anyhow!("{name} ended by itself"),
        Ok((name, Err(error))) => error.context(format!("{name} failed")),
        Err(panic) => anyhow::Error::new(panic).context("a task panicked"),
    }
}

async fn drain(tasks: &mut JoinSet<(&'static str, anyhow::Result<()>)>) -> anyhow::Result<()> {
    let mut first = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let result = match ended {
            Ok((name, result)) => result.with_context(|| format!("{name} failed")),
            Err(panic) => Err(anyhow::Error::new(panic).context("a task panicked")),
        };
        first = first.and(result);
    }
    first
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const GRACE: Duration = Duration::from_secs(25);

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_by_itself_is_a_failure() {
        let mut supervisor = Supervisor::new(GRACE);
        supervisor.spawn("one", async { Ok(()) });
        let error = supervisor.run(pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "one ended by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_lets_tasks_finish() {
        let mut supervisor = Supervisor::new(GRACE);
        let stop = supervisor.stopping();
        supervisor.spawn("one", async move {
            stop.cancelled().await;
            tokio::time::sleep(GRACE / 2).await;
            Ok(())
        });
        supervisor.run(async {}).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_left_after_the_grace_period() {
        let mut supervisor = Supervisor::new(GRACE);
        supervisor.spawn("one", pending());
        let before = tokio::time::Instant::now();
        supervisor.run(async {}).await.unwrap();
        assert_eq!(before.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_while_stopping_is_reported() {
        let mut supervisor = Supervisor::new(GRACE);
        let stop = supervisor.stopping();
        supervisor.spawn("last commit", async move {
            stop.cancelled().await;
            anyhow::bail!("no disk")
        });
        let error = supervisor.run(async {}).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "last commit failed: no disk");
    }
}
