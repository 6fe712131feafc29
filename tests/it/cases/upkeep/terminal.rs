//! What a person at a terminal sees.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    daemon::{BINARY, Daemon, command},
    eventually,
    world::{QUICK_RETRY, RESOURCE, World},
};

/// Clears the screen, turns text red, hides the direction of what follows, breaks a line.
const ODD: &str = "\u{9b}2J\u{7f}\u{9b}31m\u{202e}gpj\u{2028}\u{2066}\u{2069}\u{200e}\u{200f}\u{feff}\u{61c}\u{200b}";

/// An event of a type that begins so.
fn of_odd_type(ty: &str) -> String {
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{ty}{ODD}\",\"source\":\"/a\",\"type\":\"{ty}{ODD}\",\
         \"resource\":\"{RESOURCE}\",\r\n\t\"data\":\"{ODD}\"}}"
    )
}

fn is_obeyed(c: char) -> bool {
    c != '\n' && (c.is_control() || ODD.contains(c) && !c.is_ascii())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_an_event_is_obeyed_by_a_terminal_and_json_is_exact() {
    let more = "[queue]\nretain = \"1h\"\n[handlers.skript]\nkind = \"exec\"\n\
                match = { type = [\"t*\"] }\n\
                command = [\"/bin/sh\", \"-c\", \"cat; exit 65\"]\n";
    let handler = format!("{QUICK_RETRY}\nmatch = {{ type = [\"t*\"] }}");
    let world = World::with(|_| {}, &handler, more).await;
    let daemon = world.daemon().await;
    let push = |body: String| async {
        assert_eq!(world.push("innboks", body).send().await.unwrap().status(), 200);
    };
    let body = of_odd_type("t");
    push(body.clone()).await;
    push(of_odd_type("unmatched")).await;
    push(format!("no json {ODD}\u{1b}[2J")).await;
    world.receiver.wait_for(1).await;
    world.settled().await;
    let run = |arguments: &[&str]| {
        let output = daemon.command(arguments);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let events: Value = serde_json::from_str(&run(&["events", "list", "--json"])).unwrap();
    let seq = events[0]["seq"].as_str().unwrap();
    let letters: Value = serde_json::from_str(&run(&["dead-letters", "list", "--json"])).unwrap();
    let of = |raw: bool| {
        let mut ids =
            letters.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap());
        ids.find(|id| id.starts_with("raw:") == raw).unwrap()
    };
    let (letter, buried) = (of(true), of(false));
    let id = format!("raw:{ODD}");
    for arguments in [
        &["events", "show", seq][..],
        &["events", "list"],
        &["dead-letters", "list"],
        &["dead-letters", "show", letter],
        &["dead-letters", "show", buried],
        &["dead-letters", "show", &id],
        &["dead-letters", "retry", &id],
        &["dead-letters", "list", "--handler", &id],
        &["status"],
        &["handlers", "list"],
    ] {
        let shown = run(arguments);
        assert!(!shown.contains(is_obeyed), "{arguments:?}: {shown:?}");
    }
    assert!(run(&["status"]).contains("the last of type unmatched"));
    let shown: Value = serde_json::from_str(&run(&["events", "show", seq])).unwrap();
    assert_eq!(shown, serde_json::from_str::<Value>(&body).unwrap());
    let exact = run(&["events", "show", seq, "--json"]);
    assert!(exact.contains(ODD), "{exact:?}");
    assert_eq!(serde_json::from_str::<Value>(&exact).unwrap()["event"], shown);
    let raw: Value =
        serde_json::from_str(&run(&["dead-letters", "show", letter, "--json"])).unwrap();
    assert!(raw["raw"]["body"].as_str().unwrap().contains(ODD), "{raw}");
    let refused = run(&["dead-letters", "show", buried, "--json"]);
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert!(refused["last_answer"].as_str().unwrap().contains(ODD), "{refused}");
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_or_the_environment_gives_is_shown_and_not_obeyed() {
    let world = World::new().await;
    let odd = format!("\u{1b}[2J\nerror: forged{ODD}");
    let folder = world.folder.path().join(&odd);
    fs::create_dir(&folder).unwrap();
    for name in ["brevdue.toml", "ca.pem", "maskinporten.pem"] {
        fs::copy(world.folder.path().join(name), folder.join(name)).unwrap();
    }
    fs::create_dir(folder.join("tls")).unwrap();
    for name in ["tls/fullchain.pem", "tls/privkey.pem"] {
        fs::copy(world.folder.path().join(name), folder.join(name)).unwrap();
    }
    let good = folder.join("brevdue.toml").display().to_string();
    let missing = folder.join("nothing.toml").display().to_string();
    let broken = folder.join("broken.toml").display().to_string();
    fs::write(&broken, "[serv").unwrap();
    let faulty = folder.join("faulty.toml").display().to_string();
    fs::write(&faulty, "data_dir = 7\n").unwrap();
    let world_config = world.config.display().to_string();
    let variable = format!("BREVDUE__A\nB{ODD}");
    for (config, arguments, variables, code) in [
        (&good, &["check"][..], &[][..], 0),
        (&missing, &["check"], &[], 78),
        (&missing, &["run"], &[], 78),
        (&broken, &["check"], &[], 78),
        (&faulty, &["check"], &[], 78),
        (&good, &["status"], &[], 1),
        (&good, &["verify"], &[], 1),
        (&world_config, &["check"], &[(variable.as_str(), "x")], 78),
        (&world_config, &["run"], &[("BREVDUE__DATA_DIR", odd.as_str()), (&variable, "x")], 78),
        (&world_config, &["run", "--help"], &[("BREVDUE_CONFIG", odd.as_str())], 0),
        (&world_config, &["demo", "--events", &odd], &[], 2),
        (&world_config, &[odd.as_str()], &[], 2),
        (&world_config, &["handlers", "pause", &odd], &[], 2),
        (&world_config, &["status", "--help"], &[("TMPDIR", odd.as_str())], 0),
    ] {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(config).args(arguments);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!told.contains(is_obeyed), "{arguments:?}: {told:?}");
        assert!(!told.contains("\nerror: forged") && !told.contains("\nB"), "{told}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_as_text_shows_what_is_odd_and_hides_nothing() {
    let world = World::with(|_| {}, QUICK_RETRY, "").await;
    world.edit("format = \"json\"", "format = \"text\"");
    let daemon = world.daemon().await;
    let id = format!("odd{ODD}");
    let body = world.push("innboks", crate::support::world::event(&id)).send().await.unwrap();
    assert_eq!(body.status(), 200);
    world.receiver.wait_for(1).await;
    eventually("its line", || async { daemon.log().contains("id=odd").then_some(()) }).await;
    let log = daemon.log();
    assert!(!log.contains(is_obeyed), "{log:?}");
    for escape in ["\\u{202e}", "\\u{2066}", "\\u{feff}", "\\u{61c}", "\\u{200f}"] {
        assert!(log.contains(escape), "{escape} in {log}");
    }
    assert!(daemon.stop().await.success());
}

#[test]
fn nothing_in_a_configuration_or_its_name_is_obeyed_by_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join(format!("{ODD}.toml"));
    // DEL may stand in no TOML.
    let key = ODD.replace('\u{7f}', "");
    for text in [None, Some(format!("'{key}' = 1\n")), Some(format!("[handlers.'{key}']\n"))] {
        if let Some(text) = text {
            fs::write(&config, text).unwrap();
        }
        for name in ["check", "run", "status", "doctor"] {
            let output = command(&config, &[name]);
            assert_eq!(output.status.code(), Some(78), "{name}");
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(told.contains("gpj") && !told.contains(is_obeyed), "{name}: {told:?}");
        }
    }
}

/// Ended when it is dropped.
struct Watching(Child);

impl Watching {
    fn start(config: &Path, arguments: &[&str], out: &Path) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(config).args(["status", "--watch"]).args(arguments);
        let file = || File::options().create(true).append(true).open(out).unwrap();
        command.stdin(Stdio::null()).stdout(file()).stderr(file());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_the_status_sees_a_restart_and_goes_on() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let seen = world.folder.path().join("seen");
    let seen_json = world.folder.path().join("seen.json");
    let mut watching = Watching::start(&world.config, &[], &seen);
    let mut in_json = Watching::start(&world.config, &["--json"], &seen_json);
    let text = |file: &Path| fs::read_to_string(file).unwrap();
    let shows = async |what: &str, from: usize| {
        eventually(what, async || {
            text(&seen).get(from..).is_some_and(|text| text.contains(what)).then_some(())
        })
        .await;
    };
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    shows(", ready", 0).await;
    eventually("JSON", async || text(&seen_json).contains(&version).then_some(())).await;
    daemon.kill();
    shows("no daemon answers", 0).await;
    eventually("no JSON", async || text(&seen_json).contains("no daemon answers").then_some(()))
        .await;
    let until_now = text(&seen).len();
    let daemon = Daemon::start(&world.config, world.folder.path()).await;
    shows(", ready", until_now).await;
    eventually("JSON again", async || {
        let told = text(&seen_json);
        told.rsplit_once("no daemon answers")?.1.contains(&version).then_some(())
    })
    .await;
    for one in [&mut watching, &mut in_json] {
        assert!(one.0.try_wait().unwrap().is_none(), "it still watches");
    }
    assert!(daemon.stop().await.success());
}
