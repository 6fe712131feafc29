use std::time::Duration;

use serde_json::json;

use super::fan_out;
use crate::simulator::{
    events::{cloud_event::CloudEvent, subscriptions::foreign},
    state::State,
    tests::state,
    workspace::RESOURCE,
};

fn event(subject: &str) -> CloudEvent {
    let mut event = json!({ "specversion": "1.0", "id": "1", "type": "t", "source": "s", "resource": RESOURCE });
    if !subject.is_empty() {
        event["subject"] = subject.into();
    }
    CloudEvent::read(event.to_string().as_bytes()).unwrap()
}

fn ids(state: &State, event: &CloudEvent) -> Vec<i32> {
    let now = state.now();
    let rows = fan_out(&mut state.tables(), &state.options, now, event);
    rows.into_iter().map(|row| row.id).collect()
}

fn add(state: &State, change: &serde_json::Value) {
    let mut row =
        json!({ "endPoint": "https://x", "consumer": "/org/x", "resourceFilter": RESOURCE });
    row.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    foreign(state, &row);
}

#[test]
fn filters_are_exact_and_an_empty_filter_is_a_filter() {
    let state = state(|options| {
        options.main_units.insert("2".to_owned(), "1".to_owned());
    });
    let unit = |org: &str| format!("urn:altinn:organization:identifier-no:{org}");
    for change in [
        json!({}),
        json!({ "validated": false }),
        json!({ "typeFilter": "t" }),
        json!({ "typeFilter": "%" }),
        json!({ "typeFilter": "" }),
        json!({ "subjectFilter": "" }),
        json!({ "subjectFilter": unit("1") }),
        json!({ "subjectFilter": unit("1"), "includeSubunits": true }),
        json!({ "resourceFilter": "urn:altinn:resource:other" }),
    ] {
        add(&state, &change);
    }
    for (subject, expected) in
        [(String::new(), vec![1, 3, 6]), (unit("1"), vec![1, 3, 7, 8]), (unit("2"), vec![1, 3, 8])]
    {
        assert_eq!(ids(&state, &event(&subject)), expected, "{subject}");
    }
}

#[test]
fn a_new_row_is_not_seen_and_a_deleted_one_is_until_the_hour_is_over() {
    let state = state(|options| options.time_scale = std::num::NonZeroU32::MIN);
    add(&state, &json!({}));
    assert_eq!(ids(&state, &event("a")), [1]);
    add(&state, &json!({}));
    state.tables().subscriptions.remove(&1);
    state.options.clock.advance(Duration::from_secs(3599));
    assert_eq!(ids(&state, &event("a")), [1]);
    assert_eq!(ids(&state, &event("b")), [2]);
    state.options.clock.advance(Duration::from_secs(1));
    assert_eq!(ids(&state, &event("a")), [2]);
}
