//! The members of a JSON object, each value as it is written.
//!
//! Owns what counts as there: a member that is `null` is absent (CloudEvents JSON format, section
//! 2.2). Of a name that is there twice both are listed, and the last one is the value, as in most
//! readers of JSON. Knows no attribute.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members that are not `null`, in their order.
#[derive(Debug)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object.
    pub(crate) fn read(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

/// The string that a value is, if it is one and is Unicode.
pub(crate) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A string, a boolean or a number as text; objects and arrays have none.
pub(crate) fn text(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first() {
        Some(b'"') => string(value),
        Some(b'{' | b'[') | None => None,
        Some(_) => Some(value.get().to_owned()),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
            if value.get() != "null" {
                members.push((name, value));
            }
        }
        Ok(Members(members))
    }
}

/// A name. One that is not Unicode (half of a surrogate pair) is a name all the same.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(ReadName)
    }
}

struct ReadName;

impl<'de> Visitor<'de> for ReadName {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_bytes<E: Error>(self, name: &'de [u8]) -> Result<Name<'de>, E> {
        Ok(Name(String::from_utf8_lossy(name)))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(String::from_utf8_lossy(name).into_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_member_is_absent_and_of_two_the_last_one_counts() {
        let json = br#"{"a":1,"b":null,"\u0061":"x","c":null,"c":[ ],"a":null}"#;
        let members = Members::read(json).unwrap();
        let listed: Vec<_> = members.iter().map(|(name, value)| (name, value.get())).collect();
        assert_eq!(listed, [("a", "1"), ("a", "\"x\""), ("c", "[ ]")]);
        assert_eq!(members.get("a").and_then(text).as_deref(), Some("x"));
        assert_eq!((members.get("b").is_none(), members.get("c").and_then(text)), (true, None));
    }

    #[test]
    fn half_a_surrogate_pair_is_a_name_and_no_text() {
        let members = Members::read(br#"{"\ud800":1,"id":"\ud800","n":-1.50}"#).unwrap();
        assert_eq!((members.len(), members.get("id").and_then(text)), (3, None));
        assert_eq!(members.get("n").and_then(text).as_deref(), Some("-1.50"));
        assert!(Members::read(b"[]").is_err() && Members::read(b"{").is_err());
    }
}
