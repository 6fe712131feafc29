use super::*;
use crate::altinn::testing::{Reply, Server};

const WELL_KNOWN: &str = "GET /prefix/hooks/.well-known/";

async fn ask(url: Url, challenge: Arc<Challenge>) -> Result<(), ProbeError> {
    PublicUrlProbe::new(url, None, challenge).unwrap().prove().await
}

#[tokio::test]
async fn a_public_url_that_leads_to_us_is_proven_once() {
    let challenge = Arc::<Challenge>::default();
    let server = {
        let challenge = Arc::clone(&challenge);
        Server::start(move |seen| {
            let path = seen.call.strip_prefix(WELL_KNOWN).unwrap();
            Reply::new(200, challenge.answer(path).unwrap())
        })
        .await
    };
    let url = server.url.join("/prefix/").unwrap();
    let mut proof = PublicUrlProbe::new(url, None, Arc::clone(&challenge)).unwrap();
    proof.prove().await.unwrap();
    proof.prove().await.unwrap();
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    let asked = calls[0].strip_prefix(WELL_KNOWN).unwrap();
    assert_eq!(challenge.answer(asked), None, "a question is answered only while it is open");
}

#[tokio::test]
async fn what_is_wrong_is_told_with_what_to_do() {
    let answering = |status: u16| async move {
        Server::start(move |_| Reply::new(status, "<html>").header("location", "/x")).await
    };
    let (page, missing, moved) = (answering(200).await, answering(404).await, answering(308).await);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unencrypted = format!("https://localhost:{}", page.url.port().unwrap());
    for (url, kind, words) in [
        (page.url.to_string(), "not us", "another server"),
        (missing.url.to_string(), "not us", "(404 Not Found)"),
        (moved.url.to_string(), "redirected", "(308 Permanent Redirect)"),
        (format!("http://{closed}"), "unreachable", "server.listen"),
        (unencrypted, "unreachable or tls", "server.public_url"),
        ("https://brevdue.invalid".to_owned(), "name", "cannot be resolved"),
    ] {
        let error = ask(url.parse().unwrap(), Arc::default()).await.unwrap_err();
        let told = match &error {
            ProbeError::NotUs { .. } => "not us",
            ProbeError::Redirected { .. } => "redirected",
            ProbeError::Unreachable { .. } => "unreachable",
            ProbeError::Name { .. } => "name",
            ProbeError::Tls { .. } => "tls",
            ProbeError::Random => "random",
        };
        assert!(kind.contains(told), "{url}: {error:?}");
        assert!(error.to_string().contains(words), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_told_apart() {
    let ca = crate::simulator::ca::Ca::new().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.server_config(&["localhost"]).unwrap());
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The client breaks it off: that is what is tested.
            acceptor.accept(stream).await.ok();
        }
    });
    let url = format!("https://localhost:{port}").parse().unwrap();
    let error = ask(url, Arc::default()).await.unwrap_err();
    assert!(matches!(error, ProbeError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("whole chain"), "{error}");
}
