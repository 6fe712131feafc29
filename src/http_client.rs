//! The one way to make an HTTP client: time-outs on everything, no redirects, bounded bodies.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, redirect};

use crate::crypto::certificate_file::{self, CertificateFileError};

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of authorities cannot be read, each of them.
    #[error(transparent)]
    Authorities(#[from] CertificateFileError),
    /// TLS or the like cannot be set up.
    #[error("cannot set up an HTTP client: {0}")]
    Build(#[from] reqwest::Error),
}

/// A body was longer than its bound, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than its bound.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// It broke off.
    #[error("the answer broke off: {0}")]
    Broken(#[from] reqwest::Error),
}

/// Settings that every client has: `total` for a whole exchange, 10 s to connect, no redirects.
///
/// Proxies are taken from the environment (`HTTPS_PROXY` and the like); who talks to its own
/// machine only turns that off.
pub fn builder(total: Duration) -> ClientBuilder {
    Client::builder()
        .timeout(total)
        .connect_timeout(Duration::from_secs(10).min(total))
        .redirect(redirect::Policy::none())
        .user_agent(concat!("brevdue/", env!("CARGO_PKG_VERSION")))
}

/// A client for a service on the net, which may trust one more CA.
pub fn build(total: Duration, ca_file: Option<&Path>) -> Result<Client, ClientError> {
    Ok(with_ca(builder(total), ca_file)?.build()?)
}

/// Settings that trust one more CA, or all that are in the file.
pub fn with_ca(
    builder: ClientBuilder,
    ca_file: Option<&Path>,
) -> Result<ClientBuilder, ClientError> {
    let Some(path) = ca_file else { return Ok(builder) };
    let authorities = certificate_file::authorities(path)?;
    let authorities = authorities.iter().map(|der| Certificate::from_der(der));
    Ok(builder.tls_certs_merge(authorities.collect::<Result<Vec<_>, _>>()?))
}

/// Reads an answer's body, at most `limit` bytes of it.
pub async fn body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLong(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
