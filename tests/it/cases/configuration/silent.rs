//! Handlers that could never work, and would say nothing of it: told before the first event, and again with it.

use std::{fs, os::unix::fs::symlink};

use super::{broken::Broken, desk::Desk};
use crate::support::{
    eventually,
    world::{QUICK_RETRY, World, event},
};

const OUTPUT: &str = "handlers.logg.path";
const PROGRAM: &str = "handlers.skript.command";

fn output(desk: &Desk, path: &str) {
    desk.edit("\"events.jsonl\"", &format!("{path:?}"));
}

fn program(desk: &Desk, content: &[u8]) {
    desk.write("program", content);
    desk.mode("program", 0o755);
}

#[rustfmt::skip]
pub(super) const SILENT: [Broken; 12] = [
    ("an output that ends in a slash", |desk| output(desk, "events/"),
        OUTPUT, "/events/", "name a file in it"),
    ("an output that is what is above", |desk| output(desk, "later/.."),
        OUTPUT, "/later/..", "name a file in it"),
    ("an output with too long a name", |desk| output(desk, &"e".repeat(256)),
        OUTPUT, "256 bytes", "at most 255"),
    ("an output below too long a name", |desk| output(desk, &format!("{}/e", "\u{e6}".repeat(128))),
        OUTPUT, "256 bytes", "at most 255"),
    ("a data_dir with too long a name", |desk| desk.edit("\"data\"", &format!("{:?}", "d".repeat(300))),
        "data_dir", "300 bytes", "at most 255"),
    ("an output that is a link to itself", |desk| {
        symlink("events.jsonl", desk.path("events.jsonl")).unwrap();
    }, OUTPUT, "events.jsonl", "see what is wrong with the disk or the path"),
    ("a program of nothing", |desk| program(desk, b""),
        PROGRAM, "/program", "put the program into it"),
    ("a program of Windows's", |desk| program(desk, b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0"),
        PROGRAM, "/program", "begin the script with #!"),
    ("a certificate as program", |desk| program(desk, desk.read("ca.pem").as_bytes()),
        PROGRAM, "/program", "begin the script with #!"),
    ("a script without its first line", |desk| program(desk, b"cat >/dev/null\n"),
        PROGRAM, "/program", "begin the script with #!"),
    ("a program of another machine's", |desk| {
        let mut head = fs::read("/proc/self/exe").unwrap();
        head.truncate(64);
        // EM_S390 of old: nothing of today.
        head[18..20].copy_from_slice(&0xa390_u16.to_ne_bytes());
        program(desk, &head);
    }, PROGRAM, "/program", "get the one for this machine"),
    ("an interpreter that cannot be run", |desk| program(desk, b"#!/etc/passwd\n"),
        PROGRAM, "/etc/passwd", "correct #!"),
];

/// What a good check says beside that it is.
pub(super) fn said(desk: &Desk) -> String {
    let output = desk.command(&["check"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_folder_that_is_missing_is_warned_of() {
    let desk = Desk::new();
    output(&desk, "later/brevdue/e.jsonl");
    let folder = desk.path("later/brevdue");
    let said_before = said(&desk);
    let start = format!("warning: {OUTPUT}: {}/e.jsonl: the folder ", folder.display());
    for words in [&start, "is missing", "make it for the user who runs brevdue"] {
        assert!(said_before.contains(words), "{said_before}");
    }
    fs::create_dir_all(folder).unwrap();
    assert_eq!(said(&desk), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_missing_is_told_at_the_start_and_with_the_attempt() {
    let more =
        format!("[handlers.logg]\nkind = \"file\"\npath = \"later/e.jsonl\"\n{QUICK_RETRY}\n");
    let world = World::with(|_| {}, QUICK_RETRY, &more).await;
    let folder = world.folder.path().join("later");
    let daemon = world.daemon().await;
    let answer = world.push("innboks", event("1")).send().await.unwrap();
    assert!(answer.status().is_success());
    let failed = format!("cannot write the file {}/e.jsonl: No such file", folder.display());
    let cure = format!("make the folder {} for the user", folder.display());
    eventually("the log of a failed attempt", || async {
        let log = daemon.log();
        let told = |line: &str| line.contains(&failed) && line.contains(&cure);
        log.lines().any(told).then_some(())
    })
    .await;
    assert!(daemon.log().contains("is missing, and no event can be written"));
    fs::create_dir(&folder).unwrap();
    eventually("the line", || async {
        fs::read_to_string(folder.join("e.jsonl")).ok().filter(|text| text.ends_with('\n'))
    })
    .await;
    assert!(daemon.stop().await.success());
}
