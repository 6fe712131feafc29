//! Request bodies: reading one within a limit and a time, and what becomes of one that nobody read.
//!
//! Owns what is left of a body when its request is answered. Over HTTP/1 the next request stands
//! behind it, so the connection goes on only after the whole body.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, header::EXPECT};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// Bytes of an unwanted body that are read and thrown away, so that the peer sees the answer instead
/// of a reset connection, and can use the connection again.
const DISCARD: usize = 1024 * 1024;
/// The time for that.
const DISCARD_TIME: Duration = Duration::from_secs(2);
/// The time in which the next part of it has to come: the answer waits for it.
const DISCARD_PAUSE: Duration = Duration::from_millis(250);

/// The next part of a body has to come in this time: one that stalls holds a connection.
const PAUSE: Duration = Duration::from_secs(5);

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

/// The body of a request, on its way to a service. What the service leaves of it goes back to the
/// connection.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Option<Incoming>,
    state: State,
    rest: Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The peer has asked whether to send it, and was not answered: hyper does that with the first
    /// read.
    AsksFirst,
    Unread,
    Ended,
    Broken,
}

/// What a service left of a body.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
enum Left {
    #[default]
    Nothing,
    /// The peer waits to be asked for it, or it is broken: nothing is to be read.
    Unreadable,
    Some(Incoming),
}

/// The request for a service, and what it will leave of the body.
pub(super) fn lent(request: Request<Incoming>) -> (Request<RequestBody>, Rest) {
    let asks = request.headers().contains_key(EXPECT);
    let state = if asks { State::AsksFirst } else { State::Unread };
    let rest = Rest::default();
    let own = rest.clone();
    let request =
        request.map(|incoming| RequestBody { incoming: Some(incoming), state, rest: own });
    (request, rest)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = match &mut self.incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(context),
            None => Poll::Ready(None),
        };
        self.state = match &polled {
            Poll::Pending | Poll::Ready(Some(Ok(_))) => State::Unread,
            Poll::Ready(None) => State::Ended,
            Poll::Ready(Some(Err(_))) => State::Broken,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        let left = match self.state {
            State::Ended => Left::Nothing,
            State::AsksFirst | State::Broken => Left::Unreadable,
            State::Unread => Left::Some(incoming),
        };
        *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

impl Rest {
    /// Reads what is left, within bounds, and throws it away. Whether the whole body was read then.
    pub(super) async fn discard(self) -> bool {
        let left = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        match left {
            Left::Nothing => true,
            Left::Unreadable => false,
            Left::Some(incoming) => timeout(DISCARD_TIME, discard(incoming)).await.unwrap_or(false),
        }
    }
}

async fn discard(mut body: Incoming) -> bool {
    let mut seen = 0;
    while seen <= DISCARD {
        match timeout(DISCARD_PAUSE, body.frame()).await {
            Ok(None) => return true,
            Ok(Some(Ok(frame))) => seen += frame.data_ref().map_or(0, Bytes::len),
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
    false
}

/// The whole body, at most `limit` bytes of it, within `within`.
pub async fn read(body: RequestBody, limit: usize, within: Duration) -> Result<Bytes, BodyError> {
    read_noting(body, limit, within, || ()).await
}

/// The same; `moved` is called whenever something of it came.
pub async fn read_noting(
    mut body: RequestBody,
    limit: usize,
    within: Duration,
    moved: impl Fn(),
) -> Result<Bytes, BodyError> {
    let collected = timeout(within, collect(&mut body, limit, moved)).await;
    collected.unwrap_or(Err(BodyError::TimedOut))
}

async fn collect(
    body: &mut RequestBody,
    limit: usize,
    moved: impl Fn(),
) -> Result<Bytes, BodyError> {
    let announced = body.size_hint().lower();
    if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge);
    }
    let mut collected = BytesMut::new();
    while let Some(frame) = timeout(PAUSE, body.frame()).await.map_err(|_| BodyError::TimedOut)? {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        moved();
        let Some(data) = frame.data_ref() else { continue };
        if collected.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        collected.extend_from_slice(data);
    }
    Ok(collected.freeze())
}
