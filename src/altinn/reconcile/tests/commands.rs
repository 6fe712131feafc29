use super::*;

#[tokio::test]
async fn the_command_line_lists_plans_and_applies() {
    let case = Case::new(vec![]).await;
    let desired = [wanted("a", "code-1"), wanted("b", "code-2")];
    case.altinn.rows.lock().unwrap().push(json!({
        "id": 1, "endPoint": "https://other.example/x?key=code-3", "resourceFilter": "urn:x",
    }));
    case.altinn.refuse(Some("resource:b"));
    let (events, url) = (&case.rig.events, public_url());
    let planned = once::plan(events, &desired, &url).await.unwrap();
    assert_eq!((planned.subscriptions[0].action, case.creates()), ("create", 0));
    let applied = once::apply(events, &desired, &url).await.unwrap();
    assert!(!applied.is_good());
    assert_eq!(applied.subscriptions[0].planned.id.unwrap().0, 2);
    assert!(applied.subscriptions[1].error.is_some());
    case.altinn.validate_all();
    let listed = serde_json::to_value(once::list(events, &url).await.unwrap()).unwrap();
    let expected = json!({
        "id": "2", "name": "a", "ours": true, "validated": true,
        "endpoint": "https://hooks.example.no/hooks/a?code=***",
        "resource": "urn:altinn:resource:a", "subject": null, "type": null, "source": null,
        "include_subunits": false, "created": null, "consumer": null,
    });
    assert_eq!(listed[1], expected);
    assert_eq!((&listed[0]["ours"], &listed[0]["name"]), (&json!(false), &Value::Null));
    let shown = format!("{listed}{}", serde_json::to_string(&(planned, applied)).unwrap());
    assert!(["code-1", "code-2", "code-3"].iter().all(|code| !shown.contains(code)), "{shown}");
    case.altinn.refuse(None);
    let applied = once::apply(events, &desired, &url).await.unwrap();
    let actions: Vec<_> = applied.subscriptions.iter().map(|one| one.planned.action).collect();
    assert_eq!((actions, applied.is_good()), (vec!["none", "create"], true));
}
