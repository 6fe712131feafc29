use std::path::Path;

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe,
};

use super::*;
use crate::{
    clock::Timestamp,
    event::{Event, Origin},
    queue::{Seq, StoredEvent},
};

fn stored(json: &str) -> StoredEvent {
    StoredEvent {
        seq: "1".parse::<Seq>().unwrap(),
        received: Timestamp::default(),
        origin: Origin::Altinn,
        from: Vec::new(),
        already: Vec::new(),
        event: Event::from_json(Bytes::from(json.to_owned())).unwrap(),
    }
}

const EVENT: &str = r#"{ "specversion":"1.0", "id":"1","source":"/a","type":"t" }"#;

fn shell(script: &str, arguments: &[&str], env: &[(&str, &str)]) -> ExecHandler {
    let shell = ["/bin/sh", "-c", script, "sh"];
    let command = shell.iter().chain(arguments).map(|text| (*text).to_owned()).collect();
    let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    ExecHandler::new(&config::ExecHandler { command, env })
}

async fn deliver(handler: &ExecHandler, json: &str) -> Outcome {
    let stored = stored(json);
    handler.deliver(Attempt { stored: &stored, number: 3, idempotency_key: "key" }).await
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn the_exit_decides_the_outcome_and_what_was_written_is_kept() {
    let failure = |reason: &str, answer: Option<&str>| Failure {
        reason: reason.to_owned(),
        answer: answer.map(str::to_owned),
    };
    let retry = |reason, answer| Outcome::Retry { failure: failure(reason, answer), after: None };
    for (script, expected) in [
        ("exit 0", Outcome::Delivered),
        ("echo chatter; echo more >&2", Outcome::Delivered),
        ("exit 1", retry("exit status 1", None)),
        ("echo out; echo err >&2; exit 75", retry("exit status 75", Some("err\nout\n"))),
        ("kill -TERM $$", retry("killed by signal 15", None)),
        (
            "echo no; exit 65",
            Outcome::Rejected { failure: failure("exit status 65", Some("no\n")) },
        ),
    ] {
        assert_eq!(deliver(&shell(script, &[], &[]), EVENT).await, expected, "{script}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_a_retry() {
    let command = vec!["/nowhere/at/all".to_owned()];
    let handler = ExecHandler::new(&config::ExecHandler { command, env: BTreeMap::new() });
    let expected = Outcome::retry("cannot be run: No such file or directory (os error 2)");
    assert_eq!(deliver(&handler, EVENT).await, expected);
}

#[tokio::test]
async fn the_child_gets_the_event_on_stdin_and_nothing_but_its_own_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (input, env) = (folder.path().join("input"), folder.path().join("env"));
    let script = "cat >\"$1\"; exec /usr/bin/env >\"$2\"";
    let paths = [input.to_str().unwrap(), env.to_str().unwrap()];
    let handler = shell(script, &paths, &[("TOOL_HOME", "/opt/x y"), ("CE_ID", "not this")]);
    let json = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","subject":"s u",
        "time":"2024-04-19T07:22:19.4380Z","resource":"urn:r","n":7,"gone":null,
        "datacontenttype":"text/plain","data":"x","bad-name":"y"}"#;
    assert_eq!(deliver(&handler, json).await, Outcome::Delivered);
    assert_eq!(text(&input), json, "byte for byte");
    let inherited = |name: &str, default: &str| {
        format!("{name}={}", env::var(name).unwrap_or_else(|_| default.to_owned()))
    };
    let mut expected = vec![inherited("PATH", DEFAULT_PATH), inherited("LANG", "C.UTF-8")];
    expected.extend(
        [
            "BREVDUE_ATTEMPT=3",
            "CE_DATACONTENTTYPE=text/plain",
            "CE_ID=1",
            "CE_N=7",
            "CE_RESOURCE=urn:r",
            "CE_SOURCE=/a",
            "CE_SPECVERSION=1.0",
            "CE_SUBJECT=s u",
            "CE_TIME=2024-04-19T07:22:19.4380Z",
            "CE_TYPE=t",
            "IDEMPOTENCY_KEY=key",
            "TOOL_HOME=/opt/x y",
        ]
        .map(str::to_owned),
    );
    expected.sort();
    let env = text(&env);
    // What a shell sets of itself.
    let own =
        |line: &&str| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|p| line.starts_with(p));
    let mut lines: Vec<&str> = env.lines().filter(own).collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_variable_that_no_environment_can_hold_is_left_out_and_the_event_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (input, env) = (folder.path().join("input"), folder.path().join("env"));
    let script = "cat >\"$1\"; exec /usr/bin/env >\"$2\"";
    let handler = shell(script, &[input.to_str().unwrap(), env.to_str().unwrap()], &[]);
    // `CE_FITS=` and the zero at the end.
    let (fits, long) = ("f".repeat(128 * 1024 - 9), "l".repeat(128 * 1024 - 8));
    let json = format!(
        r#"{{"id":"1","source":"/a","type":"t","nul":"a\u0000b","fits":"{fits}","long":"{long}","\ud800":1,"data_base64":"=no="}}"#
    );
    assert_eq!(deliver(&handler, &json).await, Outcome::Delivered);
    assert_eq!(text(&input), json, "standard input has all of it");
    let env = text(&env);
    let mut lengths: Vec<_> =
        env.lines().filter(|line| line.starts_with("CE_")).map(str::len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, ["CE_ID=1".len(), "CE_TYPE=t".len(), "CE_SOURCE=/a".len(), 128 * 1024 - 1]);
}

#[tokio::test]
async fn variables_that_are_too_long_together_are_left_out_by_their_length() {
    let long = "x".repeat(120 * 1024);
    let members: Vec<_> = (10..50).map(|n| format!(r#","x{n}":"{long}""#)).collect();
    let members = members.concat();
    let json = format!(r#"{{"id":"1","source":"/a","type":"t"{members}}}"#);
    let outcome = deliver(&shell("test \"$CE_TYPE-$CE_X10\" = t-", &[], &[]), &json).await;
    assert_eq!(outcome, Outcome::Delivered);
    // What the configuration itself makes too long is told.
    let long = vec!["/bin/true".to_owned(), "x".repeat(128 * 1024)];
    let handler = ExecHandler::new(&config::ExecHandler { command: long, env: BTreeMap::new() });
    let expected = Outcome::retry("cannot be run: Argument list too long (os error 7)");
    assert_eq!(deliver(&handler, EVENT).await, expected);
}

#[tokio::test]
async fn a_child_that_does_not_read_is_judged_by_its_exit() {
    // More than a pipe holds, so that the writing is cut off.
    let json = format!(r#"{{"id":"1","source":"/a","type":"t","data":"{}"}}"#, "x".repeat(300_000));
    for (script, delivered) in [("exec <&-; exit 0", true), ("exit 0", true), ("exit 1", false)] {
        let outcome = deliver(&shell(script, &[], &[]), &json).await;
        assert_eq!(outcome == Outcome::Delivered, delivered, "{script}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_child_that_writes_much_is_not_blocked_and_only_the_beginning_is_kept() {
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; \
                  head -c 3000000 /dev/zero | tr '\\0' y >&2; exit 2";
    let Outcome::Retry { failure, .. } = deliver(&shell(script, &[], &[]), EVENT).await else {
        panic!("not a retry")
    };
    assert_eq!(failure.answer, Some("y".repeat(ANSWER)));
    assert_eq!(failure.reason, "exit status 2");
}

#[tokio::test]
async fn a_process_that_is_left_behind_does_not_hold_up_the_delivery() {
    let (sender, mut lines) = told_by_child();
    let script = "exec 9>\"$1\"; sleep 600 & echo $! >&9; exit 0";
    let handler = shell(script, &[sender.path().join("fifo").to_str().unwrap()], &[]);
    let outcome = timeout(Duration::from_secs(60), deliver(&handler, EVENT)).await.unwrap();
    assert_eq!(outcome, Outcome::Delivered);
    let left = pid(&lines.next_line().await.unwrap().unwrap());
    rustix::process::test_kill_process(left).unwrap();
    rustix::process::kill_process(left, Signal::KILL).unwrap();
}

/// A fifo `fifo` in a folder, and what is written into it.
fn told_by_child() -> (tempfile::TempDir, tokio::io::Lines<BufReader<pipe::Receiver>>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // Open for writing too, so that no end of file comes between two writers.
    let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(&path).unwrap();
    (folder, BufReader::new(receiver).lines())
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// Whether the process is gone; one that is dead but not reaped by us is not.
fn is_gone(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_err()
}

/// Whether it runs no more; reaping a grandchild is init's.
fn is_dead(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim().starts_with('Z'))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), poll).await.expect(what);
}

#[tokio::test]
async fn a_dropped_attempt_kills_children_and_grandchildren_and_reaps_the_child() {
    let (folder, mut lines) = told_by_child();
    let script = "trap '' TERM; exec 9>\"$1\"; \
                  sh -c 'echo $$ >&9; sleep 600; echo late' & echo $$ >&9; wait";
    let handler = shell(script, &[folder.path().join("fifo").to_str().unwrap()], &[]);
    let (stored, number, idempotency_key) = (stored(EVENT), 1, "key");
    let mut delivery = handler.deliver(Attempt { stored: &stored, number, idempotency_key });
    let mut pids = Vec::new();
    while pids.len() < 2 {
        tokio::select! {
            outcome = &mut delivery => panic!("ended: {outcome:?}"),
            line = lines.next_line() => pids.push(pid(&line.unwrap().unwrap())),
        }
    }
    assert!(pids.iter().all(|pid| !is_dead(*pid)), "both run");
    drop(delivery);
    until("both are dead", || pids.iter().all(|pid| is_dead(*pid))).await;
    until("the child is reaped", || pids.iter().any(|pid| is_gone(*pid))).await;
}
