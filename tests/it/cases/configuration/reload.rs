//! SIGHUP with good and bad files.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::symlink,
};

use rustix::process::Signal;

use super::desk::block;
use crate::support::{
    daemon::Daemon,
    eventually,
    steps::{self, rows},
    world::World,
};

/// Waits until the log has this many lines with these words.
async fn logged(daemon: &Daemon, words: &str, count: usize) -> String {
    eventually(words, || async {
        let log = daemon.log();
        let found: Vec<_> = log.lines().filter(|line| line.contains(words)).collect();
        (found.len() >= count).then(|| found.last().copied().unwrap_or_default().to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_not_whole_never_takes_the_place_of_a_good_one() {
    let world = World::new().await;
    let path = world.folder.path().join("tls/fullchain.pem");
    let daemon = world.daemon().await;
    world.validated(1).await;
    let good = fs::read_to_string(&path).unwrap();
    let leaf = good.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let bad = [
        format!("{leaf}{}", block("CERTIFICATE", b"\x30\x03\x02\x01\x00")),
        good.replace("-----\n-----BEGIN", "----------BEGIN"),
        good[..good.len() - 40].to_owned(),
        world.folder.path().display().to_string(),
        String::new(),
    ];
    for (count, text) in (1..).zip(&bad) {
        fs::write(&path, text).unwrap();
        daemon.signal(Signal::HUP);
        let line = logged(&daemon, "kept as it was", count).await;
        assert!(line.contains("the certificate") && line.contains("fullchain.pem"), "{line}");
        // A new connection each time, and a client that looks at the whole chain.
        let client = world.client_without_connections();
        let answer = client.get(world.url("/hooks/innboks")).send().await.unwrap();
        assert_eq!(answer.status(), 405, "{text}");
    }
    fs::write(&path, &good).unwrap();
    daemon.signal(Signal::HUP);
    logged(&daemon, "\"the certificate\"", bad.len() + 1).await;
    assert!(!daemon.log().contains("server.tls.certificate_file"), "{}", daemon.log());
    // A whole one that clients will object to is taken, and that is told.
    let other = rcgen::generate_simple_self_signed(vec!["other.example".to_owned()]).unwrap();
    fs::write(&path, other.cert.pem()).unwrap();
    fs::write(path.with_file_name("privkey.pem"), other.signing_key.serialize_pem()).unwrap();
    daemon.signal(Signal::HUP);
    for words in ["is not for localhost", "is self-signed"] {
        let line = logged(&daemon, words, 1).await;
        assert!(line.contains("WARN") && line.contains("server.tls.certificate_file"), "{line}");
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_the_admin_api_is_read_again() {
    let world = World::new().await;
    let path = world.folder.path().join("admin-token");
    fs::write(&path, "the-first-token-01\n").unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let lines = format!("[admin]\nlisten = \"127.0.0.1:{port}\"\ntoken_file = \"admin-token\"\n");
    world.edit("[admin]\n", &lines);
    let daemon = world.daemon().await;
    world.validated(1).await;
    let status = async |token: &str| {
        let url = format!("http://127.0.0.1:{port}/v1/status");
        let answer = world.client.get(url).bearer_auth(token).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(status("the-first-token-01").await, 200);
    assert_eq!(status("the-second-token-1").await, 401);
    // Both for a while, as with any other secret.
    fs::write(&path, "the-second-token-1\nthe-first-token-01\n").unwrap();
    daemon.signal(Signal::HUP);
    eventually("the second token", || async {
        (status("the-second-token-1").await == 200).then_some(())
    })
    .await;
    assert_eq!(status("the-first-token-01").await, 200);
    fs::write(&path, "the-second-token-1\n").unwrap();
    daemon.signal(Signal::HUP);
    eventually("no first token", || async {
        (status("the-first-token-01").await == 401).then_some(())
    })
    .await;
    fs::write(&path, "kort\n").unwrap();
    daemon.signal(Signal::HUP);
    let line = logged(&daemon, "kept as it was", 1).await;
    assert!(
        line.contains("the token of the admin API") && line.contains("shorter than 16"),
        "{line}"
    );
    // There is no key of the gateway's.
    assert!(!daemon.log().contains("gateway"), "{}", daemon.log());
    assert_eq!((status("the-second-token-1").await, status("kort").await), (200, 401));
    assert!(daemon.stop().await.success());
}

/// A file that has another text each time that it is read, and each could be a secret.
const NEVER_WHOLE: &str = "/proc/sys/kernel/random/uuid";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_being_written_is_never_told_to_altinn() {
    let world = World::new().await;
    let file = world.folder.path().join("innboks-secret");
    fs::write(&file, "first-secret-of-the-operator\n").unwrap();
    let lines = "[subscriptions.innboks]\nsecret_file = \"innboks-secret\"\n";
    world.edit("[subscriptions.innboks]\n", lines);
    world.altinn_settings(steps::QUICK);
    let daemon = world.daemon().await;
    let old = world.validated(1).await[0]["id"].clone();
    let put = |make: &dyn Fn(&std::path::Path)| {
        let new = file.with_file_name("new");
        make(&new);
        fs::rename(new, &file).unwrap();
    };
    put(&|new| symlink(NEVER_WHOLE, new).unwrap());
    daemon.signal(Signal::HUP);
    let line = logged(&daemon, "kept as it was", 1).await;
    for words in ["WARN", "subscriptions.innboks.secret_file", "innboks-secret", "renaming"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert_eq!(daemon.log().matches("the secret of innboks").count(), 1, "{}", daemon.log());
    // Altinn was asked each second meanwhile.
    let all = rows(&world).await;
    assert!(matches!(&all[..], [one] if one["id"] == old), "{all:?}");
    // It is whole before the reload has given up: no other signal is needed.
    daemon.signal(Signal::HUP);
    put(&|new| fs::write(new, "second-secret-of-the-operator\n").unwrap());
    let left = steps::one_is_left(&world, &old).await;
    assert!(left["endPoint"].as_str().unwrap().contains("second-secret"), "{left}");
    // Who waits for a file hears the signal to stop.
    put(&|new| symlink(NEVER_WHOLE, new).unwrap());
    daemon.signal(Signal::HUP);
    let log = file.with_file_name("brevdue.log");
    assert!(daemon.stop().await.success());
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("kept as it was").count(), 1, "{log}");
}
