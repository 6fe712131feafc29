//! Access tokens: what they are, who gives them, and why there is none.
//!
//! How a token is got is `maskinporten`'s and `exchange`'s; keeping it is `cache`'s.

use std::{future::Future, sync::Arc, time::Duration};

use http::StatusCode;
use secrecy::SecretString;

use crate::{
    altinn::http::{
        advice::{self, Advice, Kind},
        error_text::ErrorText,
    },
    clock::Timestamp,
    secret::SecretError,
};

/// A bearer token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    secret: SecretString,
    expires: Timestamp,
}

impl AccessToken {
    /// A token that holds until `expires`.
    pub fn new(secret: SecretString, expires: Timestamp) -> Self {
        Self { secret, expires }
    }

    /// What goes into `Authorization`.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// When it ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key's or the gateway key's file.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The file holds no key that signs RS256, or no certificate of it.
    #[error("{file}: {reason}")]
    Key {
        /// The file, as configured.
        file: String,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// No answer.
    #[error("{who} cannot be reached: {reason}")]
    Unreachable {
        /// `Maskinporten` or `Altinn's token exchange`.
        who: &'static str,
        /// Why.
        reason: String,
    },
    /// An answer that is no.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// A success without a usable token in it.
    #[error("{who} answered without a usable token: {fault}")]
    Malformed {
        /// As above.
        who: &'static str,
        /// What is wrong; never the content.
        fault: &'static str,
    },
    /// The tokens that are given are not accepted.
    #[error("Altinn refuses the tokens that its own exchange gives")]
    NotAccepted,
    /// Nobody was asked: it failed a moment ago, and it is too early to ask again.
    #[error(transparent)]
    Earlier(Arc<TokenError>),
}

/// What an authorization server said no with (RFC 6749 section 5.2 and Maskinporten's codes).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}", self.said(), self.advised())]
pub struct Refused {
    /// `Maskinporten` or `Altinn's token exchange`.
    pub who: &'static str,
    /// The status.
    pub status: StatusCode,
    /// `error`: `invalid_grant`, `invalid_scope`, ….
    pub error: Option<String>,
    /// Maskinporten's code, as in its list of errors: `MP-121`.
    pub code: Option<String>,
    /// `error_uri`: where the code is explained.
    pub uri: Option<String>,
    /// `error_description`, and the trace id.
    pub words: ErrorText,
    /// What this side can see of the cause.
    pub hint: Option<&'static str>,
    /// What it means, if it is one of those that are known.
    pub advice: Option<&'static Advice>,
    /// How long to stay away.
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// Who said no, how, and in which words.
    pub fn said(&self) -> String {
        let Self { who, words, hint, .. } = self;
        format!("{who} refused ({}): {words}{}", self.label(), hint.unwrap_or_default())
    }

    fn advised(&self) -> String {
        self.advice.map_or_else(String::new, |advice| format!(" ({advice})"))
    }

    fn label(&self) -> String {
        let parts = [Some(self.status.as_str()), self.error.as_deref(), self.code.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl TokenError {
    /// How long the other side asked us to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refused().and_then(|refused| refused.retry_after)
    }

    /// Maskinporten's code.
    pub fn code(&self) -> Option<&str> {
        self.refused().and_then(|refused| refused.code.as_deref())
    }

    /// What the other side's support asks for.
    pub fn trace_id(&self) -> Option<&str> {
        self.refused().and_then(|refused| refused.words.trace_id.as_deref())
    }

    /// Who can end it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Secret(_) | Self::Key { .. } => Kind::Configuration,
            Self::Unreachable { .. } | Self::Malformed { .. } | Self::NotAccepted => Kind::Passing,
            Self::Refused(refused) => {
                refused.advice.map_or(advice::of_status(refused.status), |advice| advice.kind)
            }
            Self::Earlier(error) => error.kind(),
        }
    }

    /// What the other side said no with.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Earlier(error) => error.refused(),
            Self::Secret(_)
            | Self::Key { .. }
            | Self::Unreachable { .. }
            | Self::Malformed { .. }
            | Self::NotAccepted => None,
        }
    }
}

/// Who gives tokens. Each call asks for a new one.
pub trait TokenSource: Send + Sync + 'static {
    /// A token that holds now.
    fn token(&self) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;
}
