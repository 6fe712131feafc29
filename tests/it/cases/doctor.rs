//! `brevdue doctor` against the stand-in: a healthy world is all good, and each seeded fault is named
//! by the check that is for it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use brevdue::simulator::options::{Options, SystemUser};
use serde_json::{Value, json};

use crate::support::{
    daemon::BINARY,
    eventually,
    world::{QUICK_RETRY, World},
};

const CUSTOMER: &str = "310000001";
const SCOPES: [&str; 5] = [
    "altinn:events.subscribe",
    "altinn:correspondence.read",
    "altinn:authentication/systemregister.write",
    "altinn:authentication/systemuser.request.write",
    "altinn:authentication/systemuser.request.read",
];

/// A client with every scope that is looked at, and one customer.
fn vendor(options: &mut Options) {
    let client = &mut options.clients[0];
    client.scopes.extend(SCOPES.map(str::to_owned));
    client.scopes.push("altinn:correspondence.write".to_owned());
    client.system_users = vec![SystemUser {
        org: CUSTOMER.to_owned(),
        external_ref: Some("customer 17".to_owned()),
        uuid: "ebe4a681-0a8c-429e-a36f-8f9ca942b59f".to_owned(),
    }];
}

/// A daemon's world whose client acts for the customer.
async fn world(options: impl FnOnce(&mut Options)) -> World {
    let world = World::with(
        |chosen| {
            vendor(chosen);
            options(chosen);
        },
        QUICK_RETRY,
        "",
    )
    .await;
    let scopes = format!(
        "scopes = {SCOPES:?}\nsystem_user = {{ org = \"{CUSTOMER}\", external_ref = \"customer 17\" }}"
    );
    edit(&world, "scopes = [\"altinn:events.subscribe\"]", &scopes);
    world
}

fn edit(world: &World, from: &str, to: &str) {
    let text = fs::read_to_string(&world.config).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    fs::write(&world.config, text.replace(from, to)).unwrap();
}

async fn doctor(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(&world.config).arg("doctor").args(arguments);
    // The stand-in is in this process, and must not be blocked.
    let run = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    run.await.expect("it ends")
}

/// What it found, as `check` or `check (of)` and the outcome, and the whole.
async fn found(world: &World) -> (bool, Vec<(String, String)>, String) {
    let output = doctor(world, &["--json"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let whole: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(whole["good"] == true, output.status.success(), "{text}");
    let name = |one: &Value| match one["of"].as_str() {
        Some(of) => format!("{} ({of})", one["check"].as_str().unwrap()),
        None => one["check"].as_str().unwrap().to_owned(),
    };
    let checks = whole["checks"].as_array().unwrap();
    for one in checks {
        assert_eq!(one["outcome"] == "bad", one.get("cure").is_some(), "{one}");
    }
    let found =
        checks.iter().map(|one| (name(one), one["outcome"].as_str().unwrap().to_owned())).collect();
    (whole["good"] == true, found, text)
}

/// The names of what is bad.
async fn bad(world: &World) -> (Vec<String>, String) {
    let (_, found, text) = found(world).await;
    let bad = found.into_iter().filter(|(_, outcome)| outcome == "bad").map(|(name, _)| name);
    (bad.collect(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_world_is_all_good_and_nothing_is_changed_or_told() {
    let world = world(|_| {}).await;
    let daemon = world.daemon().await;
    let rows = world.validated(1).await;
    let posts = world.altinn("requests").await["subscription_posts"].clone();
    let (good, found, text) = found(&world).await;
    assert!(good, "{text}");
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "clock",
        "metadata (Maskinporten)",
        "metadata (Altinn)",
        "key",
        "token (altinn:events.subscribe)",
        "token (altinn:correspondence.read)",
        "token (altinn:authentication/systemregister.write)",
        "token (altinn:authentication/systemuser.request.write)",
        "token (altinn:authentication/systemuser.request.read)",
        "system user",
        "exchange",
        "resource (nabovarsel)",
        "policy (nabovarsel)",
        "read access (nabovarsel)",
        "scopes",
        "subscriptions",
        "validation (innboks)",
        "vendor (system)",
        "vendor (system user)",
        "vendor (request)",
        "endpoint",
        "certificate",
        "secret files",
        "disk space",
        "sync time",
        "queue age",
    ];
    assert_eq!(names, expected);
    assert!(found.iter().all(|(_, outcome)| outcome == "good"), "{text}");

    let lines = String::from_utf8(doctor(&world, &[]).await.stdout).unwrap();
    assert_eq!(lines.lines().count(), expected.len(), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("good ")), "{lines}");
    let secret = world.secret("innboks");
    for told in [text, lines] {
        assert!(!told.contains(&secret) && !told.contains("eyJ"), "{told}");
        assert!(!told.contains(CUSTOMER), "{told}");
    }
    assert_eq!(world.altinn("requests").await["subscription_posts"], posts);
    assert_eq!(world.altinn("subscriptions").await, json!(rows));
    assert!(daemon.stop().await.success());
}

/// Faults that the stand-in makes while all runs, and the check that must name each; others may be
/// bad because of it, but none before it.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_the_other_side_is_named_by_its_check() {
    let world = world(|_| {}).await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    for (fault, named, words) in [
        (json!({ "clock_offset": 8 }), "clock", "behind Maskinporten's"),
        (json!({ "clock_offset": -8 }), "clock", "ahead of Maskinporten's"),
        (json!({ "metadata": "issuer" }), "metadata (Maskinporten)", "another issuer"),
        (json!({ "metadata": "missing" }), "metadata (Maskinporten)", "404"),
        (json!({ "token": "500" }), "token (altinn:events.subscribe)", "500"),
        (json!({ "exchange": "401" }), "exchange", "altinn.environment"),
        (json!({ "registry": "missing" }), "resource (nabovarsel)", "no such resource"),
        (json!({ "registry": "type" }), "resource (nabovarsel)", "GenericAccessResource"),
        (json!({ "registry": "no-subscribe" }), "policy (nabovarsel)", "service owner"),
        (json!({ "search": "4001" }), "read access (nabovarsel)", "delegated"),
        (
            json!({ "withheld_scope": "altinn:correspondence.read" }),
            "read access (nabovarsel)",
            "lacks altinn:correspondence.read",
        ),
        (json!({ "withheld_scope": SCOPES[4] }), "scopes", "not granted"),
        (
            json!({ "withheld_scope": "altinn:events.subscribe" }),
            "scopes",
            "would refuse to subscribe",
        ),
        (json!({ "events": "500" }), "subscriptions", "status.digdir.no"),
        (json!({ "vendor": "client" }), "vendor (system)", "clientId"),
        (json!({ "vendor": "rejected" }), "vendor (request)", "Rejected"),
        (json!({ "vendor": "missing" }), "vendor (system user)", "404"),
    ] {
        world.tell_altinn("faults", &fault).await;
        let (bad, text) = bad(&world).await;
        assert_eq!(bad.first().map(String::as_str), Some(named), "{fault}: {text}");
        assert!(text.contains(words), "{fault}: {text}");
    }
    world.tell_altinn("faults", &json!({})).await;
    assert_eq!(bad(&world).await.0, [""; 0]);
    assert!(daemon.stop().await.success());
}

type Row = (&'static str, fn(&mut Options), fn(&World), &'static str);

/// The check that names it, how the stand-in and the machine are spoilt, and words of the finding.
const HERE: [Row; 9] = [
    (
        "key",
        |_| {},
        |world| fs::write(world.folder.path().join("maskinporten.pem"), "no key").unwrap(),
        "PEM or JWK",
    ),
    (
        "key",
        |_| {},
        |world| {
            let key = world.folder.path().join("maskinporten.pem");
            fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
        },
        "has mode 0644",
    ),
    ("token (altinn:events.subscribe)", |o| o.clients[0].keys[0].expired = true, |_| {}, "MP-121"),
    (
        "token (altinn:events.subscribe)",
        |_| {},
        |world| edit(world, "client_id = \"", "client_id = \"x"),
        "MP-100",
    ),
    (
        "token (altinn:correspondence.read)",
        |o| o.clients[0].not_granted.push("altinn:correspondence.read".to_owned()),
        |_| {},
        "MP-250",
    ),
    (
        "token (altinn:unknown)",
        |_| {},
        |world| edit(world, "scopes = [", "scopes = [\"altinn:unknown\", "),
        "MP-200",
    ),
    ("system user", |o| o.clients[0].system_users.clear(), |_| {}, "MP-303"),
    (
        "scopes",
        |_| {},
        |world| edit(world, "scopes = [", "scopes = [\"altinn:correspondence.write\", "),
        "error code 1025",
    ),
    (
        "secret files",
        |_| {},
        |world| {
            let key = world.folder.path().join("tls/privkey.pem");
            fs::set_permissions(key, fs::Permissions::from_mode(0o604)).unwrap();
        },
        "privkey.pem has mode 0604",
    ),
];

/// Faults of what was registered, or of what is here; no daemon runs.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_the_client_and_of_this_machine_is_named_by_its_check() {
    for (named, options, here, words) in HERE {
        let world = world(options).await;
        here(&world);
        let (bad, text) = bad(&world).await;
        assert_eq!(bad.first().map(String::as_str), Some(named), "{text}");
        assert!(text.contains(words), "{words}: {text}");
        assert!(!text.contains(CUSTOMER), "{text}");
        // It looks, and makes nothing: not even the secret that `run` would make.
        assert!(!world.folder.path().join("data").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_what_it_would_do_is_skipped() {
    let world = world(|_| {}).await;
    let (good, found, text) = found(&world).await;
    assert!(good, "{text}");
    let skipped: Vec<_> = found.iter().filter(|(_, outcome)| outcome == "skipped").collect();
    let names: Vec<_> = skipped.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["validation (innboks)", "endpoint", "certificate", "sync time", "queue age"];
    assert_eq!(names, expected, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_not_validated_or_not_there_is_named() {
    let world = world(|_| {}).await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    // Until the daemon has seen it, it would subscribe anew to what is taken away.
    eventually("a daemon that knows it", || async {
        let rows = daemon.get("/v1/subscriptions").await;
        (rows[0]["state"] == "validated").then_some(())
    })
    .await;
    let row = world.altinn("subscriptions").await[0].clone();
    world.delete_at_altinn("subscriptions").await;
    let (bad, text) = bad(&world).await;
    assert_eq!(bad, ["validation (innboks)"], "{text}");
    assert!(text.contains("does not have the subscription"), "{text}");
    let mut unvalidated = row;
    unvalidated["validated"] = false.into();
    world.tell_altinn("subscriptions", &unvalidated).await;
    let (bad, text) = self::bad(&world).await;
    assert_eq!(bad, ["validation (innboks)"], "{text}");
    assert!(text.contains("no good answer from the hook"), "{text}");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_others_cannot_reach_is_named() {
    let world = world(|_| {}).await;
    let daemon = world.daemon().await;
    world.validated(1).await;
    let port = world.listen.port();
    // Nobody listens there; and there brevdue knows no hook.
    for (url, words) in [
        (format!("https://127.0.0.2:{port}"), "cannot be reached"),
        (format!("https://localhost:{port}/elsewhere"), "answers 404 to GET"),
    ] {
        let text = fs::read_to_string(&world.config).unwrap();
        edit(&world, &format!("https://localhost:{port}\""), &format!("{url}\""));
        let (bad, told) = bad(&world).await;
        assert!(bad.contains(&"endpoint".to_owned()) && told.contains(words), "{told}");
        fs::write(&world.config, text).unwrap();
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_others_do_not_trust_is_named() {
    let world = world(|_| {}).await;
    let other = brevdue::simulator::ca::Ca::new().unwrap();
    let (chain, key) = other.issue(&["localhost"]).unwrap();
    fs::write(world.folder.path().join("tls/fullchain.pem"), chain).unwrap();
    fs::write(world.folder.path().join("tls/privkey.pem"), key).unwrap();
    let daemon = world.daemon().await;
    let (bad, text) = bad(&world).await;
    assert!(bad.contains(&"certificate".to_owned()), "{text}");
    assert!(text.contains("that browsers trust"), "{text}");
    assert!(daemon.stop().await.success());
}
