use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use cloudevents::binding::http::to_event;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

use super::*;
use crate::{
    event::Origin,
    queue::{Seq, StoredEvent},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const NOW: &str = "2024-04-19T07:22:00Z";

type Body = BoxBody<Bytes, io::Error>;

/// What the peer does with a request.
#[derive(Clone)]
enum Reply {
    Status(u16),
    With(u16, &'static [(&'static str, &'static str)], &'static str),
    /// 500 and a body without end; counts its chunks.
    Endless(Arc<AtomicUsize>),
    /// 500, a little body, and no more.
    Stuck,
    Hang,
    Close,
}

/// A real server on loopback that answers all requests alike.
struct Peer {
    url: Url,
    requests: mpsc::Receiver<Request<Bytes>>,
    _connections: JoinSet<()>,
}

fn full(text: &'static str) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed()
}

fn chunk(size: usize) -> Frame<Bytes> {
    Frame::data(Bytes::from(vec![b'x'; size]))
}

async fn answer(reply: Reply) -> Result<Response<Body>, io::Error> {
    let (status, headers, body) = match reply {
        Reply::Status(status) => (status, [].as_slice(), full("")),
        Reply::With(status, headers, text) => (status, headers, full(text)),
        Reply::Endless(count) => {
            let chunks = stream::repeat_with(move || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(chunk(1000))
            });
            (500, [].as_slice(), BodyExt::boxed(StreamBody::new(chunks)))
        }
        Reply::Stuck => {
            let chunks = stream::iter([Ok(chunk(3))]).chain(stream::pending());
            (500, [].as_slice(), BodyExt::boxed(StreamBody::new(chunks)))
        }
        Reply::Hang => std::future::pending().await,
        Reply::Close => return Err(io::Error::other("closed")),
    };
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    Ok(answer.body(body).unwrap())
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    reply: Reply,
    requests: mpsc::Sender<Request<Bytes>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (reply, requests) = (reply.clone(), requests.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            requests.send(Request::from_parts(head, body)).await.unwrap();
            answer(reply).await
        }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // A connection that breaks off is part of what is tested.
    drop(connection.serve_connection(TokioIo::new(stream), service).await);
}

impl Peer {
    async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap()).parse().unwrap();
        let (sender, requests) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, reply.clone(), sender.clone()));
            }
        });
        Self { url, requests, _connections: tasks }
    }

    fn start_unix(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (sender, requests) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, Reply::Status(204), sender.clone()).await;
            }
        });
        Self { url: "http://unused".parse().unwrap(), requests, _connections: tasks }
    }

    fn handler(&self, content_mode: ContentMode) -> HttpHandler {
        handler(HttpTarget::Url(self.url.clone()), content_mode, TIMEOUT)
    }
}

fn handler(target: HttpTarget, content_mode: ContentMode, timeout: Duration) -> HttpHandler {
    let now: Timestamp = serde_json::from_str(&format!("\"{NOW}\"")).unwrap();
    let config = config::HttpHandler { target, content_mode };
    HttpHandler::new(&config, timeout, Clock::manual(now)).unwrap()
}

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

const EVENT: &str =
    r#"{ "specversion":"1.0", "id":"1","source":"/a","type":"t","data":{"big":1e400} }"#;

async fn deliver(handler: &HttpHandler, json: &str) -> Outcome {
    let stored = stored(json);
    handler.deliver(Attempt { stored: &stored, number: 3, idempotency_key: "key" }).await
}

fn retried(outcome: Outcome) -> (String, Option<String>, Option<Duration>) {
    match outcome {
        Outcome::Retry { failure, after } => (failure.reason, failure.answer, after),
        other @ (Outcome::Delivered | Outcome::Rejected { .. }) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_structured_request_has_the_stored_bytes_and_its_headers() {
    let mut peer = Peer::start(Reply::Status(202)).await;
    let outcome = deliver(&peer.handler(ContentMode::Structured), EVENT).await;
    assert_eq!(outcome, Outcome::Delivered);
    let request = peer.requests.recv().await.unwrap();
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/events"));
    assert_eq!(request.body(), EVENT);
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!((header("idempotency-key"), header("brevdue-attempt")), ("key", "3"));
    assert!(is_traceparent(header("traceparent")));
    assert!(header("user-agent").starts_with("brevdue/"));
}

/// Status, headers and body; what is kept of the body, and the time asked for.
type Case = (
    u16,
    &'static [(&'static str, &'static str)],
    &'static str,
    Option<&'static str>,
    Option<Duration>,
);

#[tokio::test]
async fn what_is_answered_decides_the_outcome() {
    for status in [200, 201, 202, 204, 299] {
        let peer = Peer::start(Reply::Status(status)).await;
        let outcome = deliver(&peer.handler(ContentMode::Structured), EVENT).await;
        assert_eq!(outcome, Outcome::Delivered, "{status}");
    }
    let seconds = Duration::from_secs;
    let cases: [Case; 8] = [
        (302, &[("location", "/elsewhere")], "", None, None),
        (304, &[], "", None, None),
        (400, &[], "what?", Some("what?"), None),
        (500, &[], "oh", Some("oh"), None),
        (503, &[("retry-after", "120")], "", None, Some(seconds(120))),
        (503, &[("retry-after", "Fri, 19 Apr 2024 07:24:00 GMT")], "", None, Some(seconds(120))),
        (429, &[("retry-after", "soon")], "", None, None),
        (429, &[("retry-after", "99999999999999999999")], "", None, Some(seconds(u64::MAX))),
    ];
    for (status, headers, body, answer, after) in cases {
        let peer = Peer::start(Reply::With(status, headers, body)).await;
        let outcome = deliver(&peer.handler(ContentMode::Structured), EVENT).await;
        let expected = (format!("answered {status}"), answer.map(str::to_owned), after);
        assert_eq!(retried(outcome), expected, "{status} {headers:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut peer = Peer::start(Reply::With(307, &[("location", "/elsewhere")], "")).await;
    retried(deliver(&peer.handler(ContentMode::Structured), EVENT).await);
    assert_eq!(peer.requests.recv().await.unwrap().uri().path(), "/events");
    assert!(peer.requests.try_recv().is_err());
}

#[tokio::test]
async fn of_an_answer_without_end_only_the_beginning_is_read() {
    let chunks = Arc::new(AtomicUsize::new(0));
    let peer = Peer::start(Reply::Endless(chunks.clone())).await;
    let outcome = deliver(&peer.handler(ContentMode::Structured), EVENT).await;
    let (reason, answer, _) = retried(outcome);
    assert_eq!((reason.as_str(), answer), ("answered 500", Some("x".repeat(ANSWER))));
    // The sockets' buffers hold some; a reader to the end would have had far more.
    assert!(chunks.load(Ordering::SeqCst) < 50_000);
}

#[tokio::test]
async fn an_answer_that_stops_half_way_still_tells_its_status() {
    let peer = Peer::start(Reply::Stuck).await;
    let outcome = deliver(&peer.handler(ContentMode::Structured), EVENT).await;
    assert_eq!(retried(outcome), ("answered 500".into(), Some("xxx".into()), None));
}

#[tokio::test]
async fn a_peer_that_hangs_or_closes_or_is_not_there_is_a_retry_without_the_url() {
    let secret = |url: &Url| {
        let mut url = url.clone();
        url.set_query(Some("code=secret"));
        url.set_username("user").unwrap();
        url.set_password(Some("password")).unwrap();
        HttpTarget::Url(url)
    };
    let hang = Peer::start(Reply::Hang).await;
    let began = Instant::now();
    let hanging = handler(secret(&hang.url), ContentMode::Structured, Duration::from_millis(10));
    let (reason, ..) = retried(deliver(&hanging, EVENT).await);
    assert_eq!(reason, "timed out");
    assert!(began.elapsed() >= SLACK, "the dispatcher's time-out comes first");

    let mut close = Peer::start(Reply::Close).await;
    let closing = handler(secret(&close.url), ContentMode::Structured, TIMEOUT);
    let (reason, ..) = retried(deliver(&closing, EVENT).await);
    assert_eq!(reason, "connection closed before message completed");
    let request = close.requests.recv().await.unwrap();
    assert!(request.headers().contains_key("authorization"), "credentials are sent as such");

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/").parse().unwrap();
    let absent = handler(secret(&url), ContentMode::Structured, TIMEOUT);
    let (reason, ..) = retried(deliver(&absent, EVENT).await);
    assert_eq!(reason, "cannot connect: Connection refused (os error 111)");
}

#[tokio::test]
async fn a_unix_socket_is_reached_with_path_and_query() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let target = HttpTarget::Unix { socket: socket.clone(), path: "/events?a=1".into() };
    let handler = handler(target, ContentMode::Structured, TIMEOUT);
    let (reason, ..) = retried(deliver(&handler, EVENT).await);
    assert_eq!(reason, "cannot connect: No such file or directory (os error 2)");
    let mut peer = Peer::start_unix(&socket);
    assert_eq!(deliver(&handler, EVENT).await, Outcome::Delivered);
    assert_eq!(peer.requests.recv().await.unwrap().uri(), "/events?a=1");
}

#[tokio::test]
async fn a_binary_request_is_what_the_sdk_reads_as_the_same_event() {
    let head = r#""specversion":"1.0","id":"1","source":"/a?b=c&d","type":"t.u""#;
    for rest in [
        "",
        r#","subject":"/o/1","time":"2024-04-19T07:22:19Z","resource":"urn:x:y","ext":"z""#,
        r#","datacontenttype":"application/json","data":{"a":[1,"x",null]}"#,
        r#","datacontenttype":"text/plain","data":"a b æ""#,
        r#","datacontenttype":"application/octet-stream","data_base64":"AAH/""#,
    ] {
        let mut peer = Peer::start(Reply::Status(200)).await;
        let json = format!("{{{head}{rest}}}");
        let outcome = deliver(&peer.handler(ContentMode::Binary), &json).await;
        assert_eq!(outcome, Outcome::Delivered);
        let request = peer.requests.recv().await.unwrap();
        let mut read = to_event(request.headers(), request.body().to_vec()).unwrap();
        let mut sent = stored(&json).event.to_sdk().unwrap();
        // The SDK reads all data in binary mode as bytes.
        let bytes = |event: &mut cloudevents::Event| {
            event.take_data().2.map(|data| Vec::<u8>::try_from(data).unwrap())
        };
        assert_eq!(bytes(&mut read), bytes(&mut sent), "{rest}");
        assert_eq!(read, sent, "{rest}");
    }
}

#[test]
fn binary_mode_encodes_what_a_header_cannot_hold() {
    let json =
        r#"{"specversion":"1.0","id":"a b","source":"/å","type":"100%\"","ext":"x\ny😀~","n":5}"#;
    let (headers, body) = binary(&stored(json).event).unwrap();
    assert!(body.is_empty());
    for (name, value) in [
        ("ce-id", "a%20b"),
        ("ce-source", "/%C3%A5"),
        ("ce-type", "100%25%22"),
        ("ce-ext", "x%0Ay%F0%9F%98%80~"),
        ("ce-n", "5"),
        ("ce-specversion", "1.0"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(!headers.contains_key("content-type"));
}

#[tokio::test]
async fn an_event_that_has_no_binary_form_is_a_dead_letter_at_once() {
    let peer = Peer::start(Reply::Status(200)).await;
    let handler = peer.handler(ContentMode::Binary);
    let json = r#"{"id":"1","source":"/a","type":"t","data_base64":"=no="}"#;
    let outcome = deliver(&handler, json).await;
    let Outcome::Rejected { failure } = outcome else { panic!("{outcome:?}") };
    let reason = "the event cannot be sent in binary mode: data_base64 is not base64";
    assert_eq!(failure.reason, reason);
}

#[test]
fn what_no_header_can_hold_does_not_keep_an_event_from_its_handler() {
    let json = r#"{"id":"1","source":"C:\\a b|{}","type":"t\u0000","Odd Name":"x","\ud800":1,
        "Upper":"y","list":[1, 2],"gone":null,"datacontenttype":"a\nb: ø","data":"x"}"#;
    let (headers, body) = binary(&stored(json).event).unwrap();
    let sent: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let expected = [
        "ce-upper: y",
        "ce-id: 1",
        "ce-list: [1,%202]",
        "ce-source: C:\\a%20b|{}",
        "ce-type: t%00",
        "content-type: a%0Ab: %C3%B8",
    ];
    assert_eq!((sent, body), (expected.map(str::to_owned).to_vec(), b"x".to_vec()));
}

#[tokio::test]
async fn every_post_says_how_long_its_body_is() {
    for (mode, data) in [ContentMode::Structured, ContentMode::Binary]
        .into_iter()
        .flat_map(|mode| ["", r#","data":"x""#].map(|data| (mode, data)))
    {
        let mut peer = Peer::start(Reply::Status(200)).await;
        let json = format!(r#"{{"specversion":"1.0","id":"1","source":"/a","type":"t"{data}}}"#);
        assert_eq!(deliver(&peer.handler(mode), &json).await, Outcome::Delivered);
        let request = peer.requests.recv().await.unwrap();
        let length = request.headers()["content-length"].to_str().unwrap();
        assert_eq!(length, request.body().len().to_string(), "{mode:?} {data}");
        assert_eq!(request.headers().get_all("content-length").iter().count(), 1);
    }
}

#[test]
fn a_good_trace_context_is_passed_on_and_a_bad_one_is_replaced() {
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    for (text, good) in [
        (format!("00-{trace}-{parent}-01"), true),
        (format!("00-{trace}-{parent}-01-x"), false),
        (format!("01-{trace}-{parent}-01-x"), true),
        (format!("ff-{trace}-{parent}-01"), false),
        (format!("00-{}-{parent}-01", "0".repeat(32)), false),
        (format!("00-{trace}-{}-01", "0".repeat(16)), false),
        (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
        (format!("00-{trace}-{parent}"), false),
        (format!("01-{trace}-{parent}-01-\r\nx: y"), false),
        (String::new(), false),
    ] {
        assert_eq!(traceparent(Some(&text)) == text, good, "{text}");
        assert!(is_traceparent(&traceparent(Some(&text))));
    }
    assert_ne!(traceparent(None), traceparent(None));
}

#[test]
fn every_form_of_a_retry_after_date_is_read() {
    let now = Timestamp::from_millis(784_111_777_000);
    for (text, seconds) in [
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
        ("Sun Nov  6 08:49:47 1994", Some(10)),
        ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
        (" 7 ", Some(7)),
        ("-7", None),
        ("1.5", None),
        ("", None),
    ] {
        assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
    }
}
