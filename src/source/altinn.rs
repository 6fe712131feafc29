//! Altinn Events, the hook's side: what a push to one subscription's hook means.
//!
//! Altinn signs nothing; the secret is in the URL that it was told (`?code=`). It sends one
//! structured event a request as `application/json`, and a validation event when a subscription
//! is made. It passes on what publishers wrote, rule or no rule, so events are read leniently.
//! Its API, subscribing included, is not here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE, request::Parts};
use tokio::sync::Notify;
use url::form_urlencoded;

use super::{
    Admission, Handshake, Refusal, Source, Undecodable,
    membership::{self, Membership},
    secrets::Accepts,
};
use crate::{
    event::{
        Arrival, Event, VALIDATION_TYPE,
        decode::{Rules, decode_each, decode_json, error::DecodeError, media_type::media_type_of},
    },
    name::HookName,
    queue::RawPush,
};

/// The URL's parameter that holds the secret, as Altinn's own receivers have it.
const SECRET: &str = "code";

/// What a member of a batch is by itself.
const MEMBER: &str = "application/cloudevents+json";

/// One subscription's sender.
#[derive(Debug)]
pub struct Altinn {
    /// The subscription.
    pub name: HookName,
    /// What its URL may hold.
    pub secrets: Arc<dyn Accepts>,
    /// All configured subscriptions.
    pub subscriptions: Arc<Vec<Membership>>,
    /// Told when a validation event has come, for whoever waits to see the subscription validated.
    pub validated: Arc<Notify>,
}

impl Source for Altinn {
    fn check(&self, head: &Parts) -> Result<(), Refusal> {
        match secret(head) {
            Some(offered) if self.secrets.accepts(&offered) => {}
            Some(_) | None => return Err(Refusal::Unauthenticated),
        }
        match media_type_of(&head.headers) {
            Some(_) => Ok(()),
            None => Err(Refusal::UnsupportedMediaType),
        }
    }

    fn admit(&self, head: &Parts, body: Bytes) -> Result<Admission, Refusal> {
        let members = match decode_each(&head.headers, body.clone(), Rules::Lenient) {
            Ok(members) => members,
            Err(fault) => {
                let media_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
                let media_type = String::from_utf8_lossy(media_type.unwrap_or_default());
                let rest = vec![self.undecodable(&media_type, body, &fault)];
                return Ok(Admission::Undecodable { events: Vec::new(), rest });
            }
        };
        let (mut events, mut rest) = (Vec::new(), Vec::new());
        for member in members {
            match member {
                Ok(event) => events.push(event),
                Err((body, fault)) => rest.push(self.undecodable(MEMBER, body, &fault)),
            }
        }
        let (validations, events): (Vec<Event>, Vec<Event>) =
            events.into_iter().partition(is_validation);
        if !validations.is_empty() {
            self.validated.notify_one();
            if events.is_empty() && rest.is_empty() {
                return Ok(Admission::Validation);
            }
        }
        let arrival = |event| membership::arrival(&self.subscriptions, &self.name, event);
        let events = events.into_iter().map(arrival).collect();
        if rest.is_empty() {
            return Ok(Admission::Events(events));
        }
        Ok(Admission::Undecodable { events, rest })
    }

    fn handshake(&self, _head: &Parts) -> Option<Handshake> {
        None
    }
}

impl Altinn {
    fn undecodable(&self, media_type: &str, body: Bytes, fault: &DecodeError) -> Undecodable {
        let media_type = media_type.to_owned();
        let push = RawPush { hook: self.name.clone(), media_type, body };
        Undecodable { push, reason: fault.to_string() }
    }
}

/// What was kept because it could not be decoded, decoded anew: the events that are to be stored, of
/// all whose they are. A push by Altinn, or an item of its feed.
pub fn again(subscriptions: &[Membership], push: &RawPush) -> Result<Vec<Arrival>, DecodeError> {
    let events = decode_json(push.body.clone(), Rules::Lenient)?;
    let events = events.into_iter().filter(|event| !is_validation(event));
    Ok(events.map(|event| membership::arrival(subscriptions, &push.hook, event)).collect())
}

fn is_validation(event: &Event) -> bool {
    event.attributes().ty == VALIDATION_TYPE
}

/// The one secret in the query. Two would leave open which of them counts.
fn secret(head: &Parts) -> Option<String> {
    let query = head.uri.query()?;
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == SECRET);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value.into_owned()),
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests;
