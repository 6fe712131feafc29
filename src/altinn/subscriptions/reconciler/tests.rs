mod bounded;
mod one_shot;
mod outages;
mod replacing;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};
use url::Url;

use super::*;
use crate::{
    altinn::{
        AltinnTokens,
        events_api::ApiError,
        http::error_text::ErrorText,
        subscriptions::{
            api::Spec,
            commands,
            history::HookCode,
            history_file::HistoryFile,
            hook_url::code_of,
            plan::{Desired, StaleReason},
        },
        testing::{CREATE, LIST, Reply, Rig, Seen, TOKEN, signed_in},
    },
    backoff::Backoff,
    clock::{Clock, Timestamp},
    metrics::HookLabels,
    name::HookName,
};

const DEADLINE: Duration = Duration::from_secs(20);
const OVERLAP: Duration = Duration::from_secs(3900);

/// Altinn's side: its rows, and how it behaves.
#[derive(Default)]
struct Altinn {
    rows: Mutex<Vec<Value>>,
    /// Answers every list with this status, if not 0.
    outage: AtomicU16,
    /// Refuses to create for resources that contain this.
    refuses: Mutex<Option<&'static str>>,
    /// Its list does not show what it took.
    forgetful: AtomicBool,
    /// Its rows are another's: none may be removed.
    anothers: AtomicBool,
}

impl Altinn {
    fn answer(&self, seen: &Seen) -> Reply {
        let outage = self.outage.load(Ordering::SeqCst);
        match seen.call.as_str() {
            _ if outage != 0 => Reply::new(outage, r#""down""#),
            LIST if self.forgetful.load(Ordering::SeqCst) => {
                Reply::new(200, json!({"subscriptions": []}))
            }
            LIST => Reply::new(200, json!({"subscriptions": *self.rows.lock().unwrap()})),
            CREATE => self.create(seen.json()),
            call => match call.strip_prefix("DELETE /events/api/v1/subscriptions/") {
                Some(id) => self.delete(id),
                None => Reply::new(500, ""),
            },
        }
    }

    fn delete(&self, id: &str) -> Reply {
        let mut rows = self.rows.lock().unwrap();
        let id: i64 = id.parse().unwrap();
        let Some(at) = rows.iter().position(|row| row["id"] == id) else {
            return Reply::new(404, "");
        };
        if self.anothers.load(Ordering::SeqCst) {
            return Reply::new(403, "");
        }
        rows.remove(at);
        Reply::new(200, "")
    }

    fn ids(&self) -> Vec<i64> {
        self.rows.lock().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
    }

    fn create(&self, mut asked: Value) -> Reply {
        let resource = asked["resourceFilter"].as_str().unwrap();
        if self.refuses.lock().unwrap().is_some_and(|refused| resource.contains(refused)) {
            return Reply::new(403, r#""Not authorized to create a subscription.""#);
        }
        let mut rows = self.rows.lock().unwrap();
        let known = rows.iter().find(|row| row["endPoint"] == asked["endPoint"]);
        if let Some(known) = known {
            return Reply::new(201, known);
        }
        let last = rows.iter().filter_map(|row| row["id"].as_u64()).max();
        asked["id"] = json!(last.unwrap_or_default() + 1);
        asked["validated"] = json!(false);
        rows.push(asked.clone());
        Reply::new(201, asked)
    }

    fn validate_all(&self) {
        self.rows.lock().unwrap().iter_mut().for_each(|row| row["validated"] = json!(true));
    }

    fn refuse(&self, resource: Option<&'static str>) {
        *self.refuses.lock().unwrap() = resource;
    }
}

struct Case {
    altinn: Arc<Altinn>,
    rig: Rig,
    clock: Clock,
    desired: Arc<Mutex<Vec<Desired>>>,
}

fn wanted(name: &str, code: &str) -> Desired {
    let endpoint = format!("https://hooks.example.no/hooks/{name}?code={code}").parse().unwrap();
    let spec = Spec {
        endpoint,
        resource: format!("urn:altinn:resource:{name}"),
        subject: None,
        ty: None,
        include_subunits: false,
    };
    Desired { name: name.parse().unwrap(), spec }
}

fn name(name: &str) -> HookName {
    name.parse().unwrap()
}

impl Case {
    async fn new(desired: Vec<Desired>) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let altinn = Arc::new(Altinn::default());
        let answers = {
            let altinn = altinn.clone();
            move |seen: &Seen| altinn.answer(seen)
        };
        let rig = Rig::new(&clock, signed_in(&clock, answers)).await;
        Self { altinn, rig, clock, desired: Arc::new(Mutex::new(desired)) }
    }

    fn reconciler(&self, timing: Timing) -> Reconciler<AltinnTokens> {
        Reconciler::new(self.rig.events.clone(), self.local(), timing)
    }

    fn local(&self) -> Local {
        let (desired, held) = (Arc::clone(&self.desired), Arc::clone(&self.desired));
        let one = |wanted: &Desired| HookCode {
            name: wanted.name.clone(),
            code: code_of(&wanted.spec.endpoint).unwrap(),
            current: true,
        };
        Local {
            desired: Arc::new(move || desired.lock().unwrap().clone()),
            codes: Arc::new(move || held.lock().unwrap().iter().map(one).collect()),
            remembered: Arc::new(|_| {}),
            public_url: public_url(),
            overlap: OVERLAP,
            history: HistoryFile::new(self.rig.folder.path()),
            probe: None,
        }
    }

    fn want(&self, desired: Vec<Desired>) {
        *self.desired.lock().unwrap() = desired;
    }

    fn creates(&self) -> usize {
        self.rig.server.count(CREATE)
    }

    fn gauge(&self, hook: &str) -> i64 {
        let label = HookLabels { hook: hook.to_owned() };
        self.rig.metrics.subscription_validated.get_or_create(&label).get()
    }
}

fn public_url() -> Url {
    "https://hooks.example.no".parse().unwrap()
}

/// Nothing comes by itself within a test's time, except what is made shorter.
fn slow() -> Timing {
    let hour = Duration::from_secs(3600);
    let backoff = Backoff::try_new(hour, hour, 1.0).unwrap();
    let patience = Duration::from_secs(600);
    let (gap, floor) = (Duration::ZERO, Duration::ZERO);
    Timing { interval: hour, patience, watch: backoff, retry: backoff, gap, floor }
}

fn soon() -> Backoff {
    Backoff::try_new(Duration::from_millis(5), Duration::from_millis(20), 2.0).unwrap()
}

/// Runs it until `test` is over, then sees that it stops well and has deleted nothing.
async fn while_running<F>(case: &Case, reconciler: Reconciler<AltinnTokens>, test: F)
where
    F: Future<Output = ()>,
{
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(reconciler.run(stop.clone()));
    timeout(DEADLINE, test).await.unwrap();
    stop.cancel();
    timeout(DEADLINE, tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert!(case.rig.server.calls().iter().all(|call| !call.starts_with("DELETE")));
}

async fn until(state: &mut watch::Receiver<Status>, good: impl FnMut(&Status) -> bool) -> Status {
    state.wait_for(good).await.unwrap().clone()
}

#[tokio::test]
async fn what_is_missing_is_created_and_seen_validated_as_soon_as_someone_says_so() {
    let case = Case::new(vec![wanted("a", "code-1"), wanted("b", "code-2")]).await;
    let reconciler = case.reconciler(slow());
    let (mut state, wake) = (reconciler.status(), reconciler.wake());
    while_running(&case, reconciler, async {
        let seen = until(&mut state, |state| {
            state.subscriptions.values().filter(|one| one.id.is_some()).count() == 2
        });
        assert!(seen.await.subscriptions.values().all(|one| !one.validated));
        assert_eq!((case.gauge("a"), case.gauge("b")), (0, 0));
        case.altinn.validate_all();
        wake.notify_one();
        let seen = until(&mut state, |state| state.subscriptions.values().all(|one| one.validated));
        assert_eq!(seen.await.subscriptions[&name("b")].since, Some(case.clock.now()));
        assert_eq!((case.gauge("a"), case.gauge("b"), case.creates()), (1, 1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_validation_is_watched_for_until_it_comes() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let reconciler = case.reconciler(Timing { watch: soon(), ..slow() });
    let mut state = reconciler.status();
    while_running(&case, reconciler, async {
        until(&mut state, |_| case.rig.server.count(LIST) > 3).await;
        case.altinn.validate_all();
        until(&mut state, |state| state.subscriptions.values().all(|one| one.validated)).await;
        assert_eq!(case.creates(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_validation_that_does_not_come_is_asked_for_again() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let mut reconciler = case.reconciler(slow());
    for (advance, creates) in [(0, 1), (0, 1), (599, 1), (1, 2), (0, 2)] {
        case.clock.advance(Duration::from_secs(advance));
        // The pause after a post is over in good time.
        reconciler.upkeep.attempts.pauses.clear();
        let outlook = reconciler.upkeep.pass().await.unwrap();
        assert_eq!((case.creates(), outlook != Outlook::Settled), (creates, true));
    }
    case.altinn.validate_all();
    assert_eq!(reconciler.upkeep.pass().await.unwrap(), Outlook::Settled);
    assert_eq!(case.creates(), 2);
}

#[tokio::test]
async fn what_an_earlier_process_left_unvalidated_is_asked_for_at_once() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    case.reconciler(slow()).upkeep.pass().await.unwrap();
    assert_eq!(case.creates(), 1);
    case.reconciler(slow()).upkeep.pass().await.unwrap();
    assert_eq!(case.creates(), 2);
}

#[tokio::test]
async fn one_that_is_refused_does_not_keep_the_others_waiting_and_is_tried_again_later() {
    let case = Case::new(vec![wanted("a", "code-1"), wanted("b", "code-2")]).await;
    case.altinn.refuse(Some("resource:a"));
    let mut reconciler = case.reconciler(slow());
    let state = reconciler.status();
    for _ in 0..3 {
        reconciler.upkeep.pass().await.unwrap();
    }
    assert_eq!(case.creates(), 2, "one for each");
    let seen = state.borrow().clone();
    let error = seen.subscriptions[&name("a")].error.as_ref().unwrap();
    assert!(error.text.contains("Not authorized to create"), "{error}");
    assert_eq!(seen.subscriptions[&name("b")].id.unwrap().0, 1);
    assert_eq!(seen.error, None);
    case.altinn.refuse(None);
    reconciler.upkeep.timing = Timing { watch: soon(), retry: soon(), ..slow() };
    reconciler.upkeep.attempts.pauses.clear();
    let mut state = reconciler.status();
    while_running(&case, reconciler, async {
        until(&mut state, |state| state.subscriptions[&name("a")].id.is_some()).await;
        let error = state.borrow().subscriptions[&name("a")].error.clone();
        assert_eq!(error, None);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_tried_again_by_itself() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    case.altinn.refuse(Some("resource:a"));
    let reconciler = case.reconciler(Timing { retry: soon(), ..slow() });
    let mut state = reconciler.status();
    while_running(&case, reconciler, async {
        until(&mut state, |_| case.creates() >= 3).await;
        case.altinn.refuse(None);
        until(&mut state, |state| state.subscriptions[&name("a")].id.is_some()).await;
    })
    .await;
}

#[tokio::test]
async fn a_list_that_does_not_show_what_was_made_leads_to_no_storm() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    case.altinn.forgetful.store(true, Ordering::SeqCst);
    let mut reconciler = case.reconciler(slow());
    for _ in 0..5 {
        reconciler.upkeep.pass().await.unwrap();
    }
    assert_eq!((case.rig.server.count(LIST), case.creates()), (5, 1));
}

#[tokio::test]
async fn a_new_secret_is_subscribed_and_the_old_one_reported_without_it() {
    let case = Case::new(vec![wanted("a", "code-old")]).await;
    let reconciler = case.reconciler(slow());
    let (mut state, wake) = (reconciler.status(), reconciler.wake());
    while_running(&case, reconciler, async {
        until(&mut state, |state| state.subscriptions.values().any(|one| one.id.is_some())).await;
        case.altinn.validate_all();
        *case.desired.lock().unwrap() = vec![wanted("a", "code-new")];
        wake.notify_one();
        let seen = until(&mut state, |state| {
            state.subscriptions[&name("a")].id.is_some_and(|id| id.0 == 2)
        });
        let seen = seen.await;
        assert_eq!((seen.stale[0].id.0, seen.stale[0].reason), (1, StaleReason::OtherCode));
        assert_eq!(seen.foreign, 0);
        let shown = serde_json::to_string(&seen).unwrap();
        assert!(!shown.contains("code-old") && !shown.contains("code-new"), "{shown}");
    })
    .await;
}

#[tokio::test]
async fn wake_ups_during_a_look_lead_to_one_more() {
    let case = Case::new(vec![]).await;
    let reconciler = case.reconciler(slow());
    let (mut state, wake) = (reconciler.status(), reconciler.wake());
    while_running(&case, reconciler, async {
        for _ in 0..100 {
            wake.notify_one();
        }
        until(&mut state, |_| case.rig.server.count(LIST) == 2).await;
        assert_eq!(case.rig.server.count(TOKEN), 1);
    })
    .await;
    assert_eq!(case.rig.server.count(LIST), 2);
}
