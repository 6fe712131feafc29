//! Doors for fuzz targets, which see only what is public. Nothing in the program uses them.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};

use super::{
    auth::exchange,
    feed::{
        client::{self, Content},
        pager::{Item, Page},
    },
    http::client as calls,
    subscriptions::hook_url,
};
pub use super::{http::client::MAX_RETRY_AFTER, subscriptions::hook_url::redacted};
use crate::clock::Timestamp;

/// The items of a page of the feed; `None` if it is no page.
pub fn page(body: &[u8], max_event: usize) -> Option<Vec<Item<Content>>> {
    match client::read(body, max_event) {
        Ok(Page::Items(items)) => Some(items),
        Ok(Page::TooLarge) | Err(_) => None,
    }
}

/// The token in an answer of the exchange, and its end.
pub fn token(body: &str) -> Option<(&str, Timestamp)> {
    let jwt = exchange::bare(body)?;
    Some((jwt, exchange::expires(jwt)?))
}

/// The one spelling of an endpoint.
pub fn normal(url: &str) -> String {
    hook_url::normal(url)
}

/// The wait that a `Retry-After` asks for.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = HeaderValue::from_str(value).ok()?;
    calls::retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
}
