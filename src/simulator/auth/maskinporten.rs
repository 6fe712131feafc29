//! Maskinporten: discovery, and the token endpoint with its checks in their order.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    claims::{self, ORG_AUTHORITY, SYSTEM_USER},
    refusal::Refusal,
    tokens::{self, Jwt},
};
use crate::{
    clock::Timestamp,
    server::{Answer, answer},
    simulator::{
        answers,
        options::Client,
        state::{Call, MetadataFault, State, TokenFault},
    },
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How far a client's clock may be off.
const SKEW: u64 = 10;
/// The longest time an assertion may hold.
const LONGEST: u64 = 120;
/// The documented claims; any other makes the assertion invalid.
const CLAIMS: [&str; 11] = [
    "aud",
    "iss",
    "iat",
    "exp",
    "jti",
    "scope",
    "resource",
    "consumer_org",
    "iss_onbehalfof",
    "pid",
    "authorization_details",
];

/// RFC 8414 metadata.
pub(in crate::simulator) fn metadata(state: &State) -> Answer {
    let issuer = match state.tables().faults.metadata {
        Some(MetadataFault::Missing) => return answer::empty(StatusCode::NOT_FOUND),
        Some(MetadataFault::Issuer) => "https://other.example/".to_owned(),
        None => state.issuer(),
    };
    let body = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}token"),
        "jwks_uri": format!("{issuer}jwk"),
        "grant_types_supported": [GRANT_TYPE],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "RS384", "RS512"],
        "authorization_details_types_supported": [SYSTEM_USER, "urn:altinn:consent"],
    });
    dated(state, answers::json(StatusCode::OK, &body))
}

/// Maskinporten's clock, which may be wrong on purpose.
fn now(state: &State) -> Timestamp {
    let offset = state.tables().faults.clock_offset;
    let by = Duration::from_secs(offset.unsigned_abs());
    if offset < 0 { state.now().before(by) } else { state.now().after(by) }
}

/// With the clock's `Date`, if it is not everyone's.
fn dated(state: &State, mut answer: Answer) -> Answer {
    if state.tables().faults.clock_offset != 0 {
        let date = UNIX_EPOCH + Duration::from_millis(now(state).as_millis());
        if let Ok(value) = HeaderValue::from_str(&httpdate::fmt_http_date(date)) {
            answer.headers_mut().insert(DATE, value);
        }
    }
    answer
}

/// `POST token`.
pub(in crate::simulator) async fn token(state: &State, headers: &HeaderMap, form: &[u8]) -> Answer {
    let fault = {
        let mut tables = state.tables();
        tables.counts.token_requests += 1;
        tables.faults.token
    };
    match fault {
        Some(TokenFault::Error) => return answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
        Some(TokenFault::Timeout) => {
            // The connection's own bound, or the client going away, ends this.
            state.stop.cancelled().await;
            return answer::empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        Some(TokenFault::Tiny) | None => {}
    }
    if let Some(failing) = answers::failing(state, Call::Token) {
        return dated(state, failing);
    }
    let told = match grant(state, headers, form, fault == Some(TokenFault::Tiny)) {
        Ok(granted) => {
            state.tables().counts.tokens_issued += 1;
            answers::json(StatusCode::OK, &granted)
        }
        Err(refusal) => refusal.answer(&state.issuer()),
    };
    dated(state, told)
}

fn grant(state: &State, headers: &HeaderMap, form: &[u8], tiny: bool) -> Result<Value, Refusal> {
    let assertion = assertion(headers, form)?;
    let jwt = Jwt::parse(&assertion).ok_or_else(Refusal::malformed)?;
    if jwt.claims.keys().any(|claim| !CLAIMS.contains(&claim.as_str())) {
        return Err(Refusal::malformed());
    }
    let client = authenticate(state, &jwt)?;
    times_and_audience(state, &jwt)?;
    use_once(state, client, &jwt, &assertion)?;
    let scope = scopes(client, &jwt)?;
    let consumer = claims::consumer(client, &jwt, &scope)?;
    let audience = claims::audience(&jwt)?;
    let details = claims::authorization_details(client, &jwt)?;
    let withheld = state.tables().faults.withheld_scope.clone();
    let kept = scope.split(' ').filter(|scope| Some(*scope) != withheld.as_deref());
    let scope = kept.collect::<Vec<_>>().join(" ");
    issue(state, &Granted { client, scope, consumer, audience, details, tiny })
}

fn assertion(headers: &HeaderMap, form: &[u8]) -> Result<String, Refusal> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form = media_type.is_some_and(|text| {
        let essence = text.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    if !is_form {
        return Err(Refusal::new("invalid_request", None, "The request is not a form"));
    }
    let field = |name: &str| {
        let mut fields = url::form_urlencoded::parse(form);
        fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    };
    match field("grant_type").as_deref() {
        Some(GRANT_TYPE) => {}
        Some(_) => {
            return Err(Refusal::new("unsupported_grant_type", None, "Unsupported grant type"));
        }
        None => return Err(Refusal::new("invalid_request", None, "Missing parameter grant_type")),
    }
    field("assertion")
        .ok_or_else(|| Refusal::new("invalid_request", None, "Missing parameter assertion"))
}

fn authenticate<'s>(state: &'s State, jwt: &Jwt<'_>) -> Result<&'s Client, Refusal> {
    let id = jwt.claim("iss").ok_or_else(Refusal::malformed)?;
    let client = state.options.clients.iter().find(|client| client.id == id);
    let client = client.ok_or_else(|| Refusal::authentication(Some("MP-100"), ""))?;
    match (jwt.header.contains_key("x5c"), jwt.header.contains_key("kid")) {
        // Exactly one of them says which key it is.
        (true, true) => return Err(Refusal::malformed()),
        (true, false) => return by_certificate(state, client, jwt),
        (false, _) => {}
    }
    let no_key = "The client requires pre-registered jwk and no key identifier (kid) provided";
    let kid = jwt.header("kid").filter(|_| jwt.header("alg").is_some_and(tokens::accepted));
    let kid = kid.ok_or_else(|| Refusal::authentication(None, no_key))?;
    let registered = client.keys.iter().find(|key| key.id == kid);
    let public = state.client_keys.get(&(client.id.clone(), kid.to_owned()));
    let (Some(registered), Some(public)) = (registered, public) else {
        return Err(Refusal::authentication(None, "Unknown key identifier (kid) for client"));
    };
    if registered.expired {
        return Err(Refusal::authentication(Some("MP-121"), "Expired key."));
    }
    if public.signed(jwt) {
        Ok(client)
    } else {
        Err(Refusal::authentication(Some("MP-124"), "Invalid JWT signature"))
    }
}

/// An enterprise certificate in place of a registered key.
fn by_certificate<'s>(
    state: &'s State,
    client: &'s Client,
    jwt: &Jwt<'_>,
) -> Result<&'s Client, Refusal> {
    let leaf = jwt.header.get("x5c").and_then(|chain| chain.get(0)).and_then(Value::as_str);
    // Standard base64, unlike everything else in a JWT (RFC 7515 section 4.1.6).
    let leaf = leaf.and_then(|leaf| STANDARD.decode(leaf).ok());
    let leaf = leaf.ok_or_else(|| Refusal::authentication(Some("MP-123"), "Invalid x5c."))?;
    let public = state.certificates.get(&(client.id.clone(), leaf));
    let public =
        public.ok_or_else(|| Refusal::authentication(Some("MP-120"), "Invalid certificate."))?;
    if public.signed(jwt) {
        Ok(client)
    } else {
        Err(Refusal::authentication(Some("MP-124"), "Invalid JWT signature"))
    }
}

fn times_and_audience(state: &State, jwt: &Jwt<'_>) -> Result<(), Refusal> {
    if jwt.claim("aud") != Some(&state.issuer()) {
        return Err(Refusal::authentication(Some("MP-110"), "Invalid JWT claim aud"));
    }
    let now = now(state).as_secs();
    let (Some(iat), Some(exp)) = (jwt.number("iat"), jwt.number("exp")) else {
        return Err(Refusal::malformed());
    };
    if iat > now + SKEW {
        return Err(Refusal::grant(None, "Issue time is after now"));
    }
    if iat + SKEW < now || exp <= now || exp.saturating_sub(iat) > LONGEST {
        return Err(Refusal::grant(Some("MP-130"), "JWT is expired"));
    }
    Ok(())
}

/// Neither the same assertion nor the same `jti` twice.
fn use_once(state: &State, client: &Client, jwt: &Jwt<'_>, assertion: &str) -> Result<(), Refusal> {
    let now = state.now().as_secs();
    let until = now + LONGEST + SKEW;
    let mut tables = state.tables();
    tables.used.retain(|_, until| *until >= now);
    let whole = tables.used.insert(assertion.to_owned(), until);
    let jti = jwt.claim("jti").map(|jti| format!("{}\n{jti}", client.id));
    let jti = jti.and_then(|jti| tables.used.insert(jti, until));
    if whole.or(jti).is_some() {
        return Err(Refusal::grant(Some("MP-012"), "Grant is used before"));
    }
    Ok(())
}

fn scopes(client: &Client, jwt: &Jwt<'_>) -> Result<String, Refusal> {
    let wanted = jwt.claim("scope").unwrap_or_default();
    let unknown: Vec<&str> = wanted
        .split(' ')
        .filter(|scope| !client.scopes.iter().any(|known| known == scope))
        .collect();
    if !unknown.is_empty() {
        let text = "Token request contains invalid scopes for client, ";
        let text = format!("{text}{}", unknown.join(" "));
        return Err(Refusal::new("invalid_scope", Some("MP-200"), &text));
    }
    match wanted.split(' ').find(|scope| client.not_granted.iter().any(|no| no == scope)) {
        Some(scope) => {
            let text = format!("Consumer has not been granted access to the scope {scope}");
            Err(Refusal::new("invalid_scope", Some("MP-250"), &text))
        }
        None => Ok(wanted.to_owned()),
    }
}

struct Granted<'c> {
    client: &'c Client,
    scope: String,
    consumer: Option<String>,
    audience: Option<Value>,
    details: Option<Value>,
    tiny: bool,
}

fn issue(state: &State, granted: &Granted<'_>) -> Result<Value, Refusal> {
    let lifetimes = state.options.lifetimes;
    let (life, expires_in) =
        if granted.tiny { (1, 1) } else { (lifetimes.maskinporten, lifetimes.expires_in) };
    let now = state.now().as_secs();
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    claim("iss", state.issuer().into());
    claim("client_amr", "private_key_jwt".into());
    let org = |org: &str| json!({ "authority": ORG_AUTHORITY, "ID": format!("0192:{org}") });
    if let Some(consumer) = &granted.consumer {
        claim("consumer", org(consumer));
        claim("supplier", org(&granted.client.org));
        claim("delegation_source", format!("{}/", state.base).into());
    } else {
        claim("consumer", org(&granted.client.org));
    }
    if let Some(audience) = &granted.audience {
        claim("aud", audience.clone());
    }
    claim("token_type", "Bearer".into());
    claim("client_id", granted.client.id.clone().into());
    claim("scope", granted.scope.clone().into());
    claim("iat", now.into());
    claim("exp", (now + life).into());
    claim("jti", Uuid::new_v4().to_string().into());
    if let Some(details) = &granted.details {
        claim("authorization_details", details.clone());
    }
    let token = state.maskinporten_key.sign(&claims);
    let token = token.ok_or_else(|| Refusal::new("server_error", None, "No token"))?;
    Ok(json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": expires_in,
        "scope": granted.scope,
    }))
}

#[cfg(test)]
mod tests;
