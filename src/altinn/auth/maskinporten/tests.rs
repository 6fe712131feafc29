use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Value, json};

use super::*;
use crate::{
    altinn::testing::{Reply, Rig, Seen, TOKEN, pem, pkcs8, public_key},
    clock::Clock,
    config::KeyName,
};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_500);

async fn rig(
    answers: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    user: Option<SystemUser>,
) -> Rig {
    let clock = Clock::manual(START);
    Rig::with(&clock, answers, |config, _| config.maskinporten.system_user = user).await
}

fn granted(_: &Seen) -> Reply {
    Reply::new(200, json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 119}))
}

async fn ask(rig: &Rig) -> Result<AccessToken, TokenError> {
    rig.events.tokens().inner().inner().token().await
}

/// The assertion that was sent, its signature verified, and its header.
fn assertion(rig: &Rig) -> (Value, Value) {
    let form = rig.server.seen().last().unwrap().form();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(form.len(), 2);
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let token = jsonwebtoken::decode(&form["assertion"], &public_key(), &validation).unwrap();
    (token.claims, serde_json::to_value(token.header).unwrap())
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_grant_has_the_documented_claims_and_no_others() {
    let rig = rig(granted, None).await;
    let token = ask(&rig).await.unwrap();
    assert_eq!(token.secret().expose_secret(), "opaque");
    assert_eq!(token.expires(), START.after(Duration::from_secs(119)));
    let (claims, header) = assertion(&rig);
    assert_eq!(header, json!({"alg": "RS256", "kid": "kid-1"}));
    assert_eq!(keys(&claims), BTreeSet::from(["aud", "exp", "iat", "iss", "jti", "scope"]));
    assert_eq!(claims["aud"], rig.server.url.as_str());
    assert!(rig.server.url.as_str().ends_with('/'));
    assert_eq!(claims["iss"], "client-1");
    assert_eq!(claims["iat"], 1_800_000_000);
    assert!(claims["exp"].as_u64().unwrap() - 1_800_000_000 <= 120);
    assert_eq!(claims["scope"], "altinn:events.subscribe altinn:x");
    assert_eq!(
        uuid::Uuid::parse_str(claims["jti"].as_str().unwrap()).unwrap().get_version_num(),
        4
    );
    let seen = rig.server.seen();
    assert_eq!(seen[0].call, TOKEN);
    assert_eq!(seen[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen[0].header("authorization"), None);
}

#[tokio::test]
async fn each_grant_is_its_own() {
    let rig = rig(granted, None).await;
    ask(&rig).await.unwrap();
    let first = assertion(&rig).0["jti"].clone();
    ask(&rig).await.unwrap();
    assert_ne!(first, assertion(&rig).0["jti"]);
}

#[tokio::test]
async fn a_system_user_is_named_as_documented() {
    for (external_ref, more) in
        [(None, json!({})), (Some("ref-1"), json!({"externalRef": "ref-1"}))]
    {
        let external_ref = external_ref.map(str::to_owned);
        let user = SystemUser { org: "999888777".to_owned(), external_ref, system_id: None };
        let rig = rig(granted, Some(user)).await;
        ask(&rig).await.unwrap();
        let mut detail = json!({
            "type": "urn:altinn:systemuser",
            "systemuser_org": {"authority": "iso6523-actorid-upis", "ID": "0192:999888777"},
        });
        detail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(assertion(&rig).0["authorization_details"], json!([detail]));
    }
}

#[tokio::test]
async fn both_kinds_of_pem_sign_and_anything_else_is_refused_at_the_start() {
    let rig = rig(granted, None).await;
    let file = rig.config.maskinporten.key_file.clone();
    let reload = |content: &str| {
        std::fs::write(file.path(), content).unwrap();
        rig.events.signing_key_anew().map(|put_in_force| put_in_force())
    };
    // In PKCS#8 the PKCS#1 key of 2048 bits begins after 26 bytes.
    reload(&pem("RSA PRIVATE KEY", &pkcs8()[26..])).unwrap();
    ask(&rig).await.unwrap();
    assertion(&rig);
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let public = pem("PUBLIC KEY", &pkcs8()[..100]);
    for bad in ["", "no key", &ec, &public, &pem("PRIVATE KEY", &pkcs8()[..500])] {
        let error = reload(bad).unwrap_err();
        assert!(error.to_string().contains("key.pem"), "{error}");
        ask(&rig).await.expect("the old key stays in use");
    }
}

#[tokio::test]
async fn what_maskinporten_refuses_with_is_kept() {
    let text = "Invalid assertion. Client authentication failed. Expired key. \
                (trace_id: 356666143081bbec11d293753e9702ca)";
    let refuse = move |_: &Seen| {
        let uri = "https://maskinporten.no/errors/MP-121";
        let body = json!({"error": "invalid_grant", "error_description": text, "error_uri": uri});
        Reply::new(400, body).header("Date", "Fri, 15 Jan 2027 08:00:00 GMT")
    };
    let rig = rig(refuse, None).await;
    let error = ask(&rig).await.unwrap_err();
    assert_eq!(error.code(), Some("MP-121"));
    assert_eq!(error.trace_id(), Some("356666143081bbec11d293753e9702ca"));
    assert_eq!(
        error.to_string(),
        "Maskinporten refused (400 invalid_grant MP-121): \
         Invalid assertion. Client authentication failed. Expired key. \
         (meaning: the key is expired: a key lives a year on a client; what to do: register the \
         public key with the client again, or a new one and its key_id)"
    );
    let TokenError::Refused(refused) = error else { panic!("{error}") };
    assert_eq!(refused.uri.as_deref(), Some("https://maskinporten.no/errors/MP-121"));
}

#[tokio::test]
async fn a_clock_that_is_off_is_told() {
    for (date, hint) in [
        ("Fri, 15 Jan 2027 08:00:30 GMT", Some("behind")),
        ("Fri, 15 Jan 2027 07:59:30 GMT", Some("ahead")),
        ("Fri, 15 Jan 2027 08:00:05 GMT", None),
    ] {
        let body =
            json!({"error": "invalid_grant", "error_description": "Issue time is after now"});
        let rig = rig(move |_| Reply::new(400, body.clone()).header("Date", date), None).await;
        let error = ask(&rig).await.unwrap_err().to_string();
        assert_eq!(hint.is_some(), error.contains("theirs)"), "{error}");
        assert!(error.contains(hint.unwrap_or_default()), "{error}");
    }
}

#[tokio::test]
async fn answers_that_are_no_grant_are_failures() {
    let long = format!(r#"{{"access_token":"{}","expires_in":1}}"#, "x".repeat(70_000));
    for (status, body, text) in [
        (200, "<html>".to_owned(), "not the JSON"),
        (200, r#"{"access_token":"x"}"#.to_owned(), "not the JSON"),
        (200, r#"{"access_token":"","expires_in":1}"#.to_owned(), "empty"),
        (200, long, "longer than 65536"),
        (503, "<html>".to_owned(), "503"),
        (302, String::new(), "302"),
    ] {
        let rig = rig(move |_| Reply::new(status, &body), None).await;
        let error = ask(&rig).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_supplier_names_the_consumer_and_the_audience_is_an_array() {
    let clock = Clock::manual(START);
    let rig = Rig::with(&clock, granted, |config, _| {
        config.maskinporten.consumer_org = Some("910753614".to_owned());
        config.maskinporten.resource = vec!["https://api.example.no/".to_owned()];
    });
    let rig = rig.await;
    ask(&rig).await.unwrap();
    let (claims, _) = assertion(&rig);
    assert_eq!(claims["consumer_org"], "910753614");
    assert_eq!(claims["resource"], json!(["https://api.example.no/"]));
}

/// A chain of two whose leaf has this key, in PEM.
fn chain(private: &str) -> (String, Vec<Vec<u8>>) {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.clone().self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    let key =
        rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(private, &rcgen::PKCS_RSA_SHA256).unwrap();
    let leaf = rcgen::CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &issuer).unwrap();
    let ders = [&leaf, &root].map(|certificate| certificate.der().to_vec());
    (leaf.pem() + &root.pem(), ders.to_vec())
}

#[tokio::test]
async fn an_enterprise_certificate_goes_along_with_its_chain_and_without_a_key_id() {
    let (text, ders) = chain(&pem("PRIVATE KEY", &pkcs8()));
    let clock = Clock::manual(START);
    let rig = Rig::with(&clock, granted, |config, folder| {
        let file = folder.join("chain.pem");
        std::fs::write(&file, text).unwrap();
        config.maskinporten.key_name = KeyName::Certificate(file);
    });
    let rig = rig.await;
    ask(&rig).await.unwrap();
    let x5c: Vec<_> = ders.iter().map(|der| STANDARD.encode(der)).collect();
    assert_eq!(assertion(&rig).1, json!({"alg": "RS256", "x5c": x5c}));

    let file = rig.folder.path().join("chain.pem");
    let others = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    let nonsense = pem("CERTIFICATE", b"nonsense");
    for (content, words) in [
        ("", "has no certificate"),
        (others.as_str(), "another key"),
        (nonsense.as_str(), "number 1 of 1) that is damaged"),
        ("-----BEGIN CERTIFICATE-----\n!", "cut off"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = rig.events.signing_key_anew().err().unwrap().to_string();
        assert!(error.contains("chain.pem") && error.contains(words), "{error}");
        ask(&rig).await.expect("the old one stays in use");
    }
}

#[tokio::test]
async fn the_token_endpoint_is_where_the_metadata_say() {
    let rig = rig(granted, None).await;
    let url = rig.server.url.clone();
    let metadata = |issuer: &str, endpoint: &str| {
        let body = json!({"issuer": issuer, "token_endpoint": endpoint}).to_string();
        *rig.server.metadata.lock().unwrap() = Some(body);
    };
    metadata(url.as_str(), url.join("elsewhere").unwrap().as_str());
    ask(&rig).await.unwrap();
    assert_eq!(rig.server.calls(), ["POST /elsewhere"]);
    // For a day nobody asks again, whatever the metadata say then.
    metadata("https://other.example/", url.as_str());
    ask(&rig).await.unwrap();
    assert_eq!(rig.server.count("POST /elsewhere"), 2);
}

#[tokio::test]
async fn metadata_that_cannot_be_believed_leave_the_known_endpoint_in_use() {
    let bodies = [
        r#"{"issuer":"https://other.example/","token_endpoint":"BASEelsewhere"}"#,
        r#"{"issuer":"BASE","token_endpoint":"http://192.0.2.1/token"}"#,
        r#"{"issuer":"BASE","token_endpoint":"elsewhere"}"#,
        // Encrypted, and what any proxy may make of metadata.
        r#"{"issuer":"BASE","token_endpoint":"https://maskinporten.example/token"}"#,
        r#"{"issuer":"BASE","token_endpoint":"http://localhost:1/token"}"#,
        r#"{"issuer":"BASE","token_endpoint":"http://127.0.0.1:1/token"}"#,
        r#"{"issuer":"BASE"}"#,
        "<html>",
    ];
    for body in bodies {
        let rig = rig(granted, None).await;
        let body = body.replace("BASE", rig.server.url.as_str());
        *rig.server.metadata.lock().unwrap() = Some(body.clone());
        ask(&rig).await.unwrap();
        assert_eq!(rig.server.calls(), [TOKEN], "{body}");
    }
}

#[tokio::test]
async fn the_clocks_difference_is_measured_with_every_token() {
    let at = |seen: &Seen| granted(seen).header("Date", "Fri, 15 Jan 2027 07:59:30 GMT");
    let rig = rig(at, None).await;
    ask(&rig).await.unwrap();
    // 2027-01-15T08:00:00.5 here; `Date` has whole seconds.
    let skew = rig.metrics.clock_skew_seconds.get();
    assert!((skew - 30.0).abs() < 0.01, "{skew}");
}
