use super::Pusher;
use crate::simulator::{
    ca::Ca,
    tests::{credentials, options, subscriber},
};

const BODY: &str = r#"{"specversion":"1.0"}"#;

#[tokio::test]
async fn a_redirect_that_dotnet_makes_a_get_counts_as_delivered_without_the_body() {
    let pusher = Pusher::new(&options()).unwrap();
    for (status, method, body) in [
        (300, "GET", ""),
        (301, "GET", ""),
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", BODY),
        (308, "POST", BODY),
    ] {
        let subscriber = subscriber(&credentials().ca).await;
        subscriber.script.then(status, Some("/elsewhere"));
        let end = pusher.post(&format!("{}/hook", subscriber.url), BODY).await;
        assert_eq!(end, Ok(200), "{status}");
        let seen = subscriber.script.seen();
        let last = &seen[1];
        assert_eq!((last.method.as_str(), last.body.as_str()), (method, body), "{status}");
        assert_eq!(last.target, "/elsewhere", "{status}");
    }
}

#[tokio::test]
async fn a_redirect_to_plain_http_or_nowhere_is_the_end() {
    let pusher = Pusher::new(&options()).unwrap();
    for location in [Some("http://localhost:1/"), None] {
        let subscriber = subscriber(&credentials().ca).await;
        subscriber.script.then(307, location);
        assert_eq!(pusher.post(&subscriber.url, BODY).await, Ok(307), "{location:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let pusher = Pusher::new(&options()).unwrap();
    let subscriber = subscriber(&Ca::new().unwrap()).await;
    let error = pusher.post(&subscriber.url, BODY).await.unwrap_err();
    assert!(error.starts_with("TLS"), "{error}");
    assert!(subscriber.script.seen().is_empty());
}
