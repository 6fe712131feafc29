use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    altinn::testing::{EXCHANGE, LIST, Reply, Rig, Seen, TOKEN, jwt, signed_in},
    clock::Clock,
    secret::SecretFile,
};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

async fn exchanged(status: u16, body: String) -> Result<AccessToken, TokenError> {
    let clock = Clock::manual(START);
    let answers = move |seen: &Seen| match seen.call.as_str() {
        TOKEN => Reply::new(200, json!({"access_token": "opaque", "expires_in": 119})),
        EXCHANGE => {
            assert_eq!(seen.header("authorization"), Some("Bearer opaque"));
            Reply::new(status, &body)
        }
        _ => Reply::new(404, ""),
    };
    let rig = Rig::new(&clock, answers).await;
    rig.events.tokens().inner().token().await
}

#[tokio::test]
async fn a_token_is_read_bare_or_quoted_and_lives_as_long_as_it_says() {
    for exp in [json!(1_800_001_800), json!(1_800_001_800.7), json!(1_800_001_800.0)] {
        let jwt = jwt(&json!({"exp": exp}));
        for body in
            [jwt.clone(), format!("\"{jwt}\""), format!(" \"{jwt}\"\r\n"), format!("{jwt}\n")]
        {
            let token = exchanged(200, body).await.unwrap();
            assert_eq!(token.secret().expose_secret(), jwt);
            assert_eq!(token.expires(), START.after(Duration::from_secs(1800)));
        }
    }
}

#[tokio::test]
async fn what_is_no_token_is_a_failure_that_does_not_show_it() {
    let good = jwt(&json!({"exp": 1_800_001_800}));
    for (body, text) in [
        (String::new(), "not a JWT"),
        ("a.b".to_owned(), "not a JWT"),
        ("a..c".to_owned(), "not a JWT"),
        (format!("{good}.d"), "not a JWT"),
        (format!("{{\"token\":\"{good}\"}}"), "not a JWT"),
        (format!("\"\"{good}\"\""), "not a JWT"),
        ("a.b.c".to_owned(), "without exp"),
        (jwt(&json!({"exp": "soon"})), "without exp"),
        (jwt(&json!({"iat": 1})), "without exp"),
        (jwt(&json!({"exp": -1})), "without exp"),
        (jwt(&json!({"exp": 1_800_000_000})), "ended already"),
    ] {
        let error = exchanged(200, body.clone()).await.unwrap_err().to_string();
        assert!(error.contains(text), "{body}: {error}");
        assert!(body.len() < 8 || !error.contains(&body), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_altinns_words() {
    for (status, body, text) in [
        (
            401,
            r#"{"title":"Unauthorized","status":401,"traceId":"00-a-00"}"#,
            "(401): Unauthorized",
        ),
        (401, "", "(401): no reason given"),
        (410, r#"{"title":"Virksomhetsbruker is no longer available"}"#, "Virksomhetsbruker"),
        (400, "Invalid token provider: google.", "Invalid token provider"),
        (401, "", "meaning: this Altinn does not take"),
        (500, "<html>", "an HTML page"),
    ] {
        let error = exchanged(status, body.to_owned()).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn the_gateways_key_goes_to_the_platform_only() {
    let clock = Clock::manual(START);
    let list = |_: &Seen| Reply::new(200, json!({"count": 0, "subscriptions": []}));
    let rig = Rig::with(&clock, signed_in(&clock, list), |config, folder| {
        std::fs::write(folder.join("apim"), "gateway-key\n").unwrap();
        config.api_key_file = Some(SecretFile::resolve("apim", folder).unwrap());
    });
    let rig = rig.await;
    rig.events.list().await.unwrap();
    let key = |seen: &Seen| seen.header("Ocp-Apim-Subscription-Key").map(str::to_owned);
    let seen: Vec<_> =
        rig.server.seen().iter().map(|seen| (seen.call.clone(), key(seen))).collect();
    let with = |call: &str, key: Option<&str>| (call.to_owned(), key.map(str::to_owned));
    let expected =
        [with(TOKEN, None), with(EXCHANGE, Some("gateway-key")), with(LIST, Some("gateway-key"))];
    assert_eq!(seen, expected);
    std::fs::write(rig.folder.path().join("apim"), "another-key").unwrap();
    rig.events.gateway_key_anew().unwrap()();
    std::fs::write(rig.folder.path().join("apim"), "two\nlines").unwrap();
    assert!(rig.events.gateway_key_anew().is_err());
    rig.events.list().await.unwrap();
    assert_eq!(rig.server.seen().last().and_then(key).as_deref(), Some("another-key"));
}

#[tokio::test]
async fn a_401_is_repeated_before_it_is_believed_and_nothing_else_is() {
    for (status, refusals, asked, good) in
        [(401, 1, 2, true), (401, 2, 3, true), (401, 9, 3, false), (503, 9, 1, false)]
    {
        let clock = Clock::manual(START);
        let left = std::sync::Mutex::new(refusals);
        let answers = move |seen: &Seen| {
            let mut left = left.lock().unwrap();
            match seen.call.as_str() {
                TOKEN => Reply::new(200, json!({"access_token": "opaque", "expires_in": 119})),
                _ if *left > 0 => {
                    *left -= 1;
                    Reply::new(status, "")
                }
                _ => Reply::new(200, jwt(&json!({"exp": 1_800_001_800}))),
            }
        };
        let rig = Rig::new(&clock, answers).await;
        let told = rig.events.tokens().inner().token().await;
        assert_eq!(told.is_ok(), good, "{status} {refusals}");
        assert_eq!((rig.server.count(EXCHANGE), rig.server.count(TOKEN)), (asked, 1));
        if let Err(error) = told {
            let passing = error.kind() == advice::Kind::Passing;
            assert_eq!(passing, status == 503, "{error}");
        }
    }
}
