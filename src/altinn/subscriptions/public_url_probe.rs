//! Whether our public URL leads to us: asked before Altinn is told it.
//!
//! Altinn tries a validation for some minutes and then gives up without a word, so a wrong name,
//! chain or proxy is better found here. brevdue calls itself from the outside: a path that nobody
//! can guess, answered with what only this process knows. Owns the question, the answer, and the
//! words for what is wrong; the hook endpoint gives the answer out.

use std::{
    error::Error,
    fmt,
    path::Path,
    sync::Arc,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::StatusCode;
use reqwest::Client;
use tokio_rustls::rustls;
use url::Url;

use crate::{
    altinn::http::error_text::ErrorText,
    error_chain::causes,
    http_client::{self, ClientError},
};

/// For the whole call.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer answers are not ours.
const MAX_ANSWER: usize = 1024;
/// What stands before the question, after `/hooks/.well-known/`.
const PREFIX: &str = "brevdue/";

/// The question that is open, if there is one.
#[derive(Default)]
pub struct Challenge(Mutex<Option<Asked>>);

struct Asked {
    question: String,
    answer: String,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge").finish_non_exhaustive()
    }
}

impl Challenge {
    /// What to answer to `/hooks/.well-known/{path}`; `None` where there is no such question.
    pub fn answer(&self, path: &str) -> Option<String> {
        let question = path.strip_prefix(PREFIX)?;
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.as_ref().filter(|asked| asked.question == question).map(|asked| asked.answer.clone())
    }

    /// Whether there is a question that somebody is on the way to ask.
    pub fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set(&self, asked: Option<Asked>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }
}

/// Why our public URL does not lead to us, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// DNS.
    #[error(
        "the host of server.public_url, {host}, cannot be resolved: {cause}; Altinn has to resolve \
         it, too. Where it is known outside of this network only: altinn.self_proof = false"
    )]
    Name {
        /// Of the URL.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// The certificate.
    #[error(
        "the certificate of server.public_url, {origin}, does not verify: {cause}; Altinn takes \
         only one that a public authority vouches for, made for this host, and sent with its whole \
         chain"
    )]
    Tls {
        /// Of the URL.
        origin: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No connection, or none in time.
    #[error(
        "server.public_url, {origin}, cannot be reached: {cause}; firewall, proxy and port \
         forwarding must lead from there to server.listen. Where this network cannot reach it and \
         others can: altinn.self_proof = false"
    )]
    Unreachable {
        /// Of the URL.
        origin: String,
        /// What happened.
        cause: String,
    },
    /// A redirect.
    #[error(
        "server.public_url, {origin}, answers with a redirect ({status}): Altinn would follow it \
         without the event; make the proxy pass requests on as they are"
    )]
    Redirected {
        /// Of the URL.
        origin: String,
        /// Which.
        status: StatusCode,
    },
    /// Another server, or another brevdue.
    #[error(
        "another server than this brevdue answers on server.public_url, {origin} ({status}): the \
         proxy must pass {path} on to it with its path unchanged"
    )]
    NotUs {
        /// Of the URL.
        origin: String,
        /// What it answered.
        status: StatusCode,
        /// What must be passed on.
        path: String,
    },
    /// No randomness.
    #[error("there is no randomness for the question to our own public URL")]
    Random,
}

/// Asks, once, and again after a failure.
#[derive(Debug)]
pub struct PublicUrlProbe {
    client: Client,
    public_url: Url,
    challenge: Arc<Challenge>,
    proven: bool,
}

impl PublicUrlProbe {
    /// `ca_file` vouches for the endpoint beside the system's authorities.
    pub fn new(
        public_url: Url,
        ca_file: Option<&Path>,
        challenge: Arc<Challenge>,
    ) -> Result<Self, ClientError> {
        let client = http_client::build(PATIENCE, ca_file)?;
        Ok(Self { client, public_url, challenge, proven: false })
    }

    /// Returns when it is proven that our public URL leads to us: at once if it was before.
    pub async fn prove(&mut self) -> Result<(), ProbeError> {
        if self.proven {
            return Ok(());
        }
        let asked = Asked { question: random()?, answer: random()? };
        let (question, answer) = (asked.question.clone(), asked.answer.clone());
        self.challenge.set(Some(asked));
        let proven = self.ask(&question, &answer).await;
        self.challenge.set(None);
        proven?;
        tracing::info!(url = %self.origin(), "our public URL leads to us");
        self.proven = true;
        Ok(())
    }

    async fn ask(&self, question: &str, answer: &str) -> Result<(), ProbeError> {
        let mut url = self.public_url.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}/hooks/.well-known/{PREFIX}{question}"));
        let response = self.client.get(url).send().await.map_err(|error| self.fault(error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(ProbeError::Redirected { origin: self.origin(), status });
        }
        let body = http_client::body(response, MAX_ANSWER).await.unwrap_or_default();
        if status == StatusCode::OK && body == answer.as_bytes() {
            return Ok(());
        }
        let path = format!("{prefix}/hooks/");
        Err(ProbeError::NotUs { origin: self.origin(), status, path })
    }

    /// Without a path that could be secret, and without a user.
    fn origin(&self) -> String {
        self.public_url.origin().ascii_serialization()
    }

    fn fault(&self, error: reqwest::Error) -> ProbeError {
        let error = error.without_url();
        let timed_out = error.is_timeout();
        let causes: Vec<String> = causes(&error).iter().map(ToString::to_string).collect();
        let last = causes.last().map(String::as_str).unwrap_or_default();
        let cause = ErrorText::new(if timed_out { "no answer in time" } else { last }).text;
        if causes.iter().any(|cause| cause.contains("dns error")) {
            let host = self.public_url.host_str().unwrap_or_default().to_owned();
            ProbeError::Name { host, cause }
        } else if causes_tls(&error) {
            ProbeError::Tls { origin: self.origin(), cause }
        } else {
            ProbeError::Unreachable { origin: self.origin(), cause }
        }
    }
}

fn causes_tls(error: &(dyn Error + 'static)) -> bool {
    causes(error).into_iter().any(<dyn Error>::is::<rustls::Error>)
}

fn random() -> Result<String, ProbeError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| ProbeError::Random)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests;
