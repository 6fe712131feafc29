//! Which events a handler gets: a pure function of `match` and the event.

use crate::{
    config::{Match, Pattern},
    event::Attributes,
    name::HookName,
    queue::StoredEvent,
};

/// A handler's `match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Match);

impl Filter {
    /// The filter that this `match` means.
    pub fn new(matches: &Match) -> Self {
        Self(matches.clone())
    }

    /// Whether the handler is to get this event.
    ///
    /// An event that is stored again for one more subscription is not for a handler that matched
    /// it by the subscriptions that it belonged to before.
    pub fn matches(&self, stored: &StoredEvent) -> bool {
        let attributes = stored.event.attributes();
        let had = !stored.already.is_empty() && self.fits(attributes, &stored.already);
        !had && self.fits(attributes, &stored.from)
    }

    /// Whether an event with these attributes fits when it belongs to `from`.
    pub fn fits(&self, attributes: &Attributes, from: &[HookName]) -> bool {
        let Match { from: names, ty, source, subject, resource } = &self.0;
        (names.is_empty() || from.iter().any(|name| names.contains(name)))
            && any(ty, Some(&attributes.ty))
            && any(source, Some(&attributes.source))
            && any(subject, attributes.subject.as_deref())
            && any(resource, attributes.resource.as_deref())
    }
}

/// An empty list asks for nothing; any other needs a value that one of its patterns fits.
fn any(patterns: &[Pattern], value: Option<&str>) -> bool {
    let fits = |value| patterns.iter().any(|pattern| pattern.matches(value));
    patterns.is_empty() || value.is_some_and(fits)
}
