//! SIGKILL at random moments: what was answered 200 reaches every handler that it matches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::support::{
    daemon::Daemon,
    eventually,
    receiver::{Behaviour, Received},
    world::{QUICK_RETRY, World, event},
};

const ROUNDS: usize = 30;
const SENDERS: usize = 6;

/// A second handler, which gets every other event; the file keeps what it got.
const SECOND: &str = r#"
[handlers.kopi]
kind = "file"
path = "kopi.jsonl"
match = { type = ["*.even"] }
"#;

/// What senders know.
#[derive(Default)]
struct Ledger {
    answered: Mutex<BTreeSet<String>>,
    refused: Mutex<BTreeSet<String>>,
}

fn numbered(id: &str, even: bool) -> String {
    let ty = if even { "test.even" } else { "test.odd" };
    event(id).replace("no.altinn.correspondence.correspondencepublished", ty)
}

/// Sends until told to stop; every seventh with a wrong secret.
async fn send(
    client: reqwest::Client,
    (good, wrong): (String, String),
    prefix: String,
    stop: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
) {
    for n in 0_usize.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let id = format!("{prefix}-{n}");
        let url = if n % 7 == 6 { &wrong } else { &good };
        let request = client.post(url).header("content-type", "application/json");
        let Ok(answer) = request.body(numbered(&id, n % 2 == 0)).send().await else { return };
        match answer.status().as_u16() {
            200 => assert!(ledger.answered.lock().unwrap().insert(id)),
            401 => assert!(ledger.refused.lock().unwrap().insert(id)),
            503 => {}
            other => panic!("answered {other}"),
        }
    }
}

/// One round: start, send, kill while sending, and kill once more while it recovers.
async fn round(world: &World, number: usize, ledger: &Arc<Ledger>) {
    let daemon = world.daemon().await;
    let stop = Arc::new(AtomicBool::new(false));
    let urls = (world.hook("innboks"), world.url("/hooks/innboks?code=wrong-wrong-wrong-wrong"));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let prefix = format!("{number}-{sender}");
        let (stop, ledger) = (Arc::clone(&stop), Arc::clone(ledger));
        senders.spawn(send(world.client.clone(), urls.clone(), prefix, stop, ledger));
    }
    // The moment is the point: any is as good as any other.
    tokio::time::sleep(Duration::from_millis(fastrand::u64(5..400))).await;
    daemon.kill();
    stop.store(true, Ordering::SeqCst);
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    let recovering = Daemon::spawn(&world.config, world.folder.path());
    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..120))).await;
    recovering.kill();
}

/// Waits until nothing is under way any more.
async fn drained(daemon: &Daemon) {
    eventually("an empty queue", || async {
        let status = daemon.get("/v1/status").await;
        let handlers = status["handlers"].as_array()?.clone();
        let idle = |h: &serde_json::Value| h["pending"] == 0 && h["retrying"] == 0;
        handlers.iter().all(idle).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_kills_at_random_moments_lose_nothing_that_was_answered() {
    let world = World::with(|_| {}, QUICK_RETRY, SECOND).await;
    let ledger = Arc::new(Ledger::default());
    for number in 0..ROUNDS {
        // The handler fails in every third round, so that retries are in play when it is killed.
        let behaviour = if number % 3 == 2 { 500 } else { 200 };
        world.receiver.behave(Behaviour::Answer(behaviour));
        round(&world, number, &ledger).await;
    }

    world.receiver.behave(Behaviour::Answer(200));
    let daemon = world.daemon().await;
    let answered = ledger.answered.lock().unwrap().clone();
    assert!(answered.len() > ROUNDS, "only {} events were answered", answered.len());
    eventually("every answered event at the handler", || async {
        let got: BTreeSet<_> = world.receiver.received().iter().map(Received::id).collect();
        answered.is_subset(&got).then_some(())
    })
    .await;
    drained(&daemon).await;
    assert!(daemon.stop().await.success());
    keys_are_stable_and_nothing_refused_came(&world, &ledger);
    the_file_has_what_it_matches(&world, &answered);
}

/// Every attempt at an event, over all restarts, has the same key, and no two events share one.
fn keys_are_stable_and_nothing_refused_came(world: &World, ledger: &Ledger) {
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    for one in world.receiver.received() {
        let key = one.header("idempotency-key").to_owned();
        assert_eq!(keys.entry(one.id()).or_insert_with(|| key.clone()), &key);
    }
    assert_eq!(keys.values().collect::<BTreeSet<_>>().len(), keys.len());
    let refused = ledger.refused.lock().unwrap();
    assert!(!refused.is_empty());
    assert!(keys.keys().all(|id| !refused.contains(id)), "delivered what was refused");
}

fn the_file_has_what_it_matches(world: &World, answered: &BTreeSet<String>) {
    let copy = std::fs::read_to_string(world.folder.path().join("kopi.jsonl")).unwrap();
    let copied: BTreeSet<String> = copy
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("whole lines"))
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    let even =
        |id: &&String| id.rsplit('-').next().unwrap().parse::<usize>().unwrap().is_multiple_of(2);
    assert!(answered.iter().filter(even).all(|id| copied.contains(id)), "the file misses one");
    assert!(copied.iter().all(|id| even(&id)), "the file has one that it does not match");
}
