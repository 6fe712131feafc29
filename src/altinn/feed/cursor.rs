//! How far the feed has been read, as it is kept in the store.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::filters::Filters;
use crate::{
    clock::Timestamp,
    crypto::fingerprint::fingerprint,
    name::HookName,
    queue::{BookmarkName, InvalidBookmarkName},
};

/// A place in the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The last event that was read; none at the feed's beginning.
    pub id: Option<String>,
    /// The latest time of an event that was read so far.
    pub time: Timestamp,
    /// When this place was reached.
    pub taken: Timestamp,
    /// While the feed is read from its oldest event though we were further: events older than
    /// this are not taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Timestamp>,
}

impl Cursor {
    /// The feed's beginning.
    pub fn oldest(now: Timestamp) -> Self {
        Self { id: None, time: Timestamp::default(), taken: now, floor: None }
    }

    /// The feed's beginning, but nothing older than `now`.
    pub fn since(now: Timestamp) -> Self {
        Self { floor: Some(now), ..Self::oldest(now) }
    }

    /// What Altinn is given as `after`. An id of `0` is none that an event has.
    pub fn after(&self) -> &str {
        self.id.as_deref().unwrap_or("0")
    }

    /// The place after the event of this id and time.
    #[must_use]
    pub fn at(&self, id: &str, time: Option<Timestamp>, now: Timestamp) -> Self {
        // A time in the future must not make everything that follows look old.
        let time = self.time.max(time.unwrap_or_default().min(now));
        Self { id: Some(id.to_owned()), time, taken: now, floor: self.floor }
    }

    /// As it is kept.
    pub fn encode(&self) -> Bytes {
        // A struct of texts always becomes JSON.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// As it was kept.
    pub fn decode(place: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(place)
    }
}

/// The bookmark of one subscription's cursor. Other filters or another platform make another one,
/// which begins anew. The subject, which can be personal, does not stand in it.
pub fn bookmark(
    platform: &Url,
    name: &HookName,
    filters: &Filters,
) -> Result<BookmarkName, InvalidBookmarkName> {
    let Filters { resource, subject, ty } = filters;
    let texts = [Some(platform.as_str()), Some(resource), subject.as_deref(), ty.as_deref()];
    format!("feed|{name}|{}", fingerprint(texts)).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_kept_and_read_back() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        for cursor in [
            Cursor::oldest(now),
            Cursor::since(now),
            Cursor::oldest(now).at("a \"quoted\" id", Some(Timestamp::from_millis(5)), now),
        ] {
            assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }
        assert!(Cursor::decode(b"{}").is_err());
    }

    #[test]
    fn a_cursors_time_never_goes_back_and_is_never_in_the_future() {
        let at = Timestamp::from_millis;
        let cursor = Cursor::oldest(at(100)).at("1", Some(at(50)), at(100));
        assert_eq!(cursor.time, at(50));
        assert_eq!(cursor.at("2", Some(at(10)), at(100)).time, at(50));
        assert_eq!(cursor.at("2", None, at(100)).time, at(50));
        assert_eq!(cursor.at("2", Some(at(900)), at(100)).time, at(100));
    }

    #[test]
    fn other_filters_have_another_bookmark_and_none_shows_the_subject() {
        let filters = |subject: Option<&str>, ty: Option<&str>| Filters {
            resource: "urn:altinn:resource:x".to_owned(),
            subject: subject.map(str::to_owned),
            ty: ty.map(str::to_owned),
        };
        let name = "innboks".parse().unwrap();
        let of = |filters: &Filters| {
            bookmark(&"https://a.example".parse().unwrap(), &name, filters).unwrap()
        };
        let all = [
            of(&filters(None, None)),
            of(&filters(Some("01017012345"), None)),
            of(&filters(None, Some("01017012345"))),
            of(&filters(Some(""), None)),
            bookmark(&"https://b.example".parse().unwrap(), &name, &filters(None, None)).unwrap(),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!one.as_str().contains("01017012345"));
            assert!(all.iter().skip(index + 1).all(|other| other != one));
        }
    }
}
