mod proxied;
mod strangers;

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use http::{Method, Request, StatusCode, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::*;
use crate::{clock::Clock, crypto::chain::Audience};

const LIMIT: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers with the length of the body; `/slow` waits for the gate.
struct Length {
    gate: Semaphore,
    begun: Semaphore,
}

impl Service for Length {
    async fn answer(&self, request: Request<RequestBody>, _peer: Peer) -> Answer {
        if request.uri().path() == "/slow" {
            self.begun.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
        }
        match body::read(request.into_body(), LIMIT, Duration::from_secs(1)).await {
            Ok(body) => answer::text(StatusCode::OK, "text/plain", body.len().to_string()),
            Err(body::BodyError::TooLarge) => answer::empty(StatusCode::PAYLOAD_TOO_LARGE),
            Err(body::BodyError::TimedOut) => answer::empty(StatusCode::REQUEST_TIMEOUT),
            Err(body::BodyError::Broken) => answer::empty(StatusCode::BAD_REQUEST),
        }
    }
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    service: Arc<Length>,
    tasks: JoinSet<io::Result<()>>,
    gauges: Gauges,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

async fn start(request_timeout: Duration) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("c");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("k"), made.signing_key.serialize_pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Arc::new(Length { gate: Semaphore::new(0), begun: Semaphore::new(0) });
    let (stop, gauges) = (CancellationToken::new(), Gauges::default());
    let limits = Limits {
        max_connections: NonZeroUsize::new(1024).unwrap(),
        handshake_timeout: request_timeout,
        request_timeout,
    };
    let key = crate::secret::SecretFile::resolve("k", folder.path()).unwrap();
    let files = tls::CertificateFiles { certificate: certificate.clone(), key };
    let loaded = tls::Certificates::load(files, Audience::default(), Clock::System).unwrap();
    let tls = Some(loaded.server_config().unwrap());
    let server = Server {
        sockets: vec![Socket::Tcp(listener)],
        tls,
        limits,
        service: Arc::clone(&service),
        gauges: gauges.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(stop.clone()));
    let client = crate::http_client::build(PATIENCE, Some(&certificate)).unwrap();
    Running { address, stop, service, tasks, gauges, client, _folder: folder }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

#[tokio::test]
async fn both_protocols_are_served_and_every_answer_has_its_length() {
    let running = start(PATIENCE).await;
    for (version, client) in [
        (http::Version::HTTP_2, running.client.clone()),
        (http::Version::HTTP_11, {
            let builder = crate::http_client::builder(PATIENCE).http1_only();
            builder.danger_accept_invalid_certs(true).build().unwrap()
        }),
    ] {
        let answer = client.post(running.url("/")).body("four").send().await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], "1");
        assert_eq!(answer.text().await.unwrap(), "4");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_says_so_before_or_not() {
    let running = start(PATIENCE).await;
    let long = vec![b'x'; 300_000];
    let chunks: Vec<io::Result<Vec<u8>>> = long.chunks(7000).map(|c| Ok(c.to_vec())).collect();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    for body in [reqwest::Body::from(long), streamed] {
        let answer = running.client.request(Method::POST, running.url("/")).body(body).send().await;
        assert_eq!(answer.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test]
async fn hundreds_of_silent_peers_do_not_delay_a_request() {
    let running = start(PATIENCE).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let before = tokio::time::Instant::now();
    let answer = running.client.post(running.url("/")).body("x").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    drop(silent);
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_stops_saying_is_let_go() {
    let running = start(Duration::from_millis(200)).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut half = TcpStream::connect(running.address).await.unwrap();
    half.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    for stream in [&mut silent, &mut half] {
        let end = timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("let go");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    assert_eq!(running.gauges.failed.get(), 2);

    // After its handshake, a client of either protocol that asks for nothing.
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let mut idle = handshake(running.address, alpn).await;
        let ended = async { while idle.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
        timeout(PATIENCE, ended).await.expect("let go");
    }
}

/// A TLS connection that has said nothing yet.
async fn handshake(address: SocketAddr, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = tokio_rustls::rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Believes every certificate; the test is about time, not trust.
#[derive(Debug)]
struct Anyone;

mod anyone {
    use tokio_rustls::rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    impl ServerCertVerifier for super::Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
        }
    }
}

#[tokio::test]
async fn stopping_lets_a_request_in_flight_finish_and_accepts_no_other() {
    let mut running = start(PATIENCE).await;
    let request = running.client.post(running.url("/slow")).body("12345").send();
    let mut requests = JoinSet::new();
    requests.spawn(request);
    running.service.begun.acquire().await.unwrap().forget();
    running.stop.cancel();
    running.service.gate.add_permits(1);
    let answer = requests.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "5");
    let ended = timeout(PATIENCE, running.tasks.join_next()).await.expect("drains");
    ended.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}
