//! The events that a subscription can bring, as far as it says: is a handler's pattern for any of them.
//!
//! Owns that comparison, and what to write in place of a pattern that is for none. Messages never repeat a subject.

use super::{
    pattern::Pattern,
    subscription::{self, ORGANISATION, PATHS, Subscription},
};

impl Subscription {
    /// Altinn sends what is about this resource only.
    pub fn brings_resource(&self, pattern: &Pattern) -> bool {
        pattern.matches(&self.resource)
    }

    /// Altinn sends this type only, if one is named.
    pub fn brings_type(&self, pattern: &Pattern) -> bool {
        self.ty.as_ref().is_none_or(|ty| pattern.matches(ty))
    }

    /// Altinn sends this subject only, if one is named, and its subunits where they are asked for.
    pub fn brings_subject(&self, pattern: &Pattern) -> bool {
        match &self.subject {
            Some(subject) if !self.include_subunits => pattern.matches(subject),
            Some(_) | None => is_for_a_subject(pattern),
        }
    }
}

/// Whether any subject of Altinn's events could fit.
fn is_for_a_subject(pattern: &Pattern) -> bool {
    let begins = |fits: &dyn Fn(&str) -> bool| fits("urn:") || PATHS.iter().any(|path| fits(path));
    match pattern {
        Pattern::Exact(whole) => begins(&|start| whole.starts_with(start)),
        Pattern::Prefix(text) => {
            begins(&|start| text.starts_with(start) || start.starts_with(text))
        }
        Pattern::Suffix(_) | Pattern::Contains(_) => true,
    }
}

/// What to write in place of a pattern for resources that is for none of these.
pub fn resource_cure<'a>(
    pattern: &Pattern,
    brought: impl Iterator<Item = &'a Subscription>,
) -> String {
    let mut resources: Vec<_> = brought.map(|one| one.resource.as_str()).collect();
    resources.sort_unstable();
    resources.dedup();
    let (text, end) = match pattern {
        Pattern::Prefix(text) => (text, "*"),
        Pattern::Exact(text) | Pattern::Suffix(text) | Pattern::Contains(text) => (text, ""),
    };
    // The id alone, as it may stand in a subscription.
    let whole = subscription::resource(text.clone()).ok().map(|urn| format!("{urn}{end}"));
    let meant = whole.filter(|whole| {
        whole.parse().is_ok_and(|meant: Pattern| resources.iter().any(|one| meant.matches(one)))
    });
    match (meant, resources.as_slice()) {
        (Some(meant), _) => format!("write \"{meant}\""),
        (None, [one]) => format!("write \"{one}\""),
        (None, [first, ..]) => {
            format!("write a subscription's resource, such as \"{first}\"")
        }
        (None, []) => "write a subscription's resource".to_owned(),
    }
}

/// What to write in place of a pattern for subjects that is for none.
pub fn subject_cure(pattern: &Pattern) -> String {
    let same = "write it as the subscription has it, whole".to_owned();
    let Pattern::Exact(text) = pattern else {
        return format!("begin it as the subscription's subject begins, such as {ORGANISATION}*");
    };
    match subscription::subject(text.clone()) {
        Ok(urn) if urn != *text => format!("write {ORGANISATION}NUMBER"),
        Ok(_) => same,
        Err(fault) => format!("it {fault}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::StartAt;

    fn subscription(subject: Option<&str>) -> Subscription {
        Subscription {
            resource: "urn:altinn:resource:nabovarsel".to_owned(),
            subject: subject.map(str::to_owned),
            ty: None,
            include_subunits: false,
            secret_file: None,
            start_from: StartAt::Now,
        }
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_resource_is_compared_whole() {
        let one = subscription(None);
        for (written, cure) in [
            ("urn:altinn:resource:nabovarsel", None),
            ("urn:altinn:resource:*", None),
            ("*nabovarsel", None),
            ("*", None),
            ("nabovarsel", Some("write \"urn:altinn:resource:nabovarsel\"")),
            ("nabo*", Some("write \"urn:altinn:resource:nabo*\"")),
            ("urn:altinn:resource:nabo", Some("write \"urn:altinn:resource:nabovarsel\"")),
            ("*varsle", Some("write \"urn:altinn:resource:nabovarsel\"")),
            ("Nabovarsel", Some("write \"urn:altinn:resource:nabovarsel\"")),
        ] {
            let pattern = pattern(written);
            assert_eq!(one.brings_resource(&pattern), cure.is_none(), "{written}");
            if let Some(cure) = cure {
                assert_eq!(resource_cure(&pattern, std::iter::once(&one)), cure, "{written}");
            }
        }
    }

    #[test]
    fn a_subject_is_the_subscriptions_or_has_a_form_of_altinns() {
        const OWN: &str = "urn:altinn:organization:identifier-no:999888777";
        const OTHER: &str = "urn:altinn:organization:identifier-no:999888776";
        for (written, of_any, of_own) in [
            (OWN, true, true),
            (OTHER, true, false),
            ("urn:altinn:organization:*", true, true),
            ("*999888777", true, true),
            ("ur*", true, true),
            ("/party/*", true, false),
            ("999888777", false, false),
            ("9998*", false, false),
            ("/organisation/999888777", false, false),
            ("/organisation/*", false, false),
        ] {
            let pattern = pattern(written);
            assert_eq!(subscription(None).brings_subject(&pattern), of_any, "{written}");
            assert_eq!(subscription(Some(OWN)).brings_subject(&pattern), of_own, "{written}");
            let whole = Subscription { include_subunits: true, ..subscription(Some(OWN)) };
            assert_eq!(whole.brings_subject(&pattern), of_any, "{written}");
            let cure = subject_cure(&pattern);
            assert!(cure.contains("write") || cure.contains("must") || cure.contains("begin"));
            assert!(!cure.contains("9998"), "{cure}");
        }
        assert_eq!(subject_cure(&pattern("999888777")), format!("write {ORGANISATION}NUMBER"));
    }

    #[test]
    fn a_type_is_the_subscriptions_or_any() {
        let any = subscription(None);
        let one = Subscription { ty: Some("a.b".to_owned()), ..any.clone() };
        for (written, of_one) in [("a.b", true), ("a.*", true), ("a.B", false), ("b", false)] {
            assert_eq!(one.brings_type(&pattern(written)), of_one, "{written}");
            assert!(any.brings_type(&pattern(written)));
        }
    }
}
