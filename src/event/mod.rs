//! A CloudEvent as brevdue keeps it: the attributes it routes on, and the exact bytes it passes on.
//!
//! Owns the event and its identity. Reading events from requests is `decode`'s. brevdue needs only
//! what is in [`Attributes`]; the full model (every attribute, data) is cloudevents-sdk's, reached
//! through [`Event::to_sdk`], which is stricter than some senders are.

pub mod decode;
pub(crate) mod members;

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::de::Error;

use self::{decode::error::DecodeError, members::Members};
use crate::{clock::Timestamp, crypto::fingerprint::fingerprint, name::HookName};

/// The attributes of Altinn's validation event are only these four (`specversion`, `id`, `source`,
/// `type`), and this is its `type`.
pub const VALIDATION_TYPE: &str = "platform.events.validatesubscription";

/// A CloudEvent 1.0.
///
/// Made by [`decode`], or by [`Event::from_json`] from bytes that `decode` once accepted.
#[derive(Clone)]
pub struct Event {
    attributes: Attributes,
    json: Bytes,
    oddity: Option<Box<DecodeError>>,
}

/// The attributes that brevdue looks at.
///
/// What is optional is `None` where its value is no text: an object or an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Unique within `source`.
    pub id: String,
    /// Where it happened, a URI reference.
    pub source: String,
    /// What happened.
    pub ty: String,
    /// Whom it is about. Can hold a national identity number: never logged.
    pub subject: Option<String>,
    /// RFC 3339, as the producer wrote it.
    pub time: Option<String>,
    /// Altinn's extension: the resource as a URN.
    pub resource: Option<String>,
    /// Altinn's extension: the instance within the resource.
    pub resourceinstance: Option<String>,
    /// W3C trace context, if the producer sent one (CloudEvents distributed tracing extension).
    pub traceparent: Option<String>,
}

/// When an event happened, by the text of its `time`. One before 1970 counts as 1970.
pub fn happened(time: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(Timestamp::try_from(time).unwrap_or_default())
}

impl Attributes {
    /// Needs `id`, `source` and `type` to be strings, and nothing else.
    fn read(members: &Members<'_>) -> Result<Self, serde_json::Error> {
        let needed = |name| {
            let text = members.get(name).and_then(members::string);
            text.ok_or_else(|| serde_json::Error::custom(format_args!("{name} is no text")))
        };
        let text = |name| members.get(name).and_then(members::text);
        Ok(Self {
            id: needed("id")?,
            source: needed("source")?,
            ty: needed("type")?,
            subject: text("subject"),
            time: text("time"),
            resource: text("resource"),
            resourceinstance: text("resourceinstance"),
            traceparent: text("traceparent"),
        })
    }
}

impl Event {
    /// Reads the attributes out of a structured event's JSON and keeps its bytes as they are.
    ///
    /// Checks only what brevdue needs to route; [`decode`] checks the rest of CloudEvents 1.0.
    pub fn from_json(json: Bytes) -> Result<Self, serde_json::Error> {
        let attributes = Attributes::read(&Members::read(&json)?)?;
        Ok(Self { attributes, json, oddity: None })
    }

    /// The rule of CloudEvents 1.0 that it breaks, if [`decode`] let one pass. Not stored.
    pub fn oddity(&self) -> Option<&DecodeError> {
        self.oddity.as_deref()
    }

    /// The attributes that brevdue looks at.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The structured event, byte for byte as it came.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Every attribute and the data, in the SDK's model.
    pub fn to_sdk(&self) -> Result<cloudevents::Event, serde_json::Error> {
        let mut members: serde_json::Map<_, _> = serde_json::from_slice(&self.json)?;
        members.retain(|_, value: &mut serde_json::Value| !value.is_null());
        // The SDK does not see that `application/x+json; charset=utf-8` and `Application/JSON` are
        // JSON, and would refuse their data.
        let content_type = members.get("datacontenttype").and_then(serde_json::Value::as_str);
        let json = content_type.is_some_and(decode::media_type::is_json);
        let data = if json { members.remove("data") } else { None };
        let mut event: cloudevents::Event = serde_json::from_value(members.into())?;
        if let Some(data) = data {
            event.set_data_unchecked(data);
        }
        Ok(event)
    }
}

impl PartialEq for Event {
    /// All that it is follows from its bytes.
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Event {}

impl fmt::Debug for Event {
    /// Without subject and data, which can be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attributes { id, source, ty, .. } = &self.attributes;
        f.debug_struct("Event")
            .field("id", id)
            .field("source", source)
            .field("type", ty)
            .finish_non_exhaustive()
    }
}

/// Within which an event's `source` and `id` are unique: Altinn is one, each generic source its
/// own, so that no sender can suppress another's events (design section 9).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Everything that comes from Altinn Events, by whichever hook or by the feed.
    Altinn,
    /// One configured generic source.
    Source(HookName),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altinn => f.write_str("altinn"),
            Self::Source(name) => write!(f, "source:{name}"),
        }
    }
}

impl FromStr for Origin {
    type Err = crate::name::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("source:") {
            Some(name) => name.parse().map(Self::Source),
            None if text == "altinn" => Ok(Self::Altinn),
            None => text.parse().map(Self::Source),
        }
    }
}

/// An event on its way into the log: what, from whom, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The event.
    pub event: Event,
    /// Its identity's scope.
    pub origin: Origin,
    /// Every subscription or source that it belongs to: the one it came by first.
    pub from: Vec<HookName>,
    /// Set when the hook it came by cannot be told from the event's attributes (a subscription
    /// with `include_subunits`): then the same event by another hook does not make this one a
    /// duplicate, and handlers that had it from the other hook do not get it again.
    pub only_by_hook: Option<HookName>,
}

impl Arrival {
    /// One text for one event of one origin, always the same: what handlers get as
    /// `Idempotency-Key` (128 bits of SHA-256, in hexadecimal).
    pub fn idempotency_key(origin: &Origin, attributes: &Attributes) -> String {
        let origin = origin.to_string();
        fingerprint([Some(&origin), Some(&attributes.source), Some(&attributes.id)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_depends_on_origin_source_and_id_only() {
        let event = |json: &'static str| Event::from_json(Bytes::from_static(json.as_bytes()));
        let one = event(r#"{"id":"1","source":"/a","type":"t","subject":"x"}"#).unwrap();
        let same = event(r#"{"type":"u","source":"/a","id":"1"}"#).unwrap();
        let other = event(r#"{"type":"u","source":"/a1","id":""}"#).unwrap();
        let key =
            |origin: &Origin, event: &Event| Arrival::idempotency_key(origin, event.attributes());
        assert_eq!(key(&Origin::Altinn, &one), key(&Origin::Altinn, &same));
        assert_ne!(key(&Origin::Altinn, &one), key(&Origin::Altinn, &other));
        let source = Origin::Source("altinn".parse().unwrap());
        assert_ne!(key(&Origin::Altinn, &one), key(&source, &one));
        assert_eq!(source.to_string().parse::<Origin>().unwrap(), source);
        assert_eq!(key(&Origin::Altinn, &one).len(), 32);
    }

    #[test]
    fn debug_shows_neither_subject_nor_data() {
        let json = br#"{"id":"1","source":"/a","type":"t","subject":"01017012345","data":"x"}"#;
        let event = Event::from_json(Bytes::from_static(json)).unwrap();
        assert!(!format!("{event:?}").contains("01017012345"));
    }
}
