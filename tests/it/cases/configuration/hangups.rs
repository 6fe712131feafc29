//! SIGHUP at any moment: while deliveries are under way, twice, with files that are broken by then, and during the end.

use std::{collections::BTreeMap, fs};

use rustix::process::Signal;

use crate::support::{
    daemon::Daemon,
    eventually,
    receiver::Behaviour,
    world::{QUICK_RETRY, World, event},
};

const EVENTS: usize = 30;

/// What the command noted: the keys of each event.
fn noted(world: &World) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(world.folder.path().join("noted")).unwrap_or_default();
    let mut noted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (id, key) = line.split_once(' ').expect("an id and a key");
        noted.entry(id.to_owned()).or_default().push(key.to_owned());
    }
    noted
}

fn hang_up_twice(daemon: &Daemon) {
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::HUP);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_are_under_way_survive_every_hangup() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("noted");
    let more = format!(
        "[handlers.skript]\nkind = \"exec\"\nconcurrency = 4\n{QUICK_RETRY}\n\
         command = [\"/bin/sh\", \"-c\", \"cat >/dev/null; sleep 0.1; echo $CE_ID $IDEMPOTENCY_KEY >>{}\"]\n\
         [handlers.kopi]\nkind = \"file\"\npath = \"kopi.jsonl\"\n",
        link.display()
    );
    let world = World::with(|_| {}, QUICK_RETRY, &more).await;
    std::os::unix::fs::symlink(&link, world.folder.path().join("noted")).unwrap();
    world.edit("data_dir = \"data\"\n", "data_dir = \"data\"\nshutdown_grace = \"3s\"\n");
    let daemon = world.daemon().await;
    world.validated(1).await;
    // The first attempts never get an answer: they are under way when all else happens.
    world.receiver.behave(Behaviour::Hang);
    let key = world.folder.path().join("tls/privkey.pem");
    let kept = fs::read(&key).unwrap();
    let config = fs::read(&world.config).unwrap();
    for n in 0..EVENTS {
        let answer = world.push("innboks", event(&n.to_string())).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        if n % 5 == 4 {
            hang_up_twice(&daemon);
        }
        if n == EVENTS / 2 {
            fs::write(&key, "no key").unwrap();
            fs::write(&world.config, "[no TOML").unwrap();
        }
    }
    eventually("a reload that failed", || async {
        daemon.log().contains("kept as it was").then_some(())
    })
    .await;
    hang_up_twice(&daemon);
    daemon.signal(Signal::TERM);
    hang_up_twice(&daemon);
    assert!(daemon.ended().await.success());
    fs::write(&key, kept).unwrap();
    fs::write(&world.config, config).unwrap();
    world.receiver.behave(Behaviour::Answer(200));
    let daemon = world.daemon().await;
    let ids: Vec<_> = (0..EVENTS).map(|n| n.to_string()).collect();
    eventually("every event at both", || async {
        let noted = noted(&world);
        let both = |id: &String| noted.contains_key(id) && !world.receiver.of(id).is_empty();
        ids.iter().all(both).then_some(())
    })
    .await;
    world.settled().await;
    for (id, keys) in noted(&world) {
        assert!(keys.iter().all(|key| *key == keys[0]), "{id}: {keys:?}");
    }
    for id in &ids {
        let received = world.receiver.of(id);
        let keys: Vec<_> = received.iter().map(|one| one.header("idempotency-key")).collect();
        assert!(keys.iter().all(|key| *key == keys[0]), "{id}: {keys:?}");
    }
    let lines = fs::read_to_string(world.folder.path().join("kopi.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), EVENTS, "the file has each once");
    assert!(daemon.stop().await.success());
}
