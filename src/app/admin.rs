//! The admin API from its configuration, and what it is told from outside.

use std::{
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use tokio::sync::watch;

use super::{core::Core, hooks, sockets};
use crate::{
    admin::{Access, Admin, Outside, RotateFn, bulk::Bulk, schema},
    altinn::{feed::push_gap::PushGap, health, subscriptions::status::Status},
    clock::Timestamp,
    config::Config,
    metrics::{HookLabels, Metrics},
    name::HookName,
    queue::{RawPush, sled::SledQueue},
    server::{Gauges, Limits, Server, Socket},
    source::{altinn, secrets::HookSecrets},
    supervisor::Supervisor,
};

/// On each kind of socket.
fn limits(max_connections: NonZeroUsize) -> Limits {
    Limits {
        max_connections,
        handshake_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(20),
    }
}

/// The tokens for TCP, if there are any.
pub(super) fn token(config: &Config) -> anyhow::Result<Option<Arc<HookSecrets>>> {
    let read = config.admin.token_file.as_ref().map(HookSecrets::bearer).transpose();
    Ok(read.context("admin.token_file")?.map(Arc::new))
}

/// Starts the API on its sockets; the state is the reconciliation's, if there is one.
pub(super) fn spawn(
    supervisor: &mut Supervisor,
    sockets: sockets::Admin,
    core: &Core,
    (state, rotate): (Option<watch::Receiver<Status>>, RotateFn),
    token: Option<Arc<HookSecrets>>,
) {
    let outside = outside(core, state, rotate);
    let limits = limits(sockets.most);
    serve(supervisor, sockets.unix, service(core, &outside, Access::Socket), limits);
    if let Some(tcp) = sockets.tcp {
        let only_local = core.config.admin.listen.is_some_and(|at| at.ip().is_loopback());
        let access = Access::Tcp { tokens: token, only_local };
        serve(supervisor, vec![tcp], service(core, &outside, access), limits);
    }
}

fn service(core: &Core, outside: &Arc<Outside>, access: Access) -> Admin<SledQueue> {
    Admin {
        queue: core.queue.clone(),
        metrics: core.metrics.clone(),
        clock: core.clock.clone(),
        outside: Arc::clone(outside),
        access,
        bulk: Bulk::default(),
    }
}

fn serve(
    supervisor: &mut Supervisor,
    sockets: Vec<Socket>,
    service: Admin<SledQueue>,
    limits: Limits,
) {
    let server = Server {
        sockets,
        tls: None,
        limits,
        service: Arc::new(service),
        gauges: Gauges::default(),
    };
    let stop = supervisor.stopping();
    supervisor.spawn("the admin API", async move { Ok(server.run(stop).await?) });
}

/// What the admin API cannot see by itself.
fn outside(core: &Core, state: Option<watch::Receiver<Status>>, rotate: RotateFn) -> Arc<Outside> {
    let names: Vec<_> = core.config.subscriptions.keys().cloned().collect();
    let (metrics, watch) = (core.metrics.clone(), core.watch.clone());
    let subscriptions = move || {
        let state = state.as_ref().map(|state| state.borrow().clone()).unwrap_or_default();
        names.iter().map(|name| subscription(name, &state, &watch, &metrics)).collect()
    };
    let unmatched = Arc::clone(&core.unmatched);
    let unmatched = move || {
        let seen = unmatched.snapshot();
        let (last_type, last_at) = seen.last.unzip();
        schema::Unmatched { count: seen.count, last_type, last_at }
    };
    let stopping = Arc::clone(&core.stopping);
    let memberships = hooks::memberships(&core.config);
    let redecode =
        move |push: &RawPush| altinn::again(&memberships, push).map_err(|fault| fault.to_string());
    let (stored, clock) = (Arc::clone(&core.unmatched), core.clock.clone());
    Arc::new(Outside {
        subscriptions: Box::new(subscriptions),
        unmatched: Box::new(unmatched),
        accepting: Box::new(move || !stopping.load(Ordering::SeqCst)),
        rotate,
        redecode: Box::new(redecode),
        on_stored: Box::new(move |arrival| {
            stored.note(arrival, clock.now());
        }),
    })
}

fn subscription(
    name: &HookName,
    state: &Status,
    watch: &PushGap,
    metrics: &Metrics,
) -> schema::Subscription {
    let ways = watch.ways(name);
    let known = state.subscriptions.get(name).cloned().unwrap_or_default();
    let word = match (known.checked, known.id, known.validated) {
        (None, None, _) => "unknown",
        (_, _, true) => "validated",
        (_, Some(_), false) => "not validated",
        (Some(_), None, false) => "missing",
    };
    let pushed = metrics.last_push_seconds.get(&HookLabels::new(name)).map(|gauge| gauge.get());
    let error = known.error.as_ref().or(state.error.as_ref());
    schema::Subscription {
        name: name.to_string(),
        id: known.id.map(|id| id.0.to_string()),
        state: word.to_owned(),
        since: known.since,
        last_checked: known.checked,
        last_push: pushed
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|since| Timestamp::default().after(since)),
        last_error: error.map(ToString::to_string),
        last_feed_event: ways.last_row,
        last_feed_read: ways.last_read,
        events_by_push: ways.pushed,
        events_by_feed: ways.fed,
        troubles: health::troubles(name, state, watch),
    }
}
