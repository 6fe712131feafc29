//! The pull feed, rule by rule: its lag, its cursor, its patterns, its pages cut before they are
//! authorized.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::{
    server::{Answer, answer},
    simulator::{
        answers,
        auth::{
            exchange::Caller,
            policy::{self, Question},
        },
        state::{State, StoredEvent},
    },
};

/// Events younger than this are not shown yet.
const LAG: Duration = Duration::from_secs(30);
/// Events older than this are gone.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
const DEFAULT_SIZE: usize = 50;
const LARGEST: usize = 1000;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    resource: String,
    after: String,
    subject: Option<String>,
    alternative_subject: Option<String>,
    types: Vec<String>,
    size: usize,
}

impl Query {
    fn read(query: &str, headers: &HeaderMap) -> Result<Self, Box<Answer>> {
        let mut read = Self { size: DEFAULT_SIZE, ..Self::default() };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match name.to_ascii_lowercase().as_str() {
                "resource" => read.resource = value,
                "after" => read.after = value,
                "subject" => read.subject = Some(value).filter(|value| !value.is_empty()),
                "type" => read.types.push(value),
                "size" => read.size = size(&value)?,
                _ => {}
            }
        }
        let header = headers.get("Altinn-AlternativeSubject");
        read.alternative_subject = header.and_then(|value| value.to_str().ok()).map(str::to_owned);
        read.check()
    }

    fn check(self) -> Result<Self, Box<Answer>> {
        if self.resource.is_empty() {
            return Err(answers::invalid("resource", "The resource field is required.").into());
        }
        let refuse = |detail| {
            Err(answers::problem(StatusCode::BAD_REQUEST, "Bad Request", Some(detail)).into())
        };
        if !self.resource.starts_with("urn:altinn:resource:") {
            return refuse("The 'resource' parameter must begin with `urn:altinn:resource:`");
        }
        if self.after.is_empty() {
            return refuse("The 'after' parameter must be defined.");
        }
        if self.subject.is_some() && self.alternative_subject.is_some() {
            return refuse("Only one of 'subject' or 'alternativeSubject' can be defined.");
        }
        Ok(self)
    }

    fn matches(&self, stored: &StoredEvent) -> bool {
        let event = &stored.event;
        let same = |wanted: &Option<String>, name| {
            wanted.is_none() || wanted.as_deref() == event.get(name)
        };
        event.text("resource") == self.resource
            && same(&self.subject, "subject")
            && same(&self.alternative_subject, "alternativesubject")
            && (self.types.is_empty()
                || self.types.iter().any(|pattern| like(pattern, event.text("type"))))
    }
}

fn size(text: &str) -> Result<usize, Box<Answer>> {
    let wrong = || answers::invalid("size", &format!("The value '{text}' is not valid.")).into();
    let size: i32 = text.parse().map_err(|_| -> Box<Answer> { wrong() })?;
    Ok(usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE).min(LARGEST))
}

/// One sign of a `LIKE` pattern.
#[derive(Clone, Copy)]
enum Sign {
    AnyText,
    AnyCharacter,
    Literal(char),
}

fn signs(pattern: &str) -> Vec<Sign> {
    let mut characters = pattern.chars();
    let mut signs = Vec::new();
    while let Some(c) = characters.next() {
        signs.push(match c {
            '%' => Sign::AnyText,
            '_' => Sign::AnyCharacter,
            '\\' => Sign::Literal(characters.next().unwrap_or(c)),
            _ => Sign::Literal(c),
        });
    }
    signs
}

/// SQL's `LIKE`: `%` is any text, `_` any character, a backslash takes the next one as it is.
fn like(pattern: &str, text: &str) -> bool {
    let signs = signs(pattern);
    // Which beginnings of the pattern match the text read so far.
    let mut open = vec![true];
    open.extend(signs.iter().scan(true, |so_far, sign| {
        *so_far = *so_far && matches!(sign, Sign::AnyText);
        Some(*so_far)
    }));
    for c in text.chars() {
        let mut next = vec![false];
        for (sign, before) in signs.iter().zip(open.windows(2)) {
            let (short, long) = (before.first() == Some(&true), before.last() == Some(&true));
            let here = next.last() == Some(&true);
            next.push(match sign {
                Sign::AnyText => here || long,
                Sign::AnyCharacter => short,
                Sign::Literal(literal) => short && *literal == c,
            });
        }
        open = next;
    }
    open.last() == Some(&true)
}

/// `GET events`; the caller's scope is checked already.
pub(in crate::simulator) fn read(
    state: &State,
    caller: &Caller,
    query: &str,
    headers: &HeaderMap,
) -> Answer {
    match Query::read(query, headers) {
        Ok(query) => page(state, caller, &query),
        Err(refusal) => *refusal,
    }
}

fn page(state: &State, caller: &Caller, query: &Query) -> Answer {
    let now = state.now();
    let lag = state.options.scaled(LAG);
    let tables = state.tables();
    let kept = |stored: &&StoredEvent| now.since(stored.at) <= KEPT;
    // An id that is unknown, or gone, begins again at the oldest.
    let cursor = tables
        .events
        .iter()
        .position(|stored| kept(&stored) && stored.event.text("id") == query.after)
        .map_or(0, |at| at + 1);
    let cut = tables.events.iter().skip(cursor).filter(kept);
    let cut = cut.filter(|stored| now.since(stored.at) > lag && query.matches(stored));
    let shown: Vec<&StoredEvent> = cut
        .take(query.size)
        .filter(|stored| {
            let question = Question {
                consumer: &caller.consumer,
                resource: stored.event.text("resource"),
                subject: stored.event.get("subject"),
            };
            policy::permits(&state.options, &tables.faults.decisions, question)
        })
        .collect();
    let items: Vec<String> = shown.iter().map(|stored| stored.event.feed_item()).collect();
    let body = format!("[{}]", items.join(", "));
    let media_type = "application/cloudevents+json; charset=utf-8";
    let mut answer = answer::text(StatusCode::OK, media_type, body);
    let next = next(state, query, &shown).and_then(|next| HeaderValue::from_str(&next).ok());
    if let Some(next) = next {
        answer.headers_mut().insert("next", next);
    }
    answer
}

/// There whenever the page is not empty, with its values as they are, not escaped.
fn next(state: &State, query: &Query, shown: &[&StoredEvent]) -> Option<String> {
    let last = shown.last()?.event.text("id");
    let mut next =
        format!("{}/events/api/v1/events?after={last}&resource={}", state.base, query.resource);
    let subject = match &query.alternative_subject {
        Some(_) => shown.first().and_then(|stored| stored.event.get("subject")),
        None => query.subject.as_deref(),
    };
    if let Some(subject) = subject {
        next.extend(["&subject=", subject]);
    }
    for ty in &query.types {
        next.extend(["&type=", ty]);
    }
    Some(next + &format!("&size={}", query.size))
}

#[cfg(test)]
mod tests;
