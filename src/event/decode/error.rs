//! What is wrong with a body that is no `CloudEvent`.
//!
//! Names the attribute and the rule and never quotes a value: values can be personal.

use std::{borrow::Cow, fmt};

use super::names::is_attribute_name;

/// Longest attribute name that a message repeats.
const MAX_NAME_SHOWN: usize = 40;

/// An attribute, or the body, and the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    item: Option<usize>,
    attribute: Cow<'static, str>,
    rule: Cow<'static, str>,
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(item) = self.item {
            write!(f, "event {item} of the batch: ")?;
        }
        write!(f, "{} {}", self.attribute, self.rule)
    }
}

impl DecodeError {
    pub(super) fn body(rule: impl Into<Cow<'static, str>>) -> Self {
        Self { item: None, attribute: Cow::Borrowed("the body"), rule: rule.into() }
    }

    /// A name that breaks the naming rule is not repeated: it could hold anything.
    pub(super) fn attribute(name: &str, rule: &'static str) -> Self {
        let known = is_attribute_name(name) || name == "data_base64";
        let shown = known && name.len() <= MAX_NAME_SHOWN;
        let attribute =
            if shown { Cow::Owned(name.to_owned()) } else { Cow::Borrowed("an attribute") };
        Self { item: None, attribute, rule: Cow::Borrowed(rule) }
    }

    /// Only the place is taken from the parser's message, which can quote what it read.
    pub(super) fn syntax(fault: &serde_json::Error) -> Self {
        Self::body(format!("is not JSON (line {}, column {})", fault.line(), fault.column()))
    }

    /// The same fault, in the batch's event with this index from 0.
    pub(super) fn in_batch(self, index: usize) -> Self {
        Self { item: Some(index), ..self }
    }

    /// Which attribute, or `the body`.
    pub fn at(&self) -> &str {
        &self.attribute
    }
}
