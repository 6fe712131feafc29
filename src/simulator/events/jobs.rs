//! Deliveries and validations: attempts on a schedule until one is answered 2xx, or none is left.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{sync::oneshot, time::sleep};
use uuid::Uuid;

use super::{
    cloud_event::{CloudEvent, payload},
    matching,
};
use crate::simulator::{
    options::Engine,
    state::{Delivery, MAX_EVENTS, PushFault, State, StoredEvent, Subscription},
};

/// Waits after the 1st, 2nd, … failed push, in seconds; engine A has one more at the end.
const PUSH_A: [u64; 12] =
    [10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 43_200, 43_200];
const PUSH_B: [u64; 11] = [10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 43_200];
/// Waits after the 1st, 2nd, … failed validation, in seconds.
const VALIDATION_A: [u64; 4] = [30; 4];
const VALIDATION_B: [u64; 8] = [1, 5, 10, 30, 60, 120, 120, 120];
/// The longest time that the shuffling fault holds a first attempt back.
const SHUFFLED_MS: u64 = 150;

fn push_schedule(engine: Engine) -> &'static [u64] {
    match engine {
        Engine::A => &PUSH_A,
        Engine::B => &PUSH_B,
    }
}

fn validation_schedule(engine: Engine) -> &'static [u64] {
    match engine {
        Engine::A => &VALIDATION_A,
        Engine::B => &VALIDATION_B,
    }
}

/// One event (or the validation) on its way to one endpoint, which is copied: what happens to the
/// row later does not matter.
struct Job {
    subscription_id: i32,
    end_point: String,
    /// `None` for the validation, which is a new event at each attempt.
    event: Option<Arc<CloudEvent>>,
    hold: Duration,
}

/// Stores an event if it is new, and fans it out whether it is or not; the number of pushes, or
/// `None` when there is no room.
pub(in crate::simulator) fn publish(state: &Arc<State>, event: CloudEvent) -> Option<usize> {
    let event = Arc::new(event);
    let now = state.now();
    let mut tables = state.tables();
    tables.counts.publishes += 1;
    let identity = (event.text("id").to_owned(), event.text("source").to_owned());
    if !tables.stored_ids.contains(&identity) {
        if tables.events.len() >= MAX_EVENTS {
            return None;
        }
        tables.stored_ids.insert(identity);
        tables.events.push(StoredEvent { event: Arc::clone(&event), at: now });
    }
    let fault = tables.faults.push;
    let copies = match fault {
        Some(PushFault::Drop) => return Some(0),
        Some(PushFault::Duplicate) => 2,
        Some(
            PushFault::Shuffle
            | PushFault::HalfBody
            | PushFault::Disconnect
            | PushFault::ReadTimeout
            | PushFault::Stale,
        )
        | None => 1,
    };
    let rows = matching::fan_out(&mut tables, &state.options, now, &event);
    drop(tables);
    let mut pushes = 0;
    for row in rows.iter().flat_map(|row| std::iter::repeat_n(row, copies)) {
        let hold = match fault {
            Some(PushFault::Shuffle) => Duration::from_millis(fastrand::u64(0..SHUFFLED_MS)),
            Some(_) | None => Duration::ZERO,
        };
        let (subscription_id, end_point) = (row.id, row.end_point.clone());
        let job = Job { subscription_id, end_point, event: Some(Arc::clone(&event)), hold };
        start(state, job)?;
        pushes += 1;
    }
    Some(pushes)
}

/// Begins to validate a row; what comes back tells when the first attempt is over. `None` when
/// there is no room.
pub(in crate::simulator) fn validate(
    state: &Arc<State>,
    row: Subscription,
) -> Option<oneshot::Receiver<()>> {
    let hold = Duration::ZERO;
    start(state, Job { subscription_id: row.id, end_point: row.end_point, event: None, hold })
}

fn start(state: &Arc<State>, job: Job) -> Option<oneshot::Receiver<()>> {
    if !state.tables().take_job() {
        return None;
    }
    let (first, done) = oneshot::channel();
    let shared = Arc::clone(state);
    state.tasks.spawn(async move {
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = run(&shared, job, first) => {}
        }
        shared.tables().jobs -= 1;
    });
    Some(done)
}

async fn run(state: &State, job: Job, first: oneshot::Sender<()>) {
    let schedule = match job.event {
        Some(_) => push_schedule(state.options.engine),
        None => validation_schedule(state.options.engine),
    };
    let mut first = Some(first);
    sleep(job.hold).await;
    for attempt in 1..=schedule.len() + 1 {
        let delivered = try_once(state, &job, attempt).await;
        if let Some(first) = first.take() {
            // Nobody need be waiting for it.
            first.send(()).ok();
        }
        if delivered {
            return;
        }
        let Some(wait) = schedule.get(attempt - 1) else { break };
        sleep(state.options.scaled(Duration::from_secs(*wait))).await;
    }
    state.tables().dead_letters += 1;
}

async fn try_once(state: &State, job: &Job, attempt: usize) -> bool {
    // Never closed, so this is always a slot.
    let slot = state.slots.acquire().await;
    let event = match &job.event {
        Some(event) => Arc::clone(event),
        None => Arc::new(validation_event(state, job.subscription_id)),
    };
    let body = payload(&job.end_point, &event.push_body());
    let fault = state.tables().faults.push;
    let broken = fault.and_then(PushFault::breaks);
    let unseen = fault == Some(PushFault::Stale);
    let result = match broken.filter(|_| attempt == 1 && job.event.is_some()) {
        Some(broken) => state.pusher.break_off(&job.end_point, &body, broken).await,
        None => state.pusher.post(&job.end_point, &body, unseen).await,
    };
    drop(slot);
    let delivered = matches!(result, Ok(200..=299));
    let mut tables = state.tables();
    if let (true, None, Some(row)) =
        (delivered, &job.event, tables.subscriptions.get_mut(&job.subscription_id))
    {
        row.validated = true;
    }
    tables.note(Delivery {
        event_id: event.text("id").to_owned(),
        subscription_id: job.subscription_id,
        validation: job.event.is_none(),
        attempt,
        status: result.as_ref().ok().copied(),
        error: result.err(),
        at: state.now(),
    });
    delivered
}

/// Four attributes and no more, with an id of its own each time.
fn validation_event(state: &State, subscription_id: i32) -> CloudEvent {
    let source = format!("{}/events/api/v1/subscriptions/{subscription_id}", state.base);
    CloudEvent::of(vec![
        ("id", Uuid::new_v4().to_string()),
        ("source", source),
        ("type", "platform.events.validatesubscription".to_owned()),
    ])
}

/// What a publisher is told.
pub(in crate::simulator) fn status(pushed: Option<usize>) -> StatusCode {
    match pushed {
        Some(_) => StatusCode::OK,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests;
