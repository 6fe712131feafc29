//! What `doctor` sees of rights: a subscription for everyone, and files that only root can read.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use brevdue::simulator::options::Options;
use serde_json::Value;

use crate::support::{
    daemon::BINARY,
    world::{ORG, World},
};

/// A user that every system has.
const NOBODY: u32 = 65_534;

/// What it found: by check, how it ended, and all of it.
async fn doctor(program: &Path, world: &World) -> (Value, String) {
    let mut command = Command::new(program);
    command.arg("--config").arg(&world.config).args(["doctor", "--json"]);
    // The stand-in is in this process, and must not be blocked.
    let run = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = run.await.expect("it ends");
    let text = String::from_utf8(output.stdout).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr))
    });
    assert_eq!(whole["good"] == true, output.status.success(), "{text}");
    (whole, text)
}

fn of<'w>(whole: &'w Value, check: &str) -> Option<&'w Value> {
    whole["checks"].as_array().unwrap().iter().find(|one| one["check"] == check)
}

async fn without_subject(options: impl FnOnce(&mut Options)) -> World {
    let world = World::with(options, "", "").await;
    world.edit(&format!("subject = \"{ORG}\"\n"), "");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_a_subject_is_for_the_resources_owner_alone() {
    let world = without_subject(|_| {}).await;
    let (whole, text) = doctor(Path::new(BINARY), &world).await;
    let found = of(&whole, "subject").unwrap_or_else(|| panic!("{text}"));
    assert_eq!((&found["of"], &found["outcome"]), (&"innboks".into(), &"bad".into()), "{text}");
    let cure = found["cure"].as_str().unwrap();
    assert!(cure.contains("subscriptions.innboks.subject"), "{cure}");

    let owner = without_subject(|options| {
        options.service_owners.insert(ORG.to_owned(), "ttd".to_owned());
        options.clients[0].scopes.push("altinn:serviceowner".to_owned());
    })
    .await;
    owner.edit("scopes = [", "scopes = [\"altinn:serviceowner\", ");
    let (whole, text) = doctor(Path::new(BINARY), &owner).await;
    assert_eq!(of(&whole, "subject").map(|one| &one["outcome"]), Some(&"good".into()), "{text}");

    let usual = World::new().await;
    let (whole, _) = doctor(Path::new(BINARY), &usual).await;
    assert_eq!(of(&whole, "subject"), None);
}

/// Root can read everything, so it asks as the owner of the data directory. Who is not root has no
/// other rights to ask with, and cannot read the file at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_services_user_cannot_read_is_named_though_root_can() {
    let world = World::new().await;
    let folder = world.folder.path();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let program = folder.join("brevdue");
    fs::copy(BINARY, &program).unwrap();
    mode(&program, 0o755);
    mode(folder, 0o755);
    mode(&folder.join("tls"), 0o755);
    for file in ["brevdue.toml", "ca.pem", "tls/fullchain.pem", "tls/privkey.pem"] {
        mode(&folder.join(file), 0o644);
    }
    let key = folder.join("maskinporten.pem");
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    let root = chown(&data, Some(NOBODY), Some(NOBODY)).is_ok();
    mode(&key, if root { 0o600 } else { 0 });
    let (whole, text) = doctor(&program, &world).await;
    let found = of(&whole, "key").unwrap();
    assert_eq!(found["outcome"], "bad", "{text}");
    let seen = found["seen"].as_str().unwrap();
    assert!(seen.contains("maskinporten.pem") && seen.contains("ermission denied"), "{seen}");
    mode(&key, 0o600);
    if root {
        chown(&key, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (whole, text) = doctor(&program, &world).await;
    assert_eq!(of(&whole, "key").map(|one| &one["outcome"]), Some(&"good".into()), "{text}");
}
