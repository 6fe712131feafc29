//! The composition root: the only place that knows every kind of source, handler and store.
//!
//! Owns the order of starting (bind, open the store, listen, then tell Altinn) and of stopping.

mod admin;
pub mod altinn;
mod core;
pub mod descriptors;
mod feed;
pub mod files;
mod handlers;
mod hooks;
pub mod reload;
mod reloadable;
pub mod rotate;
mod sockets;

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{core::Core, descriptors::Room};
use crate::{
    altinn::subscriptions::public_url_probe::Challenge,
    clock::Clock,
    config::{AllowFrom, AllowFromMode, Config},
    dispatch::{self, Dispatcher, filter::Filter, unmatched::Unmatched},
    ingress::{self, allow::AllowList},
    metrics::{Metrics, TurnedAwayLabels},
    queue::{
        Queue as _,
        sled::{DeadLetterBounds, Options, SledQueue},
    },
    reaper,
    server::{Gauges, Limits, Server, Socket, TurnedAway, bodies::Bodies, tls::Certificates},
    supervisor::Supervisor,
    systemd,
};

/// The last commit gets this long after the grace period.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// The running daemon.
#[derive(Debug)]
pub struct App {
    supervisor: Supervisor,
    queue: SledQueue,
    stopping: Arc<AtomicBool>,
    reload: Arc<reload::Reload>,
    /// Where hooks are listened for, with the ports that the system chose.
    pub addresses: Vec<SocketAddr>,
    /// Where the admin API is listened for over TCP.
    pub admin_address: Option<SocketAddr>,
}

impl App {
    /// Starts everything; when it returns, hooks are answered.
    pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        private_directory(&config.data_dir)?;
        let challenge = Arc::<Challenge>::default();
        let room = descriptors::prepare(&config)?;
        // Bound before anything else: a port that is taken is found before the store is touched.
        let open = Arc::clone(&challenge);
        let sockets = sockets::bind(&config, room, move || open.is_open())?;
        let hooks = hooks::Hooks::build(&config, &clock)?;
        let token = admin::token(&config)?;
        let events = altinn::connect(&config, &clock, &metrics)?;
        let reconciler = altinn::reconciliation(&config, events.as_ref(), &hooks, &challenge)?;
        let handlers = handlers::build(&config, &clock)?;
        let queue = open_queue(&config, &clock, &metrics).await?;
        let core = Core::new(config, clock, metrics, queue);

        let mut supervisor = Supervisor::new(core.config.shutdown_grace);
        core.dispatch(&mut supervisor, &handlers, room);
        let state = reconciler.as_ref().map(altinn::Reconciliation::status);
        // Nobody waits for the wake-up where there is no reconciliation.
        let validated = reconciler.as_ref().map(altinn::Reconciliation::wake).unwrap_or_default();
        let rotate = rotate::rotation(&core.config, &hooks.secrets, &validated);
        admin::spawn(&mut supervisor, sockets.admin, &core, (state, rotate), token.clone());
        let mut service = core.hooks(&hooks, &validated, supervisor.stopping());
        service.well_known = Arc::new(move |path| challenge.answer(path));
        let refusals = Arc::clone(&service.refusals);
        let server = core.hook_endpoint(&hooks, service, sockets.hooks, room.connections)?;
        let parts = reload::parts(&core.config, &hooks, events.as_ref(), token);
        let stop = supervisor.stopping();
        supervisor.spawn("the hook endpoint", async move { Ok(server.run(stop).await?) });
        let stop = supervisor.stopping();
        supervisor.spawn("the log of refusals", async move {
            refusals.run(stop).await;
            Ok(())
        });
        // Only now: Altinn may call before its answer to the first subscription is read.
        if let (Some(reconciler), Some(events)) = (reconciler, events) {
            let begun = feed::spawn(&mut supervisor, &core, events, reconciler.status())?;
            let stop = supervisor.stopping();
            supervisor.spawn("reconciliation", async move {
                // What is stored at Altinn from the first subscription on must be after the cursor.
                feed::before(begun, &stop).await;
                reconciler.run(stop).await
            });
        }
        supervisor.spawn("the store", store(core.queue.clone(), supervisor.stopping()));
        supervisor.spawn("the watchdog", watchdog(supervisor.stopping()));
        supervisor.spawn("the reaper", reaper::run(supervisor.stopping()));
        Ok(Self {
            supervisor,
            queue: core.queue,
            stopping: core.stopping,
            reload: Arc::new(reload::Reload { parts, handlers, wake: validated }),
            addresses: sockets.addresses,
            admin_address: sockets.admin_address,
        })
    }

    /// What SIGHUP does.
    pub fn reload(&self) -> Arc<reload::Reload> {
        Arc::clone(&self.reload)
    }

    /// Runs until `signal`, or until a part fails; then stops in order: not ready, no new
    /// connections, what is in flight, the last commit.
    pub async fn run(self, signal: impl Future<Output = ()>) -> anyhow::Result<()> {
        let stopping = Arc::clone(&self.stopping);
        let ended = self
            .supervisor
            .run(async {
                signal.await;
                stopping.store(true, Ordering::SeqCst);
                systemd::stopping();
            })
            .await;
        let closed = tokio::time::timeout(LAST_COMMIT, self.queue.close()).await;
        let closed = closed.context("the last commit took too long").and_then(|r| Ok(r?));
        ended.and(closed)
    }
}

impl Core {
    fn new(config: Config, clock: Clock, metrics: Metrics, queue: SledQueue) -> Self {
        let filters = config.handlers.values().map(|handler| Filter::new(&handler.matches));
        let unmatched = Arc::new(Unmatched::new(filters.collect(), metrics.clone()));
        let watch = feed::watch(&config, &clock, &metrics);
        Self { config, clock, metrics, queue, unmatched, watch, stopping: Arc::default() }
    }

    /// One dispatcher for each handler.
    fn dispatch(&self, supervisor: &mut Supervisor, handlers: &handlers::Handlers, room: Room) {
        for (name, settings) in &self.config.handlers {
            let Some(handler) = handlers.get(name) else { continue };
            let dispatcher = Dispatcher {
                name: name.clone(),
                queue: self.queue.clone(),
                handler: Arc::clone(handler),
                filter: Filter::new(&settings.matches),
                limits: dispatch::Limits {
                    concurrency: room.deliveries(settings),
                    ..dispatch::Limits::new(settings)
                },
                clock: self.clock.clone(),
                metrics: self.metrics.clone(),
            };
            let stop = supervisor.stopping();
            supervisor.spawn("a dispatcher", async move { Ok(dispatcher.run(stop).await?) });
        }
    }

    /// The hooks.
    fn hooks(
        &self,
        hooks: &hooks::Hooks,
        validated: &Arc<Notify>,
        stop: CancellationToken,
    ) -> ingress::Hooks<SledQueue> {
        let server = &self.config.server;
        let (unmatched, clock) = (Arc::clone(&self.unmatched), self.clock.clone());
        let watch = self.watch.clone();
        ingress::Hooks {
            prefix: server.public_url.path().trim_end_matches('/').to_owned(),
            sources: hooks.sources(&self.config, validated),
            queue: self.queue.clone(),
            max_body: server.max_body,
            bodies: Bodies::new(server.max_body_total),
            body_timeout: server.request_timeout,
            trusted_proxies: server.trusted_proxies.clone(),
            allow_from: server.allow_from.as_ref().map(allow_list),
            refusals: Arc::default(),
            stopping: stop,
            on_stored: Arc::new(move |arrival| {
                unmatched.note(arrival, clock.now());
            }),
            well_known: Arc::new(|_| None),
            on_push: Arc::new(move |name, push| match push {
                ingress::Push::Kept(arrival, appended) => watch.pushed(name, arrival, appended),
                ingress::Push::Refused => watch.refused(name),
            }),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
        }
    }

    /// The hooks on their sockets.
    fn hook_endpoint(
        &self,
        hooks: &hooks::Hooks,
        service: ingress::Hooks<SledQueue>,
        sockets: Vec<Socket>,
        max_connections: NonZeroUsize,
    ) -> anyhow::Result<Server<ingress::Hooks<SledQueue>>> {
        let certificates = hooks.certificates.as_ref();
        let server = &self.config.server;
        let most = i64::try_from(max_connections.get()).unwrap_or(i64::MAX);
        self.metrics.max_connections.set(most);
        Ok(Server {
            sockets,
            tls: certificates.map(Certificates::server_config).transpose()?,
            limits: Limits {
                max_connections,
                handshake_timeout: server.handshake_timeout,
                request_timeout: server.request_timeout,
            },
            service: Arc::new(service),
            gauges: Gauges {
                open: self.metrics.connections.clone(),
                failed: self.metrics.handshakes_failed.clone(),
                turned_away: turned_away(&self.metrics),
            },
        })
    }
}

fn turned_away(metrics: &Metrics) -> TurnedAway {
    let counter = |reason| {
        let labels = TurnedAwayLabels { reason };
        metrics.turned_away.get_or_create(&labels).clone()
    };
    TurnedAway {
        full: counter("full"),
        share: counter("share"),
        not_allowed: counter("not_allowed"),
        no_proxy_header: counter("no_proxy_header"),
        age: counter("age"),
        requests: counter("requests"),
        refusals: counter("refusals"),
    }
}

fn allow_list(allow: &AllowFrom) -> AllowList {
    let enforce = allow.mode == AllowFromMode::Enforce;
    AllowList { networks: allow.networks.clone(), enforce }
}

/// Makes a directory that only we may enter.
fn private_directory(path: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make data_dir {}", path.display()))
}

async fn open_queue(
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<SledQueue> {
    let options = Options {
        directory: config.data_dir.join("queue"),
        max_bytes: config.queue.max_bytes,
        min_free_disk: config.queue.min_free_disk,
        dedup_window: config.queue.dedup_window,
        dedup_max: config.queue.dedup_max,
        retain: config.queue.retain,
        dead_letters: DeadLetterBounds {
            max: config.queue.dead_letters_max,
            bytes: config.queue.dead_letters_bytes,
            age: config.queue.dead_letters_age,
        },
        handlers: config.handlers.iter().map(|(name, h)| (name.clone(), h.start_at)).collect(),
    };
    let patience = SledQueue::patience(&options);
    let (clock, metrics) = (clock.clone(), metrics.clone());
    let opening = tokio::task::spawn_blocking(move || SledQueue::open(options, clock, metrics));
    systemd::with_more_time(opening, patience).await?.context("cannot open the store")
}

/// Ends with an error if the store's thread ends: nothing could be stored, and nothing would say so.
async fn store(queue: SledQueue, stop: CancellationToken) -> anyhow::Result<()> {
    Ok(stop.run_until_cancelled(queue.ended()).await.unwrap_or(Ok(()))?)
}

async fn watchdog(stop: CancellationToken) -> anyhow::Result<()> {
    if let Some(interval) = systemd::watchdog() {
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            systemd::alive();
        }
    }
    stop.cancelled().await;
    Ok(())
}
