use super::*;

#[tokio::test]
async fn the_command_line_lists_plans_and_applies() {
    let case = Case::new(vec![wanted("a", "code-1"), wanted("b", "code-2")]).await;
    case.altinn.rows.lock().unwrap().push(json!({
        "id": 1, "endPoint": "https://other.example/x?key=code-3", "resourceFilter": "urn:x",
    }));
    case.altinn.refuse(Some("resource:b"));
    let (events, local) = (&case.rig.events, case.local());
    let planned = commands::plan(events, &local).await.unwrap();
    assert_eq!((planned.subscriptions[0].action, case.creates()), ("create", 0));
    let applied = commands::apply(events, &local).await.unwrap();
    assert!(!applied.is_good());
    assert_eq!(applied.subscriptions[0].planned.id.unwrap().0, 2);
    assert!(applied.subscriptions[1].error.is_some());
    case.altinn.validate_all();
    let listed =
        serde_json::to_value(commands::list(events, &local.public_url).await.unwrap()).unwrap();
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
    let applied = commands::apply(events, &local).await.unwrap();
    let actions: Vec<_> = applied.subscriptions.iter().map(|one| one.planned.action).collect();
    assert_eq!((actions, applied.is_good()), (vec!["none", "create"], true));
}

#[tokio::test]
async fn apply_also_removes_what_another_store_left_under_our_hooks() {
    let case = Case::new(vec![]).await;
    for (id, endpoint) in [
        (1, "https://hooks.example.no/hooks/gone?code=code-of-another-store"),
        (2, "https://hooks.example.no.other/hooks/gone?code=x"),
    ] {
        let row = json!({ "id": id, "endPoint": endpoint, "resourceFilter": "urn:x" });
        case.altinn.rows.lock().unwrap().push(row);
    }
    let (events, local) = (&case.rig.events, case.local());
    let planned = serde_json::to_value(commands::plan(events, &local).await.unwrap()).unwrap();
    let expected = json!({
        "id": "1", "name": "gone", "reason": "not_configured", "action": "remove",
        "endpoint": "https://hooks.example.no/hooks/gone?code=***",
    });
    assert_eq!((&planned["stale"][0], &planned["foreign"]), (&expected, &json!(["2"])));
    assert_eq!(case.altinn.ids(), [1, 2], "a plan changes nothing");
    let applied = commands::apply(events, &local).await.unwrap();
    assert!(applied.is_good() && applied.stale[0].removed);
    assert_eq!(case.altinn.ids(), [2]);
}
