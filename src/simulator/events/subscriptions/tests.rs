use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::simulator::{
    auth::exchange::Caller,
    options::Decision,
    state::{EventsFault, State},
    tests::{signed_in, state, text, wish},
    workspace::RESOURCE,
};

const END: &str = "https://hooks.example/h?code=s";

async fn caller(state: &State, scope: &str) -> (Caller, HeaderMap) {
    let mut headers = signed_in(state, scope, None).await;
    headers.insert("content-type", "application/json".parse().unwrap());
    (Caller::of(state, &headers).unwrap(), headers)
}

async fn post(state: &Arc<State>, scope: &str, body: &str) -> (u16, String) {
    let (caller, headers) = caller(state, scope).await;
    let answer = super::create(state, &caller, &headers, body.as_bytes()).await;
    let (status, body) = text(answer).await;
    (status.as_u16(), body)
}

fn rows_and_jobs(state: &State) -> (usize, usize) {
    let tables = state.tables();
    (tables.subscriptions.len(), tables.jobs)
}

const SUBSCRIBE: &str = "altinn:events.subscribe";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn every_broken_rule_has_its_status_and_exact_body_in_the_documented_order() {
    let state = state(|_| {});
    let endpoint = "\"Missing or invalid endpoint to push events towards\"";
    let source = "\"SourceFilter must be an absolute URL with the https scheme.\"";
    let app = "https://ttd.apps.altinn.no/ttd/app";
    for (body, status, expected) in [
        (json!({}), 400, endpoint),
        (json!({ "endPoint": "/x", "sourceFilter": "x" }), 400, endpoint),
        (json!({ "endPoint": "http://hooks.example" }), 400, endpoint),
        (json!({ "endPoint": END, "sourceFilter": "x" }), 400, source),
        (json!({ "endPoint": END, "sourceFilter": "http://x.no" }), 400, source),
        (
            json!({ "endPoint": END, "resourceFilter": "urn:altinn:resource:Upper" }),
            400,
            "\"Resource filter must be a valid urn\"",
        ),
        (
            json!({ "endPoint": END, "resourceFilter": "nabovarsel" }),
            400,
            "\"Resource filter must be a valid urn\"",
        ),
        (json!({ "endPoint": END }), 400, "\"Resource filter is required.\""),
        (
            json!({ "endPoint": END, "resourceFilter": RESOURCE, "sourceFilter": "https://x.no" }),
            400,
            "\"Source filter is not supported for subscriptions on this resource.\"",
        ),
        (
            json!({ "endPoint": END, "resourceFilter": RESOURCE, "alternativeSubjectFilter": "/org/1" }),
            400,
            "\"AlternativeSubject filter is not supported for subscriptions on this resource.\"",
        ),
        (
            json!({ "endPoint": END, "resourceFilter": RESOURCE, "includeSubunits": true }),
            400,
            "\"IncludeSubunits requires a subject filter.\"",
        ),
        (
            json!({ "endPoint": END, "sourceFilter": app }),
            400,
            "\"A valid subject to the authenticated identity is required\"",
        ),
        (
            json!({ "endPoint": END, "sourceFilter": format!("{app}/"), "subjectFilter": "/party/1" }),
            400,
            "\"A valid app id is required in source filter {environment}/{org}/{app}\"",
        ),
        (
            json!({ "endPoint": END, "sourceFilter": app, "subjectFilter": "/party/1", "resourceFilter": "urn:altinn:resource:app_ttd_other" }),
            400,
            "\"Provided resource filter and source filter are not compatible\"",
        ),
        (
            json!({ "endPoint": END, "resourceFilter": RESOURCE }),
            403,
            "\"Not authorized to create a subscription for resource urn:altinn:resource:nabovarsel.\"",
        ),
        (
            json!({ "endPoint": END, "resourceFilter": "urn:altinn:resource:other", "subjectFilter": "/x" }),
            403,
            "\"Not authorized to create a subscription for resource urn:altinn:resource:other.\"",
        ),
    ] {
        let answer = post(&state, SUBSCRIBE, &body.to_string()).await;
        assert_eq!(answer, (status, expected.to_owned()), "{body}");
    }
    assert!(state.tables().subscriptions.is_empty());
    let answer = post(&state, "altinn:events.publish", &wish(END).to_string()).await;
    assert_eq!(answer, (403, String::new()));
}

#[tokio::test]
async fn what_is_not_json_or_not_said_to_be_is_a_problem() {
    let state = state(|_| {});
    for body in ["{", "[]", r#"{"endPoint":"x",}"#, r#"{"endPoint":1}"#, "// c\n{}"] {
        let (status, answer) = post(&state, SUBSCRIBE, body).await;
        assert!(
            status == 400 && answer.contains("One or more validation errors occurred."),
            "{body}"
        );
    }
    let (caller, mut headers) = caller(&state, SUBSCRIBE).await;
    headers.insert("content-type", "text/plain".parse().unwrap());
    let answer = super::create(&state, &caller, &headers, wish(END).to_string().as_bytes()).await;
    assert_eq!(answer.status(), 415);
}

#[tokio::test]
async fn a_row_is_normalised_and_nulls_are_left_out() {
    let state = state(|_| {});
    let mut body = wish("HTTPS://Hooks.Example:443/a/../h?code=å");
    body["ENDPOINT"] = body["endPoint"].take();
    body.as_object_mut().unwrap().remove("endPoint");
    body["consumer"] = "ignored".into();
    let (status, answer) = post(&state, SUBSCRIBE, &body.to_string()).await;
    assert_eq!(status, 201, "{answer}");
    let expected = concat!(
        r#"{"id":1,"endPoint":"https://hooks.example/h?code=%C3%A5","resourceFilter":"urn:altinn:resource:nabovarsel","#,
        r#""subjectFilter":"urn:altinn:organization:identifier-no:314249879","consumer":"/organisation/314249879","#,
        r#""createdBy":"/organisation/314249879","created":"2023-11-14T22:13:20Z","validated":false,"includeSubunits":false}"#,
    );
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn the_same_seven_values_are_the_same_row_and_validate_again() {
    let state = state(|_| {});
    post(&state, SUBSCRIBE, &wish(END).to_string()).await;
    post(&state, SUBSCRIBE, &wish(END).to_string()).await;
    assert_eq!(rows_and_jobs(&state), (1, 2));
    for (name, value) in [
        ("endPoint", json!("https://hooks.example/h?code=t")),
        ("typeFilter", json!("t")),
        ("typeFilter", json!("")),
        ("includeSubunits", json!(true)),
    ] {
        let mut other = wish(END);
        other[name] = value;
        assert_eq!(post(&state, SUBSCRIBE, &other.to_string()).await.0, 201);
    }
    let owner = "altinn:serviceowner altinn:events.subscribe";
    post(&state, owner, &wish(END).to_string()).await;
    assert_eq!(state.tables().subscriptions.len(), 6);
    let (caller, _) = caller(&state, owner).await;
    let (_, list) = text(super::list(&state, &caller)).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(
        (&list["count"], &list["subscriptions"][0]["consumer"]),
        (&json!(1), &json!("/org/ttd"))
    );
}

#[tokio::test]
async fn a_strangers_row_is_403_and_no_row_is_404_first() {
    let state = state(|_| {});
    super::foreign(&state, &json!({ "endPoint": END, "consumer": "/organisation/1" }));
    super::foreign(&state, &json!({ "endPoint": END, "consumer": "/organisation/314249879" }));
    let (caller, _) = caller(&state, SUBSCRIBE).await;
    for (id, status) in [("1", 403), ("2", 200), ("3", 404), ("x", 400)] {
        assert_eq!(super::get(&state, &caller, id).status(), status, "GET {id}");
        assert_eq!(super::delete(&state, &caller, id).status(), status, "DELETE {id}");
    }
    assert_eq!(super::delete(&state, &caller, "2").status(), 404);
}

#[tokio::test]
async fn a_failure_after_the_insert_leaves_a_row_without_a_validation() {
    let state = state(|_| {});
    state.tables().faults.events = Some(EventsFault::ErrorAfterInsert);
    assert_eq!(post(&state, SUBSCRIBE, &wish(END).to_string()).await.0, 500);
    assert_eq!(rows_and_jobs(&state), (1, 0));
}

#[tokio::test]
async fn the_policy_table_decides_before_the_list_of_resources() {
    let state = state(|options| {
        options.decisions = vec![Decision {
            consumer: Some("/organisation/314249879".to_owned()),
            resource: RESOURCE.to_owned(),
            subject: None,
            permit: false,
        }];
    });
    assert_eq!(post(&state, SUBSCRIBE, &wish(END).to_string()).await.0, 403);
}

#[test]
fn urns_are_held_to_the_pattern() {
    let long = format!("urn:a:{}", "x".repeat(100));
    let deep = format!("urn:a{}", ":x".repeat(10));
    for good in ["urn:altinn:resource:a-b_c.d", "urn:a:(/)", &long, &deep] {
        assert!(super::is_urn(good), "{good}");
    }
    for bad in [
        "",
        "urn:",
        "urn:a",
        "urn:a:",
        "URN:a:b",
        "urn:A:b",
        "urn:a:b c",
        "urn:a_b:c",
        &(long.clone() + "x"),
        &(deep.clone() + ":x"),
    ] {
        assert!(!super::is_urn(bad), "{bad}");
    }
}
