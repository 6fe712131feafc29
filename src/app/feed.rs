//! The readers of Altinn's feed from the configuration.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{core::Core, hooks};
use crate::{
    altinn::{
        AltinnTokens,
        events_api::EventsApi,
        feed::{
            Timing,
            client::AltinnFeed,
            cursor,
            filters::Filters,
            push_gap::PushGap,
            reader::{Common, Reader},
        },
        health::Monitor,
        subscriptions::status::Status,
    },
    clock::Clock,
    config::{Altinn, Config},
    metrics::Metrics,
    queue::sled::SledQueue,
    supervisor::Supervisor,
};

/// Pages in memory, of all readers together.
const PAGES_AT_ONCE: usize = 2;
/// Between looks at the health of the subscriptions, at the most.
const LOOK: Duration = Duration::from_secs(10);
/// A subscription may be on its way for so long before that is told.
const GRACE: Duration = Duration::from_secs(60);

/// Who notes which way events come. There is one even if nothing is read.
pub(super) fn watch(config: &Config, clock: &Clock, metrics: &Metrics) -> PushGap {
    let settle = config.altinn.as_ref().map_or(Duration::ZERO, |altinn| altinn.overlap);
    PushGap::new(clock.clone(), metrics.clone(), settle)
}

/// Starts the readers. What comes back ends when all of them have their first cursor.
pub(super) fn spawn(
    supervisor: &mut Supervisor,
    core: &Core,
    events: EventsApi<AltinnTokens>,
    state: watch::Receiver<Status>,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let altinn = core.config.altinn.as_ref().context("there is no [altinn]")?;
    let common = common(core, altinn, events, state.clone())?;
    let (ready, mut begun) = mpsc::channel(1);
    for (name, subscription) in &core.config.subscriptions {
        let filters = Filters {
            resource: subscription.resource.clone(),
            subject: subscription.subject.clone(),
            ty: subscription.ty.clone(),
        };
        let reader = Reader {
            name: name.clone(),
            start: subscription.start_from,
            bookmark: cursor::bookmark(&altinn.platform_url, name, &filters)?,
            filters,
            ready: Some(ready.clone()),
            last: HashSet::new(),
            common: common.clone(),
        };
        let stop = supervisor.stopping();
        supervisor.spawn("a reader of the feed", reader.run(stop));
    }
    let part = |at_most: Duration| (altinn.feed_interval / 10).min(at_most);
    let monitor = Monitor {
        names: core.config.subscriptions.keys().cloned().collect(),
        state,
        watch: core.watch.clone(),
        interval: part(LOOK),
        grace: part(GRACE),
        clock: core.clock.clone(),
        metrics: core.metrics.clone(),
    };
    supervisor.spawn("the monitor", monitor.run(supervisor.stopping()));
    Ok(async move {
        // Nothing is ever sent: it ends when the last reader lets go of its side.
        begun.recv().await;
    })
}

fn common(
    core: &Core,
    altinn: &Altinn,
    events: EventsApi<AltinnTokens>,
    state: watch::Receiver<Status>,
) -> anyhow::Result<Common<SledQueue, AltinnFeed<AltinnTokens>>> {
    let timing = Timing::from_interval(altinn.feed_interval, altinn.overlap);
    let (unmatched, clock) = (Arc::clone(&core.unmatched), core.clock.clone());
    Ok(Common {
        queue: core.queue.clone(),
        pages: AltinnFeed::new(events, core.config.server.max_body),
        subscriptions: hooks::memberships(&core.config),
        state,
        watch: core.watch.clone(),
        on_stored: Arc::new(move |arrival| {
            unmatched.note(arrival, clock.now());
        }),
        pages_at_once: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
        timing: timing.context("altinn.feed_interval")?,
        clock: core.clock.clone(),
    })
}

/// Waits for `begun`, unless it is time to stop.
pub(super) async fn before(begun: impl Future<Output = ()>, stop: &CancellationToken) {
    stop.run_until_cancelled(begun).await;
}
