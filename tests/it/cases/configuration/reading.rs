//! What the daemon takes as it is written: marks of editors, names in keys, variables; and what it warns of at its start.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use super::desk::jwk;
use crate::support::{
    daemon::{BINARY, Daemon},
    eventually,
    world::{World, event},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_before_the_text_is_stripped_and_the_id_of_a_jwk_serves_as_key_id() {
    let world = World::new().await;
    let path = |name: &str| world.folder.path().join(name);
    let key = fs::read_to_string(path("maskinporten.pem")).unwrap();
    fs::write(path("maskinporten.pem"), jwk(&key, "brevdue-demo").to_string()).unwrap();
    world.edit("key_id = \"brevdue-demo\"\n", "");
    world.edit("[subscriptions.innboks]", "[subscriptions.innboks]\nsecret_file = \"innboks\"");
    fs::write(path("innboks"), "a-secret-of-some-length\r\n").unwrap();
    let files = [
        "brevdue.toml",
        "maskinporten.pem",
        "tls/fullchain.pem",
        "tls/privkey.pem",
        "ca.pem",
        "innboks",
    ];
    for name in files {
        let text = fs::read_to_string(path(name)).unwrap();
        fs::write(path(name), format!("\u{feff}{text}")).unwrap();
    }
    fs::set_permissions(path("innboks"), fs::Permissions::from_mode(0o644)).unwrap();
    let daemon = world.daemon().await;
    let rows = world.validated(1).await;
    let endpoint = rows[0]["endPoint"].as_str().unwrap();
    assert!(endpoint.ends_with("?code=a-secret-of-some-length"), "{endpoint}");
    let log = daemon.stopped().await;
    let warned =
        |line: &&str| line.contains("WARN") && line.contains("subscriptions.innboks.secret_file");
    let line = log.lines().find(warned).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("has mode 0644"), "{line}");
    assert!(!log.contains("a-secret-of-some-length"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_goes_before_the_file_in_a_handlers_environment_too() {
    let world = World::new().await;
    let out = world.folder.path().join("environment");
    let script = format!("env > {0}.new && mv {0}.new {0}", out.display());
    world.edit(
        "[log]",
        &format!(
            "[handlers.skript]\nkind = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n\
             env = {{ API_URL = \"of the file\", Other = \"of the file\" }}\n[log]"
        ),
    );
    let mut command = Command::new(BINARY);
    command.env("BREVDUE__HANDLERS__SKRIPT__ENV__API_URL", "of the environment");
    let daemon = Daemon::spawn_with(command, &world.config, world.folder.path());
    daemon.ready().await;
    assert_eq!(world.push("innboks", event("1")).send().await.unwrap().status(), 200);
    let seen =
        eventually("the script's environment", || async { fs::read_to_string(&out).ok() }).await;
    let lines: Vec<_> =
        seen.lines().filter(|line| line.to_lowercase().starts_with("api_url")).collect();
    assert_eq!(lines, ["API_URL=of the environment"]);
    assert!(seen.lines().any(|line| line == "Other=of the file"), "{seen}");
    assert!(daemon.stop().await.success());
}
