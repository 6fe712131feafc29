//! One event as a JSON object (JSON event format, section 3).
//!
//! The SDK has the last word on what an event is; the checks before it name attribute and rule
//! without a value, and hold what the SDK lets pass: duplicate keys, empty or long identities,
//! version 0.3.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{error::DecodeError, limits::MAX_ATTRIBUTES, names::REQUIRED, rules};
use crate::event::Event;

/// The event in `json`, which is UTF-8 and not too deep.
pub(super) fn read(json: Bytes) -> Result<Event, DecodeError> {
    let has_base64 = {
        let Members(members) =
            serde_json::from_slice(&json).map_err(|fault| DecodeError::syntax(&fault))?;
        check(&members)?;
        members.iter().any(|(name, _)| name == "data_base64")
    };
    let event = Event::from_json(json).map_err(|fault| DecodeError::syntax(&fault))?;
    match event.to_sdk() {
        Ok(_) => Ok(event),
        // Every attribute was checked, so that only the data is left.
        Err(_) if has_base64 => Err(DecodeError::attribute("data_base64", "is not base64")),
        Err(_) => Err(DecodeError::attribute("data", "is not what datacontenttype says")),
    }
}

fn check(members: &[(String, &RawValue)]) -> Result<(), DecodeError> {
    if members.len() > MAX_ATTRIBUTES {
        return Err(DecodeError::body("has more than 64 attributes"));
    }
    let mut names = BTreeSet::new();
    for (name, _) in members {
        if !names.insert(name.as_str()) {
            return Err(DecodeError::attribute(name, "is there twice"));
        }
    }
    if names.contains("data") && names.contains("data_base64") {
        return Err(DecodeError::attribute("data", "and data_base64 exclude each other"));
    }
    let mut required = BTreeSet::from(REQUIRED);
    for (name, raw) in members {
        if rules::check(name, raw.get())? == rules::Presence::Present {
            required.remove(name.as_str());
        }
    }
    // In the order in which a reader would look for them, the version first.
    match REQUIRED.iter().find(|name| required.contains(*name)) {
        Some(missing) => Err(DecodeError::attribute(missing, "is missing")),
        None => Ok(()),
    }
}

/// The members of an object in their order, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
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
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
