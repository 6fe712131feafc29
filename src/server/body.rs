//! Reading a request's body, within a limit and a time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

/// So much of an unwanted body is read and thrown away, so that the peer sees the answer instead
/// of a reset connection.
const DISCARD: usize = 1024 * 1024;
/// And for so long.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Over the limit, whether it said so before or not.
    #[error("the body is too large")]
    TooLarge,
    /// It broke off, or was no HTTP.
    #[error("the body broke off")]
    Broken,
    /// It did not come in time.
    #[error("the body did not come in time")]
    TimedOut,
}

/// The whole body, at most `limit` bytes of it, within `within`.
pub async fn read(mut body: Incoming, limit: usize, within: Duration) -> Result<Bytes, BodyError> {
    let result = match timeout(within, collect(&mut body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(BodyError::TimedOut),
    };
    if result == Err(BodyError::TooLarge) {
        discard(body).await;
    }
    result
}

async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let announced = body.size_hint().lower();
    if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge);
    }
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        if collected.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        collected.extend_from_slice(data);
    }
    Ok(collected.freeze())
}

/// Reads what is left of a body that nobody wants, within bounds.
pub async fn discard(body: Incoming) {
    let rest = async {
        let mut body = body;
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DISCARD {
                break;
            }
        }
    };
    // Whether all of it came or not: the answer goes out now.
    drop(timeout(DISCARD_TIME, rest).await);
}
