//! Who may call, and how a client proves who it is: the allow list, the PROXY protocol, sign-in by
//! certificate and on behalf of a consumer.

use std::{fs, sync::Arc};

use brevdue::simulator::{
    ca::{client_key, enterprise_certificate},
    options::{Delegation, EnterpriseCertificate},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject},
    },
};

use crate::support::{
    PATIENCE,
    world::{QUICK_RETRY, World, event},
};

fn edit(world: &World, from: &str, to: &str) {
    let text = fs::read_to_string(&world.config).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    fs::write(&world.config, text.replace(from, to)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_not_on_the_list_is_told_403_or_only_reported() {
    let (refused, let_in) = ("refused a request", "a request from outside allow_from was let in");
    for (mode, status, told) in [("enforce", 403, refused), ("report", 200, let_in)] {
        let world = World::new().await;
        let list = format!(
            "[server]\nallow_from = [\"altinn-tt02\", \"10.0.0.0/8\"]\nallow_from_mode = \"{mode}\""
        );
        edit(&world, "[server]", &list);
        let daemon = world.daemon().await;
        let answer = world.push("innboks", event("1")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{mode}");
        let metrics = daemon.metrics().await;
        assert!(
            metrics.contains("brevdue_requests_not_allowed_total{hook=\"innboks\"}"),
            "{metrics}"
        );
        let log = daemon.stopped().await;
        let names = |line: &str| line.contains(told) && line.contains("\"peer\":\"127.0.0.1");
        assert!(log.lines().any(names), "the caller is named: {log}");
    }
}

/// The answer to a push over a connection that begins with these bytes, under TLS.
pub(crate) async fn push_behind(world: &World, header: &[u8]) -> String {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(world.folder.path().join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut stream = TcpStream::connect(world.listen).await.unwrap();
    stream.write_all(header).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else {
        return "closed".to_owned();
    };
    let (code, body) = (world.secret("innboks"), event("behind"));
    let request = format!(
        "POST /hooks/innboks?code={code} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end may come without TLS's own farewell.
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer").ok();
    String::from_utf8(answer).unwrap()
}

pub(crate) fn proxy_header(source: [u8; 4]) -> Vec<u8> {
    let head = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, 0x11, 0, 12]].concat();
    [&head[..], &source, &[127, 0, 0, 1, 0x12, 0x67, 0x20, 0xfb]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_says_who_is_behind_it_before_tls() {
    let world = World::new().await;
    let lines = "[server]\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
                 allow_from = [\"altinn-prod\"]";
    edit(&world, "[server]", lines);
    let daemon = world.daemon().await;
    for (header, start) in [
        (proxy_header([51, 13, 20, 208]), "HTTP/1.1 200 "),
        (proxy_header([198, 51, 100, 7]), "HTTP/1.1 403 "),
        (Vec::new(), "closed"),
    ] {
        let answer = push_behind(&world, &header).await;
        assert!(answer.starts_with(start), "{answer}");
    }
    assert!(daemon.stop().await.success());
}

/// The RSA key as a JWK, beside the PEM that the world wrote.
fn jwk_of(pem: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use brevdue::crypto::der::Reader;
    let pkcs8 = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
    let pkcs8 = pkcs8.unwrap();
    let outer = Reader(pkcs8.secret_pkcs8_der()).next().unwrap();
    let octets = outer.inner().last().unwrap();
    let numbers = Reader(octets.content).next().unwrap().inner().skip(1);
    let mut jwk = serde_json::json!({ "kty": "RSA", "use": "sig" });
    for (name, number) in ["n", "e", "d", "p", "q", "dp", "dq", "qi"].into_iter().zip(numbers) {
        let digits = number.content.strip_prefix(&[0]).unwrap_or(number.content);
        jwk[name] = URL_SAFE_NO_PAD.encode(digits).into();
    }
    jwk.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_jwk_signs_in() {
    let world = World::new().await;
    let file = world.folder.path().join("maskinporten.pem");
    let jwk = jwk_of(&fs::read_to_string(&file).unwrap());
    fs::write(&file, jwk).unwrap();
    let daemon = world.daemon().await;
    world.validated(1).await;
    assert!(daemon.command(&["check"]).status.success());
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enterprise_certificate_signs_in() {
    let key = client_key().unwrap();
    let certificate = enterprise_certificate(&key).unwrap();
    let EnterpriseCertificate { chain, .. } = certificate.clone();
    let world = World::with(
        |options| {
            let client = &mut options.clients[0];
            client.keys.clear();
            client.certificates = vec![certificate];
        },
        QUICK_RETRY,
        "",
    )
    .await;
    fs::write(world.folder.path().join("enterprise.pem"), chain).unwrap();
    fs::write(world.folder.path().join("maskinporten.pem"), &key.private_pem).unwrap();
    edit(&world, "key_id = \"brevdue-demo\"", "certificate_file = \"enterprise.pem\"");
    let daemon = world.daemon().await;
    world.validated(1).await;
    assert!(daemon.command(&["check"]).status.success());
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supplier_subscribes_as_the_consumer_that_delegated_to_it() {
    const CONSUMER: &str = "310000002";
    let world = World::with(
        |options| {
            options.clients[0].delegations = vec![Delegation {
                consumer: CONSUMER.to_owned(),
                scope: "altinn:events.subscribe".to_owned(),
            }];
        },
        QUICK_RETRY,
        "",
    )
    .await;
    let with = format!("[altinn.maskinporten]\nconsumer_org = \"{CONSUMER}\"");
    edit(&world, "[altinn.maskinporten]", &with);
    let daemon = world.daemon().await;
    let rows = world.validated(1).await;
    assert_eq!(rows[0]["consumer"], format!("/organisation/{CONSUMER}"));
    assert!(daemon.stop().await.success());
}
