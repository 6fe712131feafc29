//! The vendor's side: the system, and the system user that was asked for.

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{
    context::Context,
    failures::{refused, unexpected, unreachable},
    report::{Finding, Report},
    sign_in::SignedIn,
};
use crate::{
    altinn::{
        auth::{
            exchange::Exchange,
            maskinporten::Wanted,
            token::{AccessToken, TokenError},
        },
        http::{
            client::{Answer, LARGE},
            error_text::ErrorText,
        },
    },
    config::SystemUser,
};

const CHECK: &str = "vendor";
const SYSTEM: &str = "altinn:authentication/systemregister.write";
const USER: &str = "altinn:authentication/systemuser.request.write";
const REQUEST: &str = "altinn:authentication/systemuser.request.read";
const BASE: &str = "/authentication/api/v1";

/// Check 13: as far as the scopes for it are configured.
pub(crate) async fn check(context: &Context<'_>, signed_in: &SignedIn, report: &mut Report<'_>) {
    let skipped = |why: &str| Finding::skipped(CHECK, why);
    let Some(user) = &context.altinn.maskinporten.system_user else {
        report.add(skipped("no system user is configured"));
        return;
    };
    if ![SYSTEM, USER, REQUEST].iter().any(|scope| context.asks_for(scope)) {
        report
            .add(skipped("none of the scopes for it is configured: the system's vendor has them"));
        return;
    }
    let Some(system) = user.system_id.clone().or_else(|| system_of(&signed_in.claims())) else {
        report.add(skipped("the token does not tell the system: set system_user.system_id"));
        return;
    };
    let token = match own_token(context, signed_in).await {
        Ok(token) => token,
        Err(error) => {
            report.add(refused(CHECK, &error));
            return;
        }
    };
    let asked = Asked { context, token: &token, system: &system, user };
    if context.asks_for(SYSTEM) {
        report.add(asked.system().await.of("system"));
    }
    if context.asks_for(USER) {
        report.add(asked.user().await.of("system user"));
    }
    if context.asks_for(REQUEST) {
        report.add(asked.request().await.of("request"));
    }
}

/// `authorization_details` is an object in some tokens and an array in others.
fn system_of(claims: &Value) -> Option<String> {
    let details = claims.get("authorization_details")?;
    let detail = details.get(0).unwrap_or(details);
    detail.get("system_id").and_then(Value::as_str).map(str::to_owned)
}

/// The vendor's own, without the system user.
async fn own_token(context: &Context<'_>, signed_in: &SignedIn) -> Result<AccessToken, TokenError> {
    let scopes = &context.altinn.maskinporten.scopes;
    let wanted = Wanted { scopes, system_user: None };
    let original = signed_in.maskinporten.grant(wanted).await?.token;
    let platform = std::sync::Arc::clone(&context.platform);
    Exchange::new(&signed_in.maskinporten, platform).exchange(&original).await
}

struct Asked<'a> {
    context: &'a Context<'a>,
    token: &'a AccessToken,
    system: &'a str,
    user: &'a SystemUser,
}

impl Asked<'_> {
    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Finding> {
        let platform = &self.context.platform;
        let path = format!("{BASE}/{path}");
        let request =
            platform.request(reqwest::Method::GET, &path, self.token.secret()).query(query);
        let answer = self.context.caller.send("doctor", request, LARGE).await;
        let answer = answer.map_err(|reason| unreachable(CHECK, "Altinn", &reason))?;
        match answer.status {
            status if status.is_success() => Ok(answer),
            StatusCode::FORBIDDEN => Err(Finding::bad(
                CHECK,
                "the token lacks the scope, or the system is another vendor's (403)",
                "check the client's scopes and system_user.system_id",
            )),
            _ => Err(unexpected(CHECK, &answer)),
        }
    }

    /// The reference that Altinn goes by: the organisation number if there was none.
    fn external_ref(&self) -> &str {
        self.user.external_ref.as_deref().unwrap_or(&self.user.org)
    }

    async fn system(&self) -> Finding {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct System {
            client_id: Vec<String>,
        }
        let path = format!("systemregister/vendor/{}", self.system);
        let answer = match self.get(&path, &[]).await {
            Ok(answer) => answer,
            Err(finding) => return finding,
        };
        let own = &self.context.altinn.maskinporten.client_id;
        match serde_json::from_slice::<System>(&answer.body) {
            Ok(system) if system.client_id.contains(own) => {
                Finding::good(CHECK, "lists this client")
            }
            Ok(_) => Finding::bad(
                CHECK,
                "does not list this client: Maskinporten will say MP-303",
                "add the client's id to the system's clientId in the system register",
            ),
            Err(_) => not_json(),
        }
    }

    async fn user(&self) -> Finding {
        let query = [
            ("system-id", self.system),
            ("orgno", self.user.org.as_str()),
            ("external-ref", self.external_ref()),
        ];
        match self.get("systemuser/vendor/byquery", &query).await {
            Ok(_) => Finding::good(CHECK, "is there"),
            Err(finding) => missing(finding),
        }
    }

    async fn request(&self) -> Finding {
        #[derive(Deserialize)]
        struct Request {
            status: String,
        }
        let (system, org) = (self.system, &self.user.org);
        let external_ref = percent_encoding::utf8_percent_encode(
            self.external_ref(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        let path = format!("systemuser/request/vendor/byexternalref/{system}/{org}/{external_ref}");
        let answer = match self.get(&path, &[]).await {
            Ok(answer) => answer,
            Err(finding) => return missing(finding),
        };
        match serde_json::from_slice::<Request>(&answer.body) {
            Ok(request) if request.status == "Accepted" => Finding::good(CHECK, "was accepted"),
            Ok(request) => {
                let status = ErrorText::new(&request.status).text;
                let cure = "have somebody with the right role in the organisation open the \
                            request's confirmUrl and approve it, or make a new request";
                Finding::bad(CHECK, format!("stands at {status}"), cure)
            }
            Err(_) => not_json(),
        }
    }
}

fn missing(finding: Finding) -> Finding {
    if !finding.seen.starts_with("Altinn answers 404") {
        return finding;
    }
    let cure = "request a system user for this system, organisation and external_ref, and have it \
                approved";
    Finding::bad(CHECK, "Altinn has none for this organisation and external_ref (404)", cure)
}

fn not_json() -> Finding {
    Finding::bad(CHECK, "not the expected JSON", "ask Altinn's service desk")
}
