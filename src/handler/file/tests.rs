use std::{os::unix::fs::PermissionsExt, sync::Barrier};

use bytes::Bytes;

use super::*;
use crate::{
    clock::Timestamp,
    event::Origin,
    queue::{Failure, Seq, StoredEvent},
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

const ONE: &str = r#"{"id":"1","source":"/a","type":"t"}"#;
const TWO: &str = r#"{"id":"2","source":"/a","type":"t"}"#;

fn handler(path: &Path) -> FileHandler {
    FileHandler::new(&config::FileHandler { path: path.to_owned() })
}

async fn deliver(handler: &FileHandler, json: &str) -> Outcome {
    let stored = stored(json);
    handler.deliver(Attempt { stored: &stored, number: 1, idempotency_key: "key" }).await
}

async fn delivered(handler: &FileHandler, json: &str) {
    assert_eq!(deliver(handler, json).await, Outcome::Delivered);
}

fn text(path: &Path) -> String {
    String::from_utf8(std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn each_event_is_one_line_in_a_file_that_others_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let handler = handler(&path);
    delivered(&handler, ONE).await;
    delivered(&handler, TWO).await;
    delivered(&handler, "{\"id\":\"3\",\r\n\"source\":\"/a\",\"type\":\"t\",\n\"x\":1.50}").await;
    let three = "{\"id\":\"3\",  \"source\":\"/a\",\"type\":\"t\", \"x\":1.50}";
    assert_eq!(text(&path), format!("{ONE}\n{TWO}\n{three}\n"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew_with_and_without_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let handler = handler(&path);
    for reopen in [true, false] {
        let old = folder.path().join(format!("old-{reopen}"));
        delivered(&handler, ONE).await;
        std::fs::rename(&path, &old).unwrap();
        if reopen {
            handler.reopen();
        }
        delivered(&handler, TWO).await;
        assert_eq!(text(&old), format!("{ONE}\n"), "reopen: {reopen}");
        assert_eq!(text(&path), format!("{TWO}\n"), "reopen: {reopen}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn only_a_broken_write_of_ours_is_cut_away_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (before, after)) in [
        (String::new(), String::new()),
        (format!("{ONE}\n"), format!("{ONE}\n")),
        (format!("{ONE}\n{}", &TWO[..9]), format!("{ONE}\n")),
        (TWO[..20].to_owned(), String::new()),
        ("{".to_owned(), String::new()),
        (format!("{ONE}\n{TWO}"), format!("{ONE}\n{TWO}\n")),
        (format!("{ONE}\nnot ours"), format!("{ONE}\nnot ours\n")),
        (format!("{ONE}\n{{not ours"), format!("{ONE}\n{{not ours\n")),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, &before).unwrap();
        delivered(&handler(&path), TWO).await;
        assert_eq!(text(&path), format!("{after}{TWO}\n"), "{before}");
    }
}

#[tokio::test]
async fn a_torn_letter_of_two_bytes_is_cut_away_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    std::fs::write(&path, b"{\"id\":\"\xc3").unwrap();
    delivered(&handler(&path), TWO).await;
    assert_eq!(text(&path), format!("{TWO}\n"));
}

#[tokio::test]
async fn a_last_line_that_is_longer_than_any_event_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let long = format!("{{\"x\":\"{}", "x".repeat(usize::try_from(LONGEST).unwrap()));
    std::fs::write(&path, &long).unwrap();
    delivered(&handler(&path), TWO).await;
    assert!(text(&path) == format!("{long}\n{TWO}\n"));
}

#[tokio::test]
async fn what_cannot_be_written_durably_is_a_retry_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later").join("events.jsonl");
    let handler = handler(&path);
    let Outcome::Retry { failure: Failure { reason, .. }, .. } = deliver(&handler, ONE).await
    else {
        panic!("no folder")
    };
    let (start, end) = (
        format!("cannot write the file {}: No such file", path.display()),
        format!(": make the folder {}", folder.path().join("later").display()),
    );
    assert!(reason.starts_with(&start) && reason.contains(&end), "{reason}");
    std::fs::create_dir(folder.path().join("later")).unwrap();
    delivered(&handler, ONE).await;
    let outcome = deliver(&self::handler(Path::new("/dev/null")), ONE).await;
    let reason = "cannot write the file /dev/null: not a regular file, so nothing in it is durable";
    assert_eq!(outcome, Outcome::retry(reason));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_the_same_time_do_not_mix_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let handler = Arc::new(handler(&path));
    let json = |id: usize| {
        let data = "x".repeat(20_000);
        format!(r#"{{"id":"{id}","source":"/a","type":"t","data":"{data}"}}"#)
    };
    let (mut tasks, together) = (tokio::task::JoinSet::new(), Arc::new(Barrier::new(4)));
    for id in 0..4 {
        let (handler, together) = (handler.clone(), together.clone());
        tasks.spawn(async move {
            together.wait();
            for round in 0..5 {
                delivered(&handler, &json(id * 100 + round)).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let text = text(&path);
    let ids: std::collections::BTreeSet<String> = text
        .lines()
        .map(|line| Event::from_json(Bytes::from(line.to_owned())).unwrap().attributes().id.clone())
        .collect();
    assert_eq!((ids.len(), text.lines().count()), (20, 20));
}
