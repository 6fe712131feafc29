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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::Timestamp,
        event::{Event, Origin},
        queue::Seq,
    };

    fn names(names: &[&str]) -> Vec<HookName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn exact(text: &str) -> Vec<Pattern> {
        vec![Pattern::Exact(text.to_owned())]
    }

    fn stored(rest: &str, from: &[&str], already: &[&str]) -> StoredEvent {
        let json = format!(r#"{{"id":"1","source":"/a/b","type":"no.x.created"{rest}}}"#);
        StoredEvent {
            seq: "1".parse::<Seq>().unwrap(),
            received: Timestamp::default(),
            origin: Origin::Altinn,
            from: names(from),
            already: names(already),
            event: Event::from_json(Bytes::from(json)).unwrap(),
        }
    }

    #[test]
    fn each_list_that_is_not_empty_needs_a_match() {
        let all = Match::default();
        let with = |change: fn(&mut Match)| {
            let mut matches = Match::default();
            change(&mut matches);
            matches
        };
        let subject = r#","subject":"/o/1","resource":"urn:r""#;
        for (what, matches, rest, expected) in [
            ("nothing asked", all, "", true),
            ("from", with(|m| m.from = names(&["b", "c"])), "", true),
            ("from another", with(|m| m.from = names(&["d"])), "", false),
            ("type", with(|m| m.ty = exact("no.x.created")), "", true),
            ("type, case", with(|m| m.ty = exact("no.x.Created")), "", false),
            (
                "type and source",
                with(|m| (m.ty, m.source) = (exact("no.x.created"), exact("/"))),
                "",
                false,
            ),
            ("subject", with(|m| m.subject = exact("/o/1")), subject, true),
            (
                "missing subject",
                with(|m| m.subject = vec![Pattern::Prefix(String::new())]),
                "",
                false,
            ),
            ("resource", with(|m| m.resource = exact("urn:r")), subject, true),
            (
                "missing resource",
                with(|m| m.resource = vec![Pattern::Prefix(String::new())]),
                "",
                false,
            ),
            ("one of two", with(|m| m.ty = [exact("x"), exact("no.x.created")].concat()), "", true),
        ] {
            let filter = Filter::new(&matches);
            assert_eq!(filter.matches(&stored(rest, &["a", "b"], &[])), expected, "{what}");
        }
    }

    #[test]
    fn a_handler_that_had_the_event_by_another_hook_does_not_get_it_again() {
        for (asked, from, already, expected) in [
            (&["a"][..], &["a"][..], &["b"][..], true),
            (&["a", "b"], &["a"], &["b"], false),
            (&[], &["a"], &["b"], false),
            (&["b"], &["a"], &["b"], false),
            (&["a"], &["a"], &["c", "a"], false),
        ] {
            let filter = Filter::new(&Match { from: names(asked), ..Match::default() });
            let stored = stored("", from, already);
            assert_eq!(filter.matches(&stored), expected, "{asked:?} {from:?} {already:?}");
        }
    }

    #[test]
    fn a_star_stands_for_anything_at_its_end() {
        let (prefix, suffix, part) = (Pattern::Prefix, Pattern::Suffix, Pattern::Contains);
        for (pattern, text, expected) in [
            (prefix("no.".into()), "no.x", true),
            (prefix("no.".into()), "xno.", false),
            (prefix(String::new()), "", true),
            (suffix(".x".into()), "no.x", true),
            (suffix(".x".into()), "no.xy", false),
            (part("o.".into()), "no.x", true),
            (part("x.".into()), "no.x", false),
            (Pattern::Exact("no".into()), "no.", false),
        ] {
            assert_eq!(pattern.matches(text), expected, "{pattern:?} {text}");
        }
    }

    proptest! {
        #[test]
        fn one_more_thing_asked_never_matches_more(
            ty in proptest::collection::vec("[ab]{0,2}", 0..3),
            from in proptest::collection::vec("[ab]", 0..3),
            already in proptest::collection::vec("[ab]", 0..3),
            more in "[ab]{1,2}",
        ) {
            let prefixes = |texts: &[String]| texts.iter().cloned().map(Pattern::Prefix).collect();
            let refs = |texts: &'_ [String]| -> Vec<HookName> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            let mut stored = stored("", &[], &[]);
            (stored.from, stored.already) = (refs(&from), refs(&already));
            let loose = Match { ty: prefixes(&ty), ..Match::default() };
            let strict = Match { source: vec![Pattern::Prefix(more)], ..loose.clone() };
            let (loose, strict) = (Filter::new(&loose), Filter::new(&strict));
            prop_assert!(!strict.matches(&stored) || loose.matches(&stored));
            prop_assert!(!loose.matches(&stored) || stored.already.is_empty());
        }
    }
}
