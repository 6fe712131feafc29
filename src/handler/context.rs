//! An event in parts: its context attributes as text, and its data as bytes.
//!
//! For handlers that do not pass on the JSON as it came. Read from the stored bytes and not
//! through the SDK's model, which writes times and numbers anew: here every value stays as the
//! producer wrote it.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::value::RawValue;

use crate::event::{
    Event,
    members::{self, Members},
};

/// What an event without `datacontenttype` has (CloudEvents JSON format, section 3.1).
const JSON: &str = "application/json";

/// An event in parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Context {
    /// Every attribute and extension that has a value, `specversion` too, by name.
    pub attributes: BTreeMap<String, String>,
    /// The data, and its media type.
    pub data: Option<(Vec<u8>, String)>,
}

/// Why an event has no parts. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Not an object, or an attribute of it is no JSON.
    #[error("the event is not a JSON object")]
    Json,
    /// `data_base64` is something else.
    #[error("data_base64 is not base64")]
    Base64,
}

/// Every attribute and extension that has a value, by name: a string without its quotes, any other
/// value as it is written.
pub fn attributes(event: &Event) -> Result<BTreeMap<String, String>, ContextError> {
    let members = Members::read(event.json()).map_err(|_| ContextError::Json)?;
    Ok(attributes_of(&members))
}

fn attributes_of(members: &Members<'_>) -> BTreeMap<String, String> {
    let text = |value: &RawValue| members::string(value).unwrap_or_else(|| value.get().to_owned());
    members
        .iter()
        .filter(|(name, _)| *name != "data" && *name != "data_base64")
        .map(|(name, value)| (name.to_owned(), text(value)))
        .collect()
}

impl Context {
    /// Takes an event apart.
    pub fn read(event: &Event) -> Result<Self, ContextError> {
        let members = Members::read(event.json()).map_err(|_| ContextError::Json)?;
        let attributes = attributes_of(&members);
        let media_type = attributes.get("datacontenttype").map_or(JSON, String::as_str);
        let bytes = match (members.get("data"), members.get("data_base64")) {
            (Some(value), _) => Some(plain_data(value, media_type)),
            (None, Some(value)) => Some(base64_data(value)?),
            (None, None) => None,
        };
        let data = bytes.map(|bytes| (bytes, media_type.to_owned()));
        Ok(Self { attributes, data })
    }
}

/// JSON data is the value itself; a string under another media type is its text (section 3.1.1).
fn plain_data(value: &RawValue, media_type: &str) -> Vec<u8> {
    let text = if is_json(media_type) { None } else { members::string(value) };
    text.unwrap_or_else(|| value.get().to_owned()).into_bytes()
}

fn base64_data(value: &RawValue) -> Result<Vec<u8>, ContextError> {
    let text = members::string(value).ok_or(ContextError::Base64)?;
    BASE64_STANDARD.decode(text).map_err(|_| ContextError::Base64)
}

/// A media type whose subtype is `json` or ends in `+json`.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype == "json" || subtype.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(rest: &str) -> Context {
        let json = format!(r#"{{"specversion":"1.0","id":"1","source":"/a","type":"t"{rest}}}"#);
        Context::read(&Event::from_json(json.into_bytes().into()).unwrap()).unwrap()
    }

    #[test]
    fn data_is_what_the_json_format_says() {
        for (rest, expected) in [
            ("", None),
            (r#","data":null"#, None),
            (r#","data":{"a": 1.50}"#, Some((r#"{"a": 1.50}"#, JSON))),
            (r#","data":"x""#, Some((r#""x""#, JSON))),
            (r#","datacontenttype":"text/plain","data":"a\nb""#, Some(("a\nb", "text/plain"))),
            (r#","datacontenttype":"text/plain","data":7"#, Some(("7", "text/plain"))),
            (
                r#","datacontenttype":"application/x+JSON; v=1","data":"x""#,
                Some((r#""x""#, "application/x+JSON; v=1")),
            ),
            (r#","datacontenttype":"image/png","data_base64":"aGVp""#, Some(("hei", "image/png"))),
        ] {
            let expected = expected.map(|(data, ty)| (data.as_bytes().to_vec(), ty.to_owned()));
            assert_eq!(context(rest).data, expected, "{rest}");
        }
    }

    #[test]
    fn attributes_stay_as_the_producer_wrote_them() {
        let context = context(r#","time":"2024-04-19T07:22:19.4380Z","n":12,"b":true,"gone":null"#);
        let expected = [
            ("b", "true"),
            ("id", "1"),
            ("n", "12"),
            ("source", "/a"),
            ("specversion", "1.0"),
            ("time", "2024-04-19T07:22:19.4380Z"),
            ("type", "t"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(context.attributes, BTreeMap::from(expected));
    }

    #[test]
    fn bad_base64_is_told_without_the_data() {
        let json = br#"{"id":"1","source":"/a","type":"t","data_base64":"0101701234!"}"#;
        let event = Event::from_json(json.to_vec().into()).unwrap();
        assert_eq!(Context::read(&event).unwrap_err().to_string(), "data_base64 is not base64");
        assert_eq!(attributes(&event).unwrap().len(), 3, "its attributes can be read");
    }
}
