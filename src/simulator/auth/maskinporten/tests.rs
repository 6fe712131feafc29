use http::StatusCode;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use crate::simulator::{
    auth::exchange::{Caller, exchange},
    options::Delegation,
    state::{ExchangeFault, State, TokenFault},
    tests::{bearer, claims, client, credentials, header, sign, signed_in, state, text, token},
};

/// A way to spoil an assertion, and what Maskinporten says to it.
struct Row {
    spoil: fn(&State, &mut Header, &mut Value),
    error: &'static str,
    code: Option<&'static str>,
    description: &'static str,
}

const fn row(
    spoil: fn(&State, &mut Header, &mut Value),
    error: &'static str,
    code: Option<&'static str>,
    description: &'static str,
) -> Row {
    Row { spoil, error, code, description }
}

const GRANT: &str = "invalid_grant";
const RAR: &str = "invalid_authorization_details";
const ROWS: [Row; 21] = [
    row(
        |_, _, c| c["sub"] = "x".into(),
        "invalid_request",
        Some("MP-011"),
        "Invalid assertion. Invalid parameter value",
    ),
    row(
        |_, _, c| c["iss"] = "x".into(),
        GRANT,
        Some("MP-100"),
        "Invalid assertion. Client authentication failed.",
    ),
    row(
        |_, h, _| h.kid = None,
        GRANT,
        None,
        "The client requires pre-registered jwk and no key identifier (kid) provided",
    ),
    row(|_, h, _| h.alg = Algorithm::PS256, GRANT, None, "The client requires pre-registered jwk"),
    row(
        |_, h, _| h.kid = Some("x".to_owned()),
        GRANT,
        None,
        "Unknown key identifier (kid) for client",
    ),
    row(
        |_, h, _| h.kid = Some("old".to_owned()),
        GRANT,
        Some("MP-121"),
        "Client authentication failed. Expired key.",
    ),
    row(
        |_, h, _| h.kid = Some("another".to_owned()),
        GRANT,
        Some("MP-124"),
        "Invalid JWT signature",
    ),
    row(
        |s, _, c| c["aud"] = format!("{}token", s.issuer()).into(),
        GRANT,
        Some("MP-110"),
        "Invalid JWT claim aud",
    ),
    row(
        |s, _, c| c["aud"] = s.issuer().trim_end_matches('/').into(),
        GRANT,
        Some("MP-110"),
        "Invalid JWT claim aud",
    ),
    row(|s, _, c| c["aud"] = json!([s.issuer()]), GRANT, Some("MP-110"), "Invalid JWT claim aud"),
    row(
        |s, _, c| c["iat"] = (s.now().as_secs() + 11).into(),
        GRANT,
        None,
        "Issue time is after now",
    ),
    row(
        |s, _, c| c["iat"] = (s.now().as_secs() - 11).into(),
        GRANT,
        Some("MP-130"),
        "JWT is expired",
    ),
    row(
        |s, _, c| c["exp"] = (s.now().as_secs() + 121).into(),
        GRANT,
        Some("MP-130"),
        "JWT is expired",
    ),
    row(|s, _, c| c["exp"] = s.now().as_secs().into(), GRANT, Some("MP-130"), "JWT is expired"),
    row(
        |_, _, c| c["scope"] = "altinn:events.subscribe x:y".into(),
        "invalid_scope",
        Some("MP-200"),
        "Token request contains invalid scopes for client, x:y (trace_id:",
    ),
    row(
        |_, _, c| c["scope"] = "".into(),
        "invalid_scope",
        Some("MP-200"),
        "Token request contains invalid scopes for client, ",
    ),
    row(
        |_, _, c| c["scope"] = "not:granted".into(),
        "invalid_scope",
        Some("MP-250"),
        "Consumer has not been granted access to the scope not:granted",
    ),
    row(
        |_, _, c| c["authorization_details"] = json!([{ "type": "x" }]),
        RAR,
        Some("MP-301"),
        "Unknown authorization details type",
    ),
    row(
        |_, _, c| {
            c["authorization_details"] = user("310000001", None);
            c["authorization_details"][0]["x"] = 1.into();
        },
        RAR,
        Some("MP-302"),
        "Unknown fields in the authorization details",
    ),
    row(
        |_, _, c| c["authorization_details"] = user("310000009", None),
        "invalid_altinn_customer_configuration",
        Some("MP-303"),
        "",
    ),
    row(
        |_, _, c| c["authorization_details"] = user("310000001", Some("other")),
        "invalid_altinn_customer_configuration",
        Some("MP-303"),
        "",
    ),
];

fn user(org: &str, external_ref: Option<&str>) -> Value {
    let mut detail = json!({
        "type": "urn:altinn:systemuser",
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": format!("0192:{org}") },
    });
    if let Some(external_ref) = external_ref {
        detail["externalRef"] = external_ref.into();
    }
    json!([detail])
}

fn strict() -> std::sync::Arc<State> {
    state(|options| {
        let client = &mut options.clients[0];
        client.scopes.push("not:granted".to_owned());
        client.not_granted.push("not:granted".to_owned());
        let mut old = client.keys[0].clone();
        (old.id, old.expired) = ("old".to_owned(), true);
        let mut another = client.keys[0].clone();
        another.id = "another".to_owned();
        another.public = crate::simulator::ca::client_key().unwrap().public_pem;
        client.keys.extend([old, another]);
    })
}

#[tokio::test]
async fn every_fault_of_an_assertion_has_its_own_refusal() {
    let state = strict();
    for (number, row) in ROWS.iter().enumerate() {
        let (mut header, mut claims) = (header(&state), claims(&state));
        (row.spoil)(&state, &mut header, &mut claims);
        let (status, body) = token(&state, &sign(&header, &claims)).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 400, "row {number}");
        assert_eq!(body["error"], row.error, "row {number}: {body}");
        let uri = row.code.map(|code| format!("{}errors/{code}", state.issuer()));
        assert_eq!(body.get("error_uri").and_then(Value::as_str), uri.as_deref(), "row {number}");
        let description = body["error_description"].as_str().unwrap();
        assert!(description.contains(row.description), "row {number}: {description}");
        let trace = description.rsplit_once("(trace_id: ").unwrap().1;
        assert!(trace.len() == 33 && trace.ends_with(')'), "row {number}: {trace}");
    }
}

#[tokio::test]
async fn an_assertion_and_its_jti_are_good_for_one_token() {
    let state = state(|_| {});
    let mut claims = claims(&state);
    let assertion = sign(&header(&state), &claims);
    assert_eq!(token(&state, &assertion).await.0, 200);
    let (status, body) = token(&state, &assertion).await;
    assert!(status == 400 && body.contains("Grant is used before"), "{body}");
    claims["scope"] = "altinn:events.publish".into();
    let (status, body) = token(&state, &sign(&header(&state), &claims)).await;
    assert!(status == 400 && body.contains("errors/MP-012"), "{body}");
}

#[tokio::test]
async fn what_is_not_a_grant_is_refused_before_any_jwt_is_read() {
    let state = state(|_| {});
    let mut form = http::HeaderMap::new();
    form.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    for (headers, body, error) in [
        (http::HeaderMap::new(), "grant_type=x", "invalid_request"),
        (form.clone(), "", "invalid_request"),
        (form.clone(), "grant_type=client_credentials", "unsupported_grant_type"),
        (
            form.clone(),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer",
            "invalid_request",
        ),
    ] {
        let answer = super::token(&state, &headers, body.as_bytes()).await;
        let (status, answer) = text(answer).await;
        assert!(status == 400 && answer.contains(error), "{body}: {answer}");
    }
    let (_, body) = token(&state, "a.b").await;
    assert!(body.contains("errors/MP-011"), "{body}");
}

#[tokio::test]
async fn the_altinn_token_says_who_calls() {
    let state = state(|_| {});
    let subscribe = "altinn:events.subscribe";
    for (scope, details, consumer) in [
        (subscribe, None, "/organisation/314249879"),
        ("altinn:serviceowner altinn:events.subscribe", None, "/org/ttd"),
        (subscribe, Some(user("310000001", None)), "/systemuser/u-1"),
        (subscribe, Some(user("310000001", Some("ref"))), "/systemuser/u-2"),
    ] {
        let headers = signed_in(&state, scope, details).await;
        let caller = Caller::of(&state, &headers).unwrap();
        assert_eq!(caller.consumer, consumer);
        assert!(caller.may(subscribe) && !caller.may("altinn:events.publish"));
    }
}

#[tokio::test]
async fn an_altinn_token_ends_on_the_second_and_a_maskinporten_token_is_none() {
    let state = state(|options| options.lifetimes.altinn = 30);
    let headers = signed_in(&state, "altinn:events.subscribe", None).await;
    let clock = state.options.clock.clone();
    clock.advance(std::time::Duration::from_secs(29));
    assert!(Caller::of(&state, &headers).is_some());
    clock.advance(std::time::Duration::from_secs(1));
    assert!(Caller::of(&state, &headers).is_none());

    let (_, body) = token(&state, &sign(&header(&state), &claims(&state))).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["expires_in"], 119);
    assert_eq!(body["token_type"], "Bearer");
    let raw = bearer(body["access_token"].as_str().unwrap());
    assert!(Caller::of(&state, &raw).is_none());
}

#[tokio::test]
async fn the_exchange_negotiates_and_refuses_as_altinn_does() {
    let state = state(|_| {});
    let (_, body) = token(&state, &sign(&header(&state), &claims(&state))).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let mut headers = bearer(body["access_token"].as_str().unwrap());
    let (status, bare) = text(exchange(&state, "maskinporten", &headers)).await;
    assert!(status == 200 && !bare.contains('"'));
    headers.insert("accept", "application/json".parse().unwrap());
    let (_, quoted) = text(exchange(&state, "MASKINPORTEN", &headers)).await;
    assert!(quoted.starts_with('"') && quoted.ends_with('"'));

    let (status, body) = text(exchange(&state, "google", &headers)).await;
    let expected = "Invalid token provider: google. Trusted token providers are 'Maskinporten', 'Id-porten' and 'AltinnStudio'.";
    assert_eq!((status.as_u16(), body.as_str()), (400, expected));
    assert_eq!(text(exchange(&state, "id-porten", &headers)).await.0, 401);
    state.tables().faults.exchange = Some(ExchangeFault::UnauthorizedOnce);
    assert_eq!(text(exchange(&state, "maskinporten", &headers)).await.0, 401);
    assert_eq!(text(exchange(&state, "maskinporten", &headers)).await.0, 200);
    headers.insert("X-Altinn-EnterpriseUser-Authentication", "x".parse().unwrap());
    assert_eq!(text(exchange(&state, "maskinporten", &headers)).await.0, 410);

    headers.remove("X-Altinn-EnterpriseUser-Authentication");
    state.options.clock.advance(std::time::Duration::from_secs(130));
    assert_eq!(text(exchange(&state, "maskinporten", &headers)).await.0, 200);
    state.options.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(text(exchange(&state, "maskinporten", &headers)).await.0, 401);
}

#[tokio::test]
async fn tokens_can_be_tiny_and_the_endpoint_can_fail() {
    let state = state(|_| {});
    state.tables().faults.token = Some(TokenFault::Tiny);
    let (_, body) = token(&state, &sign(&header(&state), &claims(&state))).await;
    assert!(body.contains("\"expires_in\":1,"), "{body}");
    state.tables().faults.token = Some(TokenFault::Error);
    assert_eq!(token(&state, &sign(&header(&state), &claims(&state))).await.0, 500);
}

/// A good assertion with another header; jsonwebtoken's has no place for what these tests need.
async fn under(state: &State, header: &Value, claims: &Value) -> (StatusCode, Value) {
    let key = crate::crypto::rsa_key::RsaKey::read(&credentials().key.private_pem.clone().into())
        .unwrap();
    let (status, body) = token(state, &key.jwt(header, claims).unwrap()).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn an_enterprise_certificate_stands_in_for_a_registered_key() {
    let certificate = crate::simulator::ca::enterprise_certificate(&credentials().key).unwrap();
    let other_key = crate::simulator::ca::client_key().unwrap();
    let other = crate::simulator::ca::enterprise_certificate(&other_key).unwrap();
    let registered = [certificate.clone(), other.clone()];
    let state = state(|options| options.clients[0].certificates = registered.to_vec());
    let x5c = |pem: &str| -> Value {
        let leaf = pem.lines().skip(1).take_while(|line| !line.starts_with("-----"));
        let lines: String = leaf.collect();
        json!({ "alg": "RS256", "x5c": [lines] })
    };
    let (status, body) = under(&state, &x5c(&certificate.chain), &claims(&state)).await;
    assert_eq!(status, 200, "{body}");
    let stranger = crate::simulator::ca::enterprise_certificate(&other_key).unwrap();
    let mut both = x5c(&certificate.chain);
    both["kid"] = client(&state.options).keys[0].id.clone().into();
    for (header, code) in [
        (both, "MP-011"),
        (x5c(&stranger.chain), "MP-120"),
        (x5c(&other.chain), "MP-124"),
        (json!({ "alg": "RS256", "x5c": ["?"] }), "MP-123"),
        (json!({ "alg": "RS256", "x5c": "x" }), "MP-123"),
    ] {
        let (status, body) = under(&state, &header, &claims(&state)).await;
        assert_eq!(status, 400);
        assert!(body["error_uri"].as_str().unwrap().ends_with(code), "{body}");
    }
}

#[tokio::test]
async fn a_supplier_gets_a_token_for_a_consumer_that_has_delegated_to_it() {
    let state = state(|options| {
        options.clients[0].delegations = vec![Delegation {
            consumer: "910753614".to_owned(),
            scope: "altinn:events.subscribe".to_owned(),
        }];
    });
    let header = json!({ "alg": "RS256", "kid": client(&state.options).keys[0].id });
    let with = |name: &str, value: Value| {
        let mut claims = claims(&state);
        claims[name] = value;
        claims
    };
    let mut both = with("consumer_org", "910753614".into());
    both["resource"] = json!(["https://api.example.no/"]);
    let (status, body) = under(&state, &header, &both).await;
    assert_eq!(status, 200, "{body}");
    let jwt = state.maskinporten_key.read(body["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(jwt.claims["consumer"]["ID"], "0192:910753614");
    assert_eq!(jwt.claims["supplier"]["ID"], format!("0192:{}", client(&state.options).org));
    assert_eq!(jwt.claims["aud"], json!(["https://api.example.no/"]));
    for (claims, words) in [
        (with("consumer_org", "910753615".into()), "MP-251"),
        (with("consumer_org", client(&state.options).org.clone().into()), "combination"),
        (with("consumer_org", "0192:910753614".into()), "MP-011"),
        (with("resource", "https://api.example.no/".into()), "MP-011"),
    ] {
        let (status, body) = under(&state, &header, &claims).await;
        assert_eq!(status, 400);
        assert!(body.to_string().contains(words), "{body}");
    }
}
