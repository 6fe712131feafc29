//! Which subscriptions an event belongs to (design section 9).
//!
//! Owns the comparison that Altinn makes between an event and a subscription's filters, so that an
//! event that comes by one hook, or by the feed, is also the other subscriptions' that match it.

use crate::{
    event::{Arrival, Attributes, Event, Origin},
    name::HookName,
};

/// A configured subscription's filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    name: HookName,
    resource: String,
    subject: Option<String>,
    ty: Option<String>,
    include_subunits: bool,
}

impl Membership {
    /// A subscription to everything about `resource`, a whole URN.
    pub fn new(name: HookName, resource: &str) -> Self {
        // Altinn lower-cases the filter when it stores it, and nothing of the event.
        let resource = resource.to_ascii_lowercase();
        Self { name, resource, subject: None, ty: None, include_subunits: false }
    }

    /// Only events with exactly this subject.
    #[must_use]
    pub fn with_subject(self, subject: Option<String>) -> Self {
        Self { subject, ..self }
    }

    /// Only events of exactly this type.
    #[must_use]
    pub fn with_type(self, ty: Option<String>) -> Self {
        Self { ty, ..self }
    }

    /// Also events about the subject's subunits, which only Altinn can tell.
    #[must_use]
    pub fn with_subunits(self, include_subunits: bool) -> Self {
        Self { include_subunits, ..self }
    }

    /// Whose.
    pub fn name(&self) -> &HookName {
        &self.name
    }

    /// Whether the event's attributes alone make it this subscription's.
    pub fn matches(&self, event: &Attributes) -> bool {
        event.resource.as_deref() == Some(self.resource.as_str())
            && self.subject.as_ref().is_none_or(|subject| event.subject.as_ref() == Some(subject))
            && self.ty.as_ref().is_none_or(|ty| event.ty == *ty)
    }
}

/// An event of Altinn's that came by the hook or the feed of `by`, with all whose it is.
pub fn arrival(subscriptions: &[Membership], by: &HookName, event: Event) -> Arrival {
    let attributes = event.attributes();
    let others = subscriptions
        .iter()
        .filter(|other| other.name != *by && other.matches(attributes))
        .map(|other| other.name.clone());
    let from = std::iter::once(by.clone()).chain(others).collect();
    let own = subscriptions.iter().find(|own| own.name == *by);
    let only_by_hook = own.is_some_and(|own| own.include_subunits && !own.matches(attributes));
    Arrival { from, only_by_hook: only_by_hook.then(|| by.clone()), origin: Origin::Altinn, event }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    const NABO: &str = "urn:altinn:resource:nabovarsel";
    const UNIT: &str = "urn:altinn:organization:identifier-no:314249879";
    const SUBUNIT: &str = "urn:altinn:organization:identifier-no:111222333";

    fn subscriptions() -> Vec<Membership> {
        let new = |name: &str, resource| Membership::new(name.parse().unwrap(), resource);
        vec![
            new("all", NABO),
            new("unit", NABO).with_subject(Some(UNIT.to_owned())).with_subunits(true),
            new("published", NABO).with_type(Some("published".to_owned())),
            new("other", "urn:altinn:resource:other"),
            new("upper", "urn:altinn:resource:Upper"),
        ]
    }

    #[test]
    fn an_event_belongs_to_its_hook_first_and_to_every_subscription_that_matches_it() {
        // by, resource, subject, type → from, only by the hook
        #[rustfmt::skip]
        let table = [
            ("all", Some(NABO), Some(UNIT), "published", vec!["all", "unit", "published"], false),
            ("published", Some(NABO), Some(UNIT), "published", vec!["published", "all", "unit"], false),
            ("unit", Some(NABO), Some(UNIT), "read", vec!["unit", "all"], false),
            ("unit", Some(NABO), Some(SUBUNIT), "read", vec!["unit", "all"], true),
            ("all", Some(NABO), Some(SUBUNIT), "read", vec!["all"], false),
            ("all", Some(NABO), None, "read", vec!["all"], false),
            // By a hook without subunits that does not match: Altinn's word stands, and another
            // hook's copy adds nothing.
            ("other", Some(NABO), Some(UNIT), "read", vec!["other", "all", "unit"], false),
            ("all", None, None, "read", vec!["all"], false),
            ("all", Some("urn:altinn:resource:Nabovarsel"), None, "read", vec!["all"], false),
            ("all", Some("urn:altinn:resource:upper"), None, "read", vec!["all", "upper"], false),
            ("all", Some("urn:altinn:resource:nabovarsel2"), None, "read", vec!["all"], false),
            ("all", Some(NABO), Some(UNIT), "Published", vec!["all", "unit"], false),
            ("gone", Some(NABO), Some(SUBUNIT), "read", vec!["gone", "all"], false),
        ];
        for (by, resource, subject, ty, from, only) in table {
            let event = json!({"id": "1", "source": "/s", "type": ty, "subject": subject, "resource": resource});
            let event = Event::from_json(Bytes::from(event.to_string())).unwrap();
            let arrival = arrival(&subscriptions(), &by.parse().unwrap(), event);
            let names: Vec<&str> = arrival.from.iter().map(HookName::as_str).collect();
            assert_eq!(names, from, "{by} {resource:?} {subject:?} {ty}");
            assert_eq!(arrival.only_by_hook.is_some(), only, "{by} {resource:?} {subject:?} {ty}");
            assert_eq!(arrival.origin, Origin::Altinn);
        }
    }
}
