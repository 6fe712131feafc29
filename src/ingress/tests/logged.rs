//! What the endpoint writes to the log, and what it must not.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, ThreadId},
};

use tracing_subscriber::fmt;

use super::endpoint::{event, start};
use crate::queue::QueueError;

/// The lines of the thread that made it.
#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>, ThreadId);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if thread::current().id() == self.1 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_outcome_is_logged_and_nothing_secret_or_personal_is() {
    const PERSON: &str = "01017012345";
    let lines = Lines(Arc::default(), thread::current().id());
    let writer = lines.clone();
    let subscriber = fmt::Subscriber::builder()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // One thread serves and asks in this test, so that its log is all there. For all threads,
    // because tracing forgets call sites that another thread without a subscriber meets first.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let endpoint = start().await;
    let personal = event("1").replace("\"t\"", &format!("\"t\",\"subject\":\"{PERSON}\""));
    for body in [personal.as_str(), &personal, &format!("{{\"id\":{PERSON}}}"), PERSON] {
        assert_eq!(endpoint.push(body.to_owned()).await.status(), 200);
    }
    endpoint.log.fail(Some(QueueError::Full("max_bytes")));
    assert_eq!(endpoint.push(event("2")).await.status(), 503);
    let wrong = format!("/events/hooks/innboks?code={PERSON}");
    assert_eq!(endpoint.post(&wrong, personal).send().await.unwrap().status(), 401);
    let nowhere = format!("/events/hooks/{PERSON}?code=CODE");
    assert_eq!(endpoint.post(&nowhere, "").send().await.unwrap().status(), 404);

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<&str> = text.lines().filter(|line| line.contains(" brevdue::ingress")).collect();
    for (words, count) in [
        (
            "INFO brevdue::ingress::receive: event event.id=1 event.source=/s event.type=t hook=innboks outcome=\"stored\"",
            1,
        ),
        ("hook=innboks outcome=\"duplicate\"", 1),
        ("WARN brevdue::ingress::receive: kept a push", 2),
        ("the queue is full: max_bytes", 1),
        (
            "WARN brevdue::ingress::refusals: refused a request hook=innboks status=401 \
             why=\"wrong or missing secret\" peer=127.0.0.1 count=1",
            1,
        ),
        ("WARN brevdue::ingress::refusals: refused a request hook=innboks status=503", 1),
        ("DEBUG brevdue::ingress::refusals: refused a request status=404", 1),
    ] {
        assert_eq!(
            ours.iter().filter(|line| line.contains(words)).count(),
            count,
            "{words}\n{text}"
        );
    }
    for line in ours {
        assert!(!line.contains(PERSON) && !line.contains(&endpoint.code), "{line}");
    }
}
