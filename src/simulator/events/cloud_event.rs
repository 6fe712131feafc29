//! An event as Altinn Events keeps and writes it: attributes in the publisher's order, text with
//! .NET's escaping. Owns what a publisher may send.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use crate::simulator::times;

/// An event that was published.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::simulator) struct CloudEvent {
    attributes: Vec<(String, String)>,
    data: Option<(&'static str, Value)>,
}

/// A JSON object in the order it was written in.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl CloudEvent {
    /// Reads what a publisher sent; the error says which rule it broke.
    pub(in crate::simulator) fn read(body: &[u8]) -> Result<Self, String> {
        let Members(members) =
            serde_json::from_slice(body).map_err(|_| "not a JSON object".to_owned())?;
        let mut event = Self { attributes: Vec::new(), data: None };
        for (name, value) in members {
            event.take(name, value)?;
        }
        event.check()?;
        if event.data.is_some() && event.get("datacontenttype").is_none() {
            event.attributes.push(("datacontenttype".to_owned(), "application/json".to_owned()));
        }
        Ok(event)
    }

    /// An event of these attributes, which the caller knows to be good.
    pub(in crate::simulator) fn of(attributes: Vec<(&str, String)>) -> Self {
        let attributes =
            attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { attributes, data: None }
    }

    /// With these attributes: in place of those that are there, else at the end.
    pub(in crate::simulator) fn with(mut self, attributes: &BTreeMap<String, String>) -> Self {
        for (name, value) in attributes {
            match self.attributes.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => old.clone_from(value),
                None => self.attributes.push((name.clone(), value.clone())),
            }
        }
        self
    }

    /// Without these attributes.
    pub(in crate::simulator) fn without(mut self, names: &[String]) -> Self {
        self.attributes.retain(|(name, _)| !names.contains(name));
        self
    }

    fn take(&mut self, name: String, value: Value) -> Result<(), String> {
        match (name.as_str(), value) {
            (_, Value::Null) => Ok(()),
            ("data", value) => self.put_data("data", value),
            ("data_base64", value) => self.put_data("data_base64", value),
            (_, Value::String(text)) => self.put(name, text),
            (_, Value::Bool(flag)) => self.put(name, flag.to_string()),
            (_, Value::Number(number)) => self.put(name, number.to_string()),
            (_, Value::Array(_) | Value::Object(_)) => Err(format!("{name} is not a string")),
        }
    }

    fn put(&mut self, name: String, text: String) -> Result<(), String> {
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.is_empty() || !name.bytes().all(legal) {
            return Err("an attribute's name is not lower-case letters and digits".to_owned());
        }
        if self.get(&name).is_some() {
            return Err(format!("{name} is there twice"));
        }
        self.attributes.push((name, text));
        Ok(())
    }

    fn put_data(&mut self, name: &'static str, value: Value) -> Result<(), String> {
        if self.data.is_some() {
            return Err("data is there twice".to_owned());
        }
        self.data = Some((name, value));
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.get("specversion") != Some("1.0") {
            return Err("specversion is not 1.0".to_owned());
        }
        for name in ["id", "source", "type", "resource"] {
            if self.get(name).is_none_or(str::is_empty) {
                return Err(format!("{name} is required"));
            }
        }
        let time = self.get("time").is_none_or(|time| time.parse::<jiff::Timestamp>().is_ok());
        if time { Ok(()) } else { Err("time is not RFC 3339".to_owned()) }
    }

    /// An attribute.
    pub(in crate::simulator) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// An attribute, or nothing of it.
    pub(in crate::simulator) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The body of a push: compact, specversion first, then the publisher's order, data last.
    pub(in crate::simulator) fn push_body(&self) -> String {
        self.write(self.attributes.iter())
    }

    /// An item of the feed: `PostgreSQL`'s jsonb order (shorter names first, then bytewise) with
    /// specversion first, and the time in UTC.
    pub(in crate::simulator) fn feed_item(&self) -> String {
        let mut attributes = self.attributes.clone();
        attributes.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        for (name, value) in &mut attributes {
            if name == "time"
                && let Ok(time) = value.parse::<jiff::Timestamp>()
            {
                *value = times::in_utc(time);
            }
        }
        self.write(attributes.iter())
    }

    fn write<'a>(&'a self, attributes: impl Iterator<Item = &'a (String, String)>) -> String {
        let mut out = String::from("{\"specversion\":\"1.0\"");
        for (name, value) in attributes.filter(|(name, _)| name != "specversion") {
            out.push(',');
            write_text(&mut out, name);
            out.push(':');
            write_text(&mut out, value);
        }
        if let Some((name, value)) = &self.data {
            out.push(',');
            write_text(&mut out, name);
            out.push(':');
            write_value(&mut out, value);
        }
        out.push('}');
        out
    }
}

/// How a chat service is told: the event as escaped text, when the endpoint is Slack's.
pub(in crate::simulator) fn payload(endpoint: &str, body: &str) -> String {
    if endpoint.contains("hooks.slack.com") {
        format!("{{\"text\": \"{}\"}}", body.replace('"', "\\\""))
    } else {
        body.to_owned()
    }
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (name, member)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(out, name);
                out.push(':');
                write_value(out, member);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

/// A JSON string as .NET's default encoder writes it: pure ASCII, and nothing HTML could read.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            ' '..='~' if !"<>&'+`\"".contains(c) => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend(["\\u", &format!("{unit:04X}")]);
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> CloudEvent {
        CloudEvent::read(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_push_has_specversion_first_then_the_publishers_order_then_data() {
        let event = read(
            r#"{"data":{"x":1},"id":"1","type":"t","number":7,"nothing":null,"resource":"r","specversion":"1.0","source":"s"}"#,
        );
        assert_eq!(
            event.push_body(),
            r#"{"specversion":"1.0","id":"1","type":"t","number":"7","resource":"r","source":"s","datacontenttype":"application/json","data":{"x":1}}"#
        );
    }

    #[test]
    fn text_is_escaped_as_dotnet_does() {
        let event = read(
            r#"{"specversion":"1.0","id":"é😀<>&'+`\"\\\n","type":"t","resource":"r","source":"s"}"#,
        );
        let expected = concat!(
            r#"{"specversion":"1.0","id":"\u00E9\uD83D\uDE00\u003C\u003E\u0026\u0027\u002B\u0060\u0022\\\n""#,
            r#","type":"t","resource":"r","source":"s"}"#
        );
        assert_eq!(event.push_body(), expected);
        assert_eq!(CloudEvent::read(event.push_body().as_bytes()).unwrap(), event);
    }

    #[test]
    fn a_feed_item_is_in_jsonb_order_with_its_time_in_utc() {
        let event = read(
            r#"{"specversion":"1.0","type":"t","time":"2026-08-20T12:00:00+02:00","source":"s","resource":"r","id":"1"}"#,
        );
        assert_eq!(
            event.feed_item(),
            r#"{"specversion":"1.0","id":"1","time":"2026-08-20T10:00:00Z","type":"t","source":"s","resource":"r"}"#
        );
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_rule() {
        let good = r#"{"specversion":"1.0","id":"1","type":"t","resource":"r","source":"s"}"#;
        for (from, to, rule) in [
            (r#""specversion":"1.0","#, "", "specversion is not 1.0"),
            (r#""id":"1""#, r#""id":"""#, "id is required"),
            (r#""resource":"r","#, "", "resource is required"),
            (r#""id":"1""#, r#""id":"1","time":"today""#, "time is not RFC 3339"),
            (r#""id":"1""#, r#""id":"1","x":[]"#, "x is not a string"),
            (r#""id":"1""#, r#""id":"1","id":"2""#, "id is there twice"),
            (
                r#""id":"1""#,
                r#""id":"1","aB":"""#,
                "an attribute's name is not lower-case letters and digits",
            ),
            ("}", "", "not a JSON object"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_eq!(CloudEvent::read(bad.as_bytes()).unwrap_err(), rule, "{bad}");
        }
    }

    #[test]
    fn slack_gets_the_event_as_text() {
        assert_eq!(
            payload("https://x.example/?hooks.slack.com", r#"{"specversion":"1.0"}"#),
            r#"{"text": "{\"specversion\":\"1.0\"}"}"#
        );
        assert_eq!(payload("https://x.example/", "{}"), "{}");
    }
}
