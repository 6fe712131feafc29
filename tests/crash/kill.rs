//! SIGKILL of the real program at any moment, and again while it recovers: what was answered 200
//! reaches every handler that it matches, or is a dead letter there; sent again, it is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    report, rounds,
    support::{
        daemon::Daemon,
        eventually,
        receiver::{Behaviour, Received},
        world::{QUICK_RETRY, World, event},
    },
};

const SENDERS: usize = 6;

/// A second handler, which gets every other event; the file keeps what it got. A third that
/// nothing reaches, so that dead letters are in play.
const MORE: &str = r#"
[handlers.kopi]
kind = "file"
path = "kopi.jsonl"
match = { type = ["*.even"] }

[handlers.nirgends]
kind = "http"
url = "http://127.0.0.1:1/"
match = { type = ["test.doomed.*"] }
retry = { initial = "20ms", max = "50ms", give_up_after = "100ms" }
"#;

/// What senders know.
#[derive(Default)]
struct Ledger {
    answered: Mutex<BTreeSet<String>>,
    refused: Mutex<BTreeSet<String>>,
}

/// The third handler gets these, and gives them up.
fn is_doomed(id: &str) -> bool {
    // The second that a sender sends in a round, so that there are some on a slow machine, too.
    id.ends_with("-1")
}

fn is_even(id: &str) -> bool {
    id.rsplit('-').next().unwrap().parse::<usize>().unwrap().is_multiple_of(2)
}

fn numbered(id: &str) -> String {
    let fate = if is_doomed(id) { "doomed" } else { "fine" };
    let parity = if is_even(id) { "even" } else { "odd" };
    let ty = format!("test.{fate}.{parity}");
    event(id).replace("no.altinn.correspondence.correspondencepublished", &ty)
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
        let Ok(answer) = request.body(numbered(&id)).send().await else { return };
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

/// How many dead letters a handler has, and ids of the newest.
async fn buried(daemon: &Daemon, handler: &str) -> (u64, BTreeSet<String>) {
    let path = format!("/v1/dead-letters?handler={handler}&limit=1000&newest");
    let letters = daemon.get(&path).await;
    let id = |letter: &serde_json::Value| letter["event"]["id"].as_str().unwrap().to_owned();
    let ids = letters.as_array().unwrap().iter().map(id).collect();
    let name = format!("brevdue_handler_dead_letters{{handler=\"{handler}\"}}");
    (metric(&daemon.metrics().await, &name), ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_lose_nothing_that_was_answered() {
    let rounds = rounds(30, 200);
    let world = World::with(|_| {}, QUICK_RETRY, MORE).await;
    let ledger = Arc::new(Ledger::default());
    for number in 0..rounds {
        // The handler fails in every third round, so that retries are in play when it is killed.
        let behaviour = if number % 3 == 2 { 500 } else { 200 };
        world.receiver.behave(Behaviour::Answer(behaviour));
        round(&world, number, &ledger).await;
    }
    world.receiver.behave(Behaviour::Answer(200));
    let daemon = world.daemon().await;
    drained(&daemon).await;
    let answered = ledger.answered.lock().unwrap().clone();
    assert!(answered.len() > rounds, "only {} events were answered", answered.len());
    known_again(&world, &daemon, &answered).await;
    drained(&daemon).await;

    let (dead, newest) = buried(&daemon, "nirgends").await;
    let doomed: BTreeSet<_> = answered.iter().filter(|id| is_doomed(id)).cloned().collect();
    let missing = doomed.difference(&newest).count();
    assert!(!doomed.is_empty() && newest.iter().all(|id| is_doomed(id)), "{newest:?}");
    assert!(missing == 0 || newest.len() == 1000, "{missing} dead letters are missing");
    assert!(dead >= u64::try_from(doomed.len()).unwrap(), "{dead} of {}", doomed.len());
    assert!(daemon.stop().await.success());
    let got: BTreeSet<_> = world.receiver.received().iter().map(Received::id).collect();
    assert!(answered.is_subset(&got), "an answered event never came");
    keys_are_stable_and_nothing_refused_came(&world, &ledger);
    the_file_has_what_it_matches(&world, &answered);
    report(&format!(
        "kill -9: {rounds} rounds, {} kills, {} events answered, {dead} dead letters, 0 lost",
        2 * rounds,
        answered.len(),
    ));
}

/// Sends everything that was answered once more: none of it is new.
async fn known_again(world: &World, daemon: &Daemon, answered: &BTreeSet<String>) {
    const KNOWN: &str = "brevdue_events_duplicate_total{hook=\"innboks\"}";
    let before = metric(&daemon.metrics().await, KNOWN);
    let all: Vec<String> = answered.iter().cloned().collect();
    let mut senders = JoinSet::new();
    for some in all.chunks(all.len().div_ceil(SENDERS)) {
        let (client, url, some) = (world.client.clone(), world.hook("innboks"), some.to_vec());
        senders.spawn(async move {
            for id in some {
                let request = client.post(&url).header("content-type", "application/json");
                let answer = request.body(numbered(&id)).send().await.unwrap();
                assert_eq!(answer.status(), 200);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    let known = metric(&daemon.metrics().await, KNOWN) - before;
    assert_eq!(known, u64::try_from(answered.len()).unwrap(), "an answered event is new again");
}

fn metric(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
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
    let even = |id: &&String| is_even(id);
    assert!(answered.iter().filter(even).all(|id| copied.contains(id)), "the file misses one");
    assert!(copied.iter().all(|id| is_even(id)), "the file has one that it does not match");
}
