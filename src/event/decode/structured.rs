//! One event as a JSON object (JSON event format, section 3).
//!
//! Read by the rules, the SDK has the last word on what an event is; the checks before it name
//! attribute and rule without a value, and hold what the SDK lets pass: duplicate keys, empty or
//! long identities, version 0.3. Read leniently, an event needs only what it is routed and
//! remembered by, and the rule that it breaks is noted with it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    error::DecodeError,
    limits::{MAX_ATTRIBUTES, MAX_IDENTITY},
    names::REQUIRED,
    rules,
    strictness::Rules,
};
use crate::event::{
    Event,
    members::{self, Members},
};

/// The event in `json`, which is UTF-8 and not too deep.
pub(super) fn read(json: Bytes, by: Rules) -> Result<Event, DecodeError> {
    let fault = {
        let members = Members::read(&json).map_err(|fault| DecodeError::syntax(&fault))?;
        within_limits(&members)?;
        let fault = check(&members).err();
        if by == Rules::Lenient {
            routable(&members)?;
        } else if let Some(fault) = fault {
            return Err(fault);
        }
        fault
    };
    let event = Event::from_json(json).map_err(|fault| DecodeError::syntax(&fault))?;
    let fault = fault.or_else(|| for_the_sdk(&event));
    match by {
        Rules::Strict => fault.map_or(Ok(event), Err),
        Rules::Lenient => Ok(Event { oddity: fault.map(Box::new), ..event }),
    }
}

fn within_limits(members: &Members<'_>) -> Result<(), DecodeError> {
    if members.len() > MAX_ATTRIBUTES {
        return Err(DecodeError::body("has more than 64 attributes"));
    }
    Ok(())
}

/// What an event cannot be routed or remembered without.
fn routable(members: &Members<'_>) -> Result<(), DecodeError> {
    for name in REQUIRED {
        let fault = |rule| Err(DecodeError::attribute(name, rule));
        match members.get(name).map(members::string) {
            None => return fault("is missing"),
            Some(None) => return fault("is not a string"),
            Some(Some(text)) if text.is_empty() => return fault("is empty"),
            Some(Some(text)) if text.len() > MAX_IDENTITY => {
                return fault("is longer than 4096 bytes");
            }
            Some(Some(_)) => {}
        }
    }
    Ok(())
}

/// Why the SDK does not take an event whose attributes were checked: only the data is left.
fn for_the_sdk(event: &Event) -> Option<DecodeError> {
    event.to_sdk().err()?;
    let members = Members::read(event.json()).ok()?;
    Some(if members.get("data_base64").is_some() {
        DecodeError::attribute("data_base64", "is not base64")
    } else {
        DecodeError::attribute("data", "is not what datacontenttype says")
    })
}

fn check(members: &Members<'_>) -> Result<(), DecodeError> {
    let mut names = BTreeSet::new();
    for (name, _) in members.iter() {
        if !names.insert(name) {
            return Err(DecodeError::attribute(name, "is there twice"));
        }
    }
    if names.contains("data") && names.contains("data_base64") {
        return Err(DecodeError::attribute("data", "and data_base64 exclude each other"));
    }
    for (name, raw) in members.iter() {
        rules::check(name, raw.get())?;
    }
    // In the order in which a reader would look for them, the version first.
    match REQUIRED.iter().find(|name| !names.contains(*name)) {
        Some(missing) => Err(DecodeError::attribute(missing, "is missing")),
        None => Ok(()),
    }
}
