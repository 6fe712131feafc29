//! What is told of requests that were refused: why, one line for each hook, status and second.
//!
//! Whoever can reach the endpoint can be refused as often as it likes; the log must not fill by it.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::field::display;

use crate::{
    log_lines::{LeftOut, LogRate},
    name::HookName,
    server::Answer,
};

/// At most one line of a sort in this time.
const EVERY: Duration = Duration::from_secs(1);

/// Why, for the log: it goes with an answer as far as the endpoint, and no further.
#[derive(Debug, Clone)]
struct Why(Cow<'static, str>);

/// An answer that is given for this reason.
pub(super) fn because(why: impl Into<Cow<'static, str>>, mut answer: Answer) -> Answer {
    answer.extensions_mut().insert(Why(why.into()));
    answer
}

/// A hook, `None` for paths that are none, and the status it answered.
type Sort = (Option<HookName>, u16);

/// What a line says of the last of those that it counts.
#[derive(Debug)]
struct Last {
    why: Cow<'static, str>,
    peer: Option<IpAddr>,
}

/// All refusals.
#[derive(Debug)]
pub struct Refusals {
    refused: LogRate<Sort, Last>,
    let_in: LogRate<HookName, Option<IpAddr>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { refused: LogRate::new(EVERY), let_in: LogRate::new(EVERY) }
    }
}

impl Refusals {
    /// Writes the lines that came too soon, until it is time to stop.
    pub async fn run(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(sleep(EVERY)).await.is_some() {
            self.catch_up(false);
        }
        self.catch_up(true);
    }

    /// Takes the reason out of an answer, and tells it if the answer is a refusal.
    pub(super) fn told(
        &self,
        hook: Option<&HookName>,
        peer: Option<IpAddr>,
        mut answer: Answer,
    ) -> Answer {
        let why = answer.extensions_mut().remove::<Why>();
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            let why = why.map_or(Cow::Borrowed(""), |Why(why)| why);
            let sort = (hook.cloned(), status.as_u16());
            let last = Last { why: why.clone(), peer };
            if let Some(count) = self.refused.note(sort.clone(), last) {
                line(&sort, &Last { why, peer }, count);
            }
        }
        answer
    }

    /// A request from outside an allow list that only reports.
    pub(super) fn let_in(&self, hook: &HookName, peer: Option<IpAddr>) {
        if let Some(count) = self.let_in.note(hook.clone(), peer) {
            let_in_line(hook, peer, count);
        }
    }

    fn catch_up(&self, at_the_end: bool) {
        for LeftOut { key, last, count } in self.refused.left_out(at_the_end) {
            line(&key, &last, count);
        }
        for LeftOut { key, last, count } in self.let_in.left_out(at_the_end) {
            let_in_line(&key, last, count);
        }
    }
}

fn line((hook, status): &Sort, Last { why, peer }: &Last, count: u64) {
    let (status, why, peer) = (*status, why.as_ref(), peer.map(display));
    if let Some(hook) = hook {
        tracing::warn!(%hook, status, why, peer, count, "refused a request");
    } else {
        // Scanners ask for what is not there all day long.
        tracing::debug!(status, why, peer, count, "refused a request");
    }
}

fn let_in_line(hook: &HookName, peer: Option<IpAddr>, count: u64) {
    let peer = peer.map(display);
    tracing::warn!(%hook, peer, count, "a request from outside allow_from was let in");
}
