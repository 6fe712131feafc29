//! One request to the feed, and its answer.
//!
//! Owns the wire: the parameters, and what an item is. The next page is asked for by the last
//! id; Altinn's `next` header writes its values unescaped and is there even at the end.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use reqwest::Method;
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::filters::Filters;
use super::pager::{Ask, Item, Page};
use crate::{
    altinn::{
        auth::token::TokenSource,
        events_api::{ApiError, EventsApi},
    },
    event::{
        Event,
        decode::{MAX_IDENTITY, Rules, decode_json},
        happened,
        members::{Members, string},
    },
};

const PATH: &str = "/events/api/v1/events";
/// So much is kept of an item that is too large to be stored.
const BEGINNING: usize = 16 * 1024;

/// What is in an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An event.
    Event(Event),
    /// Something else.
    Unreadable {
        /// As it came, or its beginning.
        body: Bytes,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where pages come from.
pub trait Pages: Send + Sync + 'static {
    /// Asks for one page.
    fn page(
        &self,
        filters: &Filters,
        ask: Ask<'_>,
    ) -> impl Future<Output = Result<Page<Content>, ApiError>> + Send;
}

/// Altinn's feed.
#[derive(Debug)]
pub struct AltinnFeed<T> {
    events: EventsApi<T>,
    /// Larger events than this are not taken from a push, nor from here.
    max_event: usize,
}

impl<T> Clone for AltinnFeed<T> {
    fn clone(&self) -> Self {
        Self { events: self.events.clone(), max_event: self.max_event }
    }
}

impl<T> AltinnFeed<T> {
    /// The feed that `events` signs in to.
    pub fn new(events: EventsApi<T>, max_event: usize) -> Self {
        Self { events, max_event }
    }
}

impl<T: TokenSource> Pages for AltinnFeed<T> {
    async fn page(&self, filters: &Filters, ask: Ask<'_>) -> Result<Page<Content>, ApiError> {
        let path = format!("{PATH}?{}", query(filters, ask));
        let request = |token: &_| self.events.platform().request(Method::GET, &path, token);
        let answer = self.events.ask("feed", request).await?;
        if answer.too_long {
            return Ok(Page::TooLarge);
        }
        read(&answer.body, self.max_event)
    }
}

/// What stands after the question mark.
fn query(filters: &Filters, ask: Ask<'_>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("after", ask.after);
    // Pushes are matched against the filter in lower case, and so are these.
    query.append_pair("resource", &filters.resource.to_ascii_lowercase());
    if let Some(subject) = &filters.subject {
        query.append_pair("subject", subject);
    }
    if let Some(ty) = &filters.ty {
        // A pattern of SQL's LIKE, where `_` and `%` match more than themselves. Whether an escape
        // would be honoured is Altinn's affair: the reader drops what is of another type.
        query.append_pair("type", &ty.replace('\\', "_"));
    }
    query.append_pair("size", &ask.size.to_string());
    query.finish()
}

pub(in crate::altinn) fn read(body: &[u8], max_event: usize) -> Result<Page<Content>, ApiError> {
    // serde's message can quote a value; its place does not.
    let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ApiError::Malformed(format!("not a JSON array at line {line}, column {column}"))
    })?;
    Ok(Page::Items(items.into_iter().map(|item| one(item.get(), max_event)).collect()))
}

fn one(json: &str, max_event: usize) -> Item<Content> {
    if json.len() > max_event {
        let mut end = BEGINNING.min(json.len());
        while !json.is_char_boundary(end) {
            end -= 1;
        }
        let beginning = json.get(..end).unwrap_or_default();
        let reason = format!("the item is larger than {max_event} bytes; this is its beginning");
        // Two that begin alike are two letters all the same.
        let kept = format!("{beginning}\n… {} bytes, SHA-256 {}", json.len(), sha256(json));
        return unreadable(json, &kept, reason);
    }
    let decoded = if json.starts_with('{') {
        let json = Bytes::copy_from_slice(json.as_bytes());
        decode_json(json, Rules::Lenient).map_err(|fault| fault.to_string())
    } else {
        Err("the item is no JSON object".to_owned())
    };
    match decoded.map(|mut events| events.pop()) {
        Ok(Some(event)) => {
            let attributes = event.attributes();
            let time = attributes.time.as_deref().and_then(happened);
            Item { id: Some(attributes.id.clone()), time, content: Content::Event(event) }
        }
        Ok(None) => unreadable(json, json, "the item is empty".to_owned()),
        Err(reason) => unreadable(json, json, reason),
    }
}

fn unreadable(json: &str, kept: &str, reason: String) -> Item<Content> {
    // Its members one by one, so that nothing in one hides the others: the feed goes on by the id.
    let members = Members::read(json.as_bytes()).ok();
    let text = |name| members.as_ref().and_then(|members| string(members.get(name)?));
    let id = text("id").filter(|id| (1..=MAX_IDENTITY).contains(&id.len()));
    let body = Bytes::copy_from_slice(kept.as_bytes());
    Item {
        id,
        time: text("time").as_deref().and_then(happened),
        content: Content::Unreadable { body, reason },
    }
}

fn sha256(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(ty: &str) -> Filters {
        Filters {
            resource: "urn:altinn:resource:Nabo".to_owned(),
            subject: Some("/party/1&after=2".to_owned()),
            ty: Some(ty.to_owned()),
        }
    }

    #[test]
    fn the_query_escapes_every_value_and_never_narrows_the_type() {
        let ask = Ask { after: "a&b=+ %", size: 1000 };
        let text = query(&filters(r"a_b%.c\d"), ask);
        assert!(text.starts_with("after=a%26b%3D%2B+%25&"), "{text}");
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let expected = [
            ("after", "a&b=+ %"),
            ("resource", "urn:altinn:resource:nabo"),
            ("subject", "/party/1&after=2"),
            ("type", "a_b%.c_d"),
            ("size", "1000"),
        ];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn whatever_hides_in_an_item_its_id_is_read() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let body = format!(
            r#"[{{"id":"1","data":{deep}}}, {{"id":"2","n":1e999}}, {{"id":"\ud800"}}, {{"id":3}},
                null, {{"id":"4","x":"\ud800","source":7}}]"#
        );
        let Page::Items(items) = read(body.as_bytes(), 20_000).unwrap() else { panic!() };
        let ids: Vec<_> = items.iter().map(|item| item.id.as_deref()).collect();
        assert_eq!(ids, [Some("1"), Some("2"), None, None, None, Some("4")]);
        assert!(items.iter().all(|item| matches!(item.content, Content::Unreadable { .. })));
    }

    #[test]
    fn large_items_that_begin_alike_are_kept_apart() {
        let large = |id| format!(r#"{{"data":"{}","id":"{id}"}}"#, "a".repeat(20_000));
        let body = format!("[{},{}]", large(1), large(2));
        let Page::Items(items) = read(body.as_bytes(), 20_000).unwrap() else { panic!() };
        assert_eq!(items[1].id.as_deref(), Some("2"));
        assert_ne!(items[0].content, items[1].content);
    }

    #[test]
    fn a_page_is_read_item_by_item() {
        let good = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"2026-08-20T10:00:00.1234567Z"}"#;
        let bad = r#"{"specversion":"1.0","id":"2","source":"","type":"t"}"#;
        let large = format!(
            r#"{{"specversion":"1.0","id":"3","source":"/a","type":"t","data":"{}"}}"#,
            "å".repeat(20_000)
        );
        let body = format!("[{good}, {bad}, 7, {large}, [{good}]]");
        let Page::Items(items) = read(body.as_bytes(), 20_000).unwrap() else { panic!() };
        let ids: Vec<_> = items.iter().map(|item| item.id.as_deref()).collect();
        assert_eq!(ids, [Some("1"), Some("2"), None, Some("3"), None]);
        assert_eq!(items[0].time.unwrap().to_string(), "2026-08-20T10:00:00.123Z");
        assert!(
            matches!(&items[0].content, Content::Event(event) if event.json() == good.as_bytes())
        );
        for (item, length) in items[1..].iter().zip([bad.len(), 1, BEGINNING + 100, good.len() + 2])
        {
            let Content::Unreadable { body, .. } = &item.content else { panic!("{item:?}") };
            assert!(body.len() <= length && body.len() + 20 >= length, "{item:?}");
        }
        assert_eq!(read(b"[]", 1).unwrap(), Page::Items(vec![]));
        for body in ["", "{}", "[1", "<html>"] {
            assert!(matches!(read(body.as_bytes(), 1), Err(ApiError::Malformed(_))), "{body}");
        }
    }
}
