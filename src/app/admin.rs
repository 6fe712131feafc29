//! The admin API from its configuration, and what it is told from outside.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use std::time::Duration;

use tokio::sync::watch;

use super::{LAST_COMMIT, sockets};
use crate::{
    admin::{Access, Admin, Outside, view},
    altinn::state::State,
    clock::{Clock, Timestamp},
    config::Config,
    dispatch::unmatched::Unmatched,
    metrics::{HookLabels, Metrics},
    name::HookName,
    queue::sled::SledQueue,
    server::{Gauges, Limits, Server, Socket},
    supervisor::Supervisor,
};

/// Connections to the admin API at the same time, on each kind of socket.
const CONNECTIONS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(64).unwrap();

/// What every admin service shares.
pub(super) struct Parts {
    pub(super) queue: SledQueue,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) outside: Arc<Outside>,
}

/// Starts the API on its sockets.
pub(super) fn spawn(
    supervisor: &mut Supervisor,
    sockets: sockets::Admin,
    config: &Config,
    parts: &Parts,
) -> anyhow::Result<()> {
    let token = config.admin.token_file.as_ref().map(|file| file.read()).transpose()?;
    serve(supervisor, sockets.unix, Access::Socket, parts);
    if let Some(tcp) = sockets.tcp {
        serve(supervisor, vec![tcp], Access::Tcp(token), parts);
    }
    Ok(())
}

fn serve(supervisor: &mut Supervisor, sockets: Vec<Socket>, access: Access, parts: &Parts) {
    let service = Admin {
        queue: parts.queue.clone(),
        metrics: parts.metrics.clone(),
        clock: parts.clock.clone(),
        outside: Arc::clone(&parts.outside),
        access,
    };
    let server = Server {
        sockets,
        tls: None,
        limits: Limits {
            max_connections: CONNECTIONS,
            handshake_timeout: LAST_COMMIT,
            request_timeout: LAST_COMMIT * 4,
        },
        service: Arc::new(service),
        gauges: Gauges::default(),
    };
    let stop = supervisor.stopping();
    supervisor.spawn("the admin API", async move { Ok(server.run(stop).await?) });
}

/// What the admin API cannot see by itself.
pub(super) fn outside(
    config: &Config,
    watched: Option<watch::Receiver<State>>,
    unmatched: Arc<Unmatched>,
    stopping: Arc<AtomicBool>,
    metrics: Metrics,
) -> Arc<Outside> {
    let names: Vec<_> = config.subscriptions.keys().cloned().collect();
    let subscriptions = move || {
        let states = watched.as_ref().map(|watch| watch.borrow().clone()).unwrap_or_default();
        names.iter().map(|name| subscription(name, &states, &metrics)).collect()
    };
    let unmatched = move || {
        let seen = unmatched.snapshot();
        let (last_type, last_at) = seen.last.unzip();
        view::Unmatched { count: seen.count, last_type, last_at }
    };
    Arc::new(Outside {
        subscriptions: Box::new(subscriptions),
        unmatched: Box::new(unmatched),
        accepting: Box::new(move || !stopping.load(Ordering::SeqCst)),
    })
}

fn subscription(name: &HookName, state: &State, metrics: &Metrics) -> view::Subscription {
    let known = state.subscriptions.get(name).cloned().unwrap_or_default();
    let word = match (known.checked, known.id, known.validated) {
        (None, None, _) => "unknown",
        (_, _, true) => "validated",
        (_, Some(_), false) => "not validated",
        (Some(_), None, false) => "missing",
    };
    let pushed = metrics.last_push_seconds.get(&HookLabels::new(name)).map(|gauge| gauge.get());
    let error = known.error.as_ref().or(state.error.as_ref());
    view::Subscription {
        name: name.to_string(),
        id: known.id.map(|id| id.0.to_string()),
        state: word.to_owned(),
        since: known.since,
        last_checked: known.checked,
        last_push: pushed
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|since| Timestamp::default().after(since)),
        last_error: error.map(ToString::to_string),
    }
}
