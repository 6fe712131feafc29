//! Patterns of handlers that no event can fit: the handler would wait without end and say nothing.
//!
//! Owns which hooks a handler gets events of. What each can bring is its table's. Other senders can bring
//! anything, so a list is only told of beside them when nothing in it is for Altinn's events.

use crate::config::{
    Config, Handler, Match, Pattern, Subscription, error::Problem, resource_cure, subject_cure,
};

/// Hooks of which a handler gets events.
struct Reach<'a> {
    subscriptions: Vec<&'a Subscription>,
    /// Other senders, too.
    others: bool,
}

impl<'a> Reach<'a> {
    fn of(matches: &Match, config: &'a Config) -> Self {
        let gets = |name: &_| matches.from.is_empty() || matches.from.contains(name);
        let subscriptions = config.subscriptions.iter().filter(|(name, _)| gets(name));
        Self {
            subscriptions: subscriptions.map(|(_, one)| one).collect(),
            others: config.sources.keys().any(gets),
        }
    }

    /// The first item of the list that is for nothing, with its place from 1, if that is to be told.
    fn idle<'p>(
        &self,
        list: &'p [Pattern],
        brings: fn(&Subscription, &Pattern) -> bool,
    ) -> Option<(usize, &'p Pattern)> {
        if self.subscriptions.is_empty() {
            return None;
        }
        let is_idle = |item: &&Pattern| !self.subscriptions.iter().any(|one| brings(one, item));
        let count = list.iter().filter(is_idle).count();
        let told = if self.others { count == list.len() } else { count > 0 };
        (1..).zip(list).find(|(_, item)| told && is_idle(item))
    }
}

/// A warning for each list with such a pattern.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let handlers = config.handlers.iter();
    handlers.flat_map(|(name, handler)| of_handler(name.as_str(), handler, config)).collect()
}

fn of_handler(name: &str, handler: &Handler, config: &Config) -> Vec<Problem> {
    let matches = &handler.matches;
    let reach = Reach::of(matches, config);
    let told = |key: &str, (place, cure): (usize, String)| {
        let beside = if reach.others {
            "; if it is for another sender, name that alone in match.from"
        } else {
            ""
        };
        let idle = "fits no event that its subscriptions bring";
        let message = format!("item {place} {idle}: {cure}{beside}");
        Problem { key: format!("handlers.{name}.match.{key}"), message }
    };
    let resource = reach.idle(&matches.resource, Subscription::brings_resource);
    let resource = resource
        .map(|(place, item)| (place, resource_cure(item, reach.subscriptions.iter().copied())));
    let ty = reach.idle(&matches.ty, Subscription::brings_type);
    let ty = ty.map(|(place, _)| {
        (place, "write the type that the subscription names, or take it out there".to_owned())
    });
    let subject = reach.idle(&matches.subject, Subscription::brings_subject);
    let subject = subject.map(|(place, item)| (place, subject_cure(item)));
    let lists = [("type", ty), ("subject", subject), ("resource", resource)];
    lists.into_iter().filter_map(|(key, found)| Some(told(key, found?))).collect()
}
