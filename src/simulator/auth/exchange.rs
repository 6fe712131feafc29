//! The token exchange, and who a caller of the Events API is by the token it brings.

use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{claims::ORG_AUTHORITY, tokens};
use crate::{
    server::{Answer, answer, headers::bearer},
    simulator::{
        answers,
        state::{ExchangeFault, State, TokenFault},
    },
};

/// How long after its end a Maskinporten token can still be exchanged.
const SKEW: u64 = 10;

/// `OpenID` metadata of the platform.
pub(in crate::simulator) fn metadata(state: &State) -> Answer {
    let issuer = state.altinn_issuer();
    let jwks_uri = format!("{issuer}.well-known/openid-configuration/jwks");
    answers::json(StatusCode::OK, &json!({ "issuer": issuer, "jwks_uri": jwks_uri }))
}

/// `GET exchange/{provider}`.
pub(in crate::simulator) fn exchange(state: &State, provider: &str, headers: &HeaderMap) -> Answer {
    state.tables().counts.exchanges += 1;
    if let Some(answer) = fault(state) {
        return answer;
    }
    if headers.contains_key("X-Altinn-EnterpriseUser-Authentication") {
        return gone();
    }
    let issued = match provider.to_ascii_lowercase().as_str() {
        "maskinporten" => {
            bearer(headers).and_then(|token| altinn_claims(state, token)).and_then(|claims| {
                let token = state.altinn_key.sign(&claims)?;
                remember(state, &claims);
                Some(token)
            })
        }
        // No token of theirs is ever made here, so none can be good.
        "id-porten" | "altinnstudio" => None,
        _ => {
            let text = format!(
                "Invalid token provider: {provider}. Trusted token providers are 'Maskinporten', \
                 'Id-porten' and 'AltinnStudio'."
            );
            return answer::text(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", text);
        }
    };
    match issued {
        Some(token) => wrapped(token, headers),
        None => unauthorized(state),
    }
}

fn fault(state: &State) -> Option<Answer> {
    let mut tables = state.tables();
    match tables.faults.exchange? {
        ExchangeFault::Error => Some(answer::empty(StatusCode::INTERNAL_SERVER_ERROR)),
        ExchangeFault::Unauthorized => {
            drop(tables);
            Some(unauthorized(state))
        }
        ExchangeFault::UnauthorizedOnce => {
            tables.faults.exchange = None;
            drop(tables);
            Some(unauthorized(state))
        }
    }
}

fn unauthorized(state: &State) -> Answer {
    state.tables().counts.unauthorized += 1;
    answers::problem(StatusCode::UNAUTHORIZED, "Unauthorized", None)
}

fn gone() -> Answer {
    let detail = "Virksomhetsbruker (enterprise user) is no longer available. It has been replaced \
                  by Systembruker (system user) or ID-porten, depending on the use case. See \
                  https://docs.altinn.studio for migration guidance.";
    let body = json!({
        "status": 410,
        "title": "Virksomhetsbruker is no longer available",
        "detail": detail,
        "type": "https://docs.altinn.studio",
    });
    answers::json(StatusCode::GONE, &body)
}

/// Who accepts JSON gets a JSON string, everyone else the bare token.
fn wrapped(token: String, headers: &HeaderMap) -> Answer {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") {
        answers::sentence(StatusCode::OK, &token)
    } else {
        answer::text(StatusCode::OK, "text/plain; charset=utf-8", token)
    }
}

/// The claims of the new token; `None` if the old one is not good.
fn altinn_claims(state: &State, token: &str) -> Option<Map<String, Value>> {
    let jwt = state.maskinporten_key.read(token)?;
    let now = state.now().as_secs();
    let consumer = jwt.claims.get("consumer")?;
    let text = |name: &str| consumer.get(name).and_then(Value::as_str);
    let (_, org) = text("ID")?.split_once(':')?;
    if jwt.number("exp")? + SKEW < now
        || jwt.claim("iss")? != state.issuer()
        || text("authority")? != ORG_AUTHORITY
    {
        return None;
    }
    let scope = jwt.claim("scope")?;
    let tiny = state.tables().faults.token == Some(TokenFault::Tiny);
    let life = if tiny { 1 } else { state.options.lifetimes.altinn };
    let mut claims = jwt.claims.clone();
    for dropped in ["aud", "iss", "client_amr", "sid"] {
        claims.remove(dropped);
    }
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    claim("urn:altinn:orgNumber", org.into());
    claim("urn:altinn:authenticatemethod", "maskinporten".into());
    claim("urn:altinn:authlevel", 3.into());
    if let (true, Some(code)) =
        (scope.contains("altinn:serviceowner"), state.options.service_owners.get(org))
    {
        claim("urn:altinn:org", code.clone().into());
    }
    if let Some([detail]) =
        jwt.claims.get("authorization_details").and_then(Value::as_array).map(Vec::as_slice)
    {
        // The claims' way through .NET makes one object of the array.
        claim("authorization_details", detail.clone());
    }
    claim("iss", state.altinn_issuer().into());
    claim("sid", Uuid::new_v4().to_string().into());
    claim("iat", now.into());
    claim("exp", (now + life).into());
    Some(claims)
}

fn remember(state: &State, claims: &Map<String, Value>) {
    let sid = claims.get("sid").and_then(Value::as_str).unwrap_or_default().to_owned();
    let exp = claims.get("exp").and_then(Value::as_u64).unwrap_or_default();
    let now = state.now().as_secs();
    let mut tables = state.tables();
    tables.sessions.retain(|_, exp| *exp > now);
    tables.sessions.insert(sid, exp);
    tables.counts.altinn_tokens_issued += 1;
}

/// Who calls the Events API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::simulator) struct Caller {
    /// `/org/…`, `/systemuser/…` or `/organisation/…`.
    pub(in crate::simulator) consumer: String,
    scopes: Vec<String>,
}

impl Caller {
    /// Reads the Altinn token: signature and end without any skew, issuer and audience unchecked.
    pub(in crate::simulator) fn of(state: &State, headers: &HeaderMap) -> Option<Self> {
        let jwt = state.altinn_key.read(bearer(headers)?)?;
        let alive = state.tables().sessions.contains_key(jwt.claim("sid")?);
        if !alive || jwt.number("exp")? <= state.now().as_secs() {
            return None;
        }
        let scope = jwt.claim("scope").or_else(|| jwt.claim("urn:altinn:scope"));
        let scopes = scope.unwrap_or_default().split(' ').map(str::to_ascii_lowercase).collect();
        Some(Self { consumer: consumer(&jwt)?, scopes })
    }

    /// Whether the token has the scope; letter case does not matter.
    pub(in crate::simulator) fn may(&self, scope: &str) -> bool {
        self.scopes.iter().any(|known| known == scope)
    }

    /// Whether it is a service owner.
    pub(in crate::simulator) fn is_org(&self) -> bool {
        self.consumer.starts_with("/org/")
    }
}

/// The first that is there: service owner, system user, organisation.
fn consumer(jwt: &tokens::Jwt<'_>) -> Option<String> {
    if let Some(code) = jwt.claim("urn:altinn:org") {
        return Some(format!("/org/{code}"));
    }
    if let Some(id) = jwt.claims.get("authorization_details").and_then(|detail| {
        detail.get("systemuser_id").and_then(|ids| ids.get(0)).and_then(Value::as_str)
    }) {
        return Some(format!("/systemuser/{id}"));
    }
    jwt.claim("urn:altinn:orgNumber").map(|org| format!("/organisation/{org}"))
}

/// The media type of a body without its parameters, in small letters.
pub(in crate::simulator) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
