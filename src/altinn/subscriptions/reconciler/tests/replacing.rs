use super::*;
use crate::altinn::subscriptions::{
    history::STILL_ACCEPTED,
    public_url_probe::{Challenge, PublicUrlProbe},
};

fn remembered(case: &Case) -> usize {
    HistoryFile::new(case.rig.folder.path()).read_blocking().hooks().values().map(Vec::len).sum()
}

#[tokio::test]
async fn an_old_code_goes_after_the_overlap_also_over_a_restart_and_is_then_forgotten() {
    let case = Case::new(vec![wanted("a", "code-old")]).await;
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.pass().await.unwrap();
    case.altinn.validate_all();
    reconciler.upkeep.pass().await.unwrap();
    case.want(vec![wanted("a", "code-new")]);
    reconciler.upkeep.pass().await.unwrap();
    // As long as the new one is not validated the old one stays.
    case.clock.advance(OVERLAP);
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!((case.altinn.ids(), reconciler.upkeep.attempts.over), (vec![1, 2], None));
    case.altinn.validate_all();
    reconciler.upkeep.pass().await.unwrap();
    let over = reconciler.upkeep.attempts.over.unwrap() - Instant::now();
    assert!(over + DEADLINE > OVERLAP && over <= OVERLAP, "{over:?}");
    case.clock.advance(Duration::from_secs(OVERLAP.as_secs() - 1));
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!(case.altinn.ids(), [1, 2]);
    case.clock.advance(Duration::from_secs(1));
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!((case.altinn.ids(), remembered(&case)), (vec![2], 2));
    assert!(reconciler.upkeep.status.borrow().stale.is_empty());
    // This look is the first that does not see it.
    reconciler.upkeep.pass().await.unwrap();
    case.clock.advance(Duration::from_secs(STILL_ACCEPTED.as_secs() - 1));
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!(remembered(&case), 2);
    case.clock.advance(Duration::from_secs(1));
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!((case.altinn.ids(), remembered(&case)), (vec![2], 1));
}

#[tokio::test]
async fn a_name_that_left_the_configuration_is_removed_only_if_this_store_asked_for_it() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let mut foreign = json!({ "id": 7, "resourceFilter": "urn:x", "validated": true });
    foreign["endPoint"] = json!("https://hooks.example.no/hooks/b?code=code-of-another-store");
    case.altinn.rows.lock().unwrap().push(foreign);
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.pass().await.unwrap();
    case.want(vec![]);
    // The answer to the post was never read: that it was asked for is known all the same.
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!(case.altinn.ids(), [7]);
    let stale = reconciler.upkeep.status.borrow().stale.clone();
    assert_eq!((stale.len(), stale[0].name.as_str()), (1, "b"));
}

#[tokio::test]
async fn a_removal_that_is_refused_backs_off_and_does_not_stop_the_rest() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.pass().await.unwrap();
    case.altinn.anothers.store(true, Ordering::SeqCst);
    case.want(vec![wanted("b", "code-2")]);
    case.altinn.validate_all();
    for _ in 0..2 {
        reconciler.upkeep.pass().await.unwrap();
        case.altinn.validate_all();
    }
    case.clock.advance(OVERLAP);
    for _ in 0..3 {
        reconciler.upkeep.pass().await.unwrap();
    }
    let deletes =
        || case.rig.server.calls().iter().filter(|call| call.starts_with("DELETE")).count();
    // Its resource is another, so nothing comes in its place.
    assert_eq!((deletes(), case.altinn.ids()), (1, vec![1, 2]));
    case.altinn.anothers.store(false, Ordering::SeqCst);
    reconciler.upkeep.attempts.removals.clear();
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!((deletes(), case.altinn.ids()), (2, vec![2]));
}

#[tokio::test]
async fn duplicates_from_a_race_are_reduced_to_the_validated_one() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.pass().await.unwrap();
    for (id, validated) in [(2, true), (3, true), (4, false)] {
        let mut twin = case.altinn.rows.lock().unwrap()[0].clone();
        (twin["id"], twin["validated"]) = (json!(id), json!(validated));
        case.altinn.rows.lock().unwrap().push(twin);
    }
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!(case.altinn.ids(), [2]);
    assert_eq!(reconciler.upkeep.pass().await.unwrap(), Outlook::Settled);
    assert_eq!(case.creates(), 1);
}

#[tokio::test]
async fn nothing_is_posted_before_our_endpoint_is_proven() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    // The server of the test answers, but it is not us.
    let challenge = Arc::<Challenge>::default();
    let probe = PublicUrlProbe::new(case.rig.server.url.clone(), None, challenge).unwrap();
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.local.probe = Some(probe);
    let error = reconciler.upkeep.pass().await.unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
    assert_eq!(case.creates(), 0);
    let told = reconciler.upkeep.status.borrow().error.clone().unwrap();
    assert!(told.text.contains("server.public_url"), "{told}");
    reconciler.upkeep.local.probe = None;
    reconciler.upkeep.pass().await.unwrap();
    assert_eq!(case.creates(), 1);
}

#[tokio::test]
async fn nothing_is_posted_that_cannot_be_remembered() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let nowhere = HistoryFile::new(&case.rig.folder.path().join("nowhere"));
    let mut reconciler = case.reconciler(slow());
    reconciler.upkeep.local.history = nowhere;
    let error = reconciler.upkeep.pass().await.unwrap_err();
    assert!(error.to_string().contains("altinn-state.json"), "{error}");
    assert_eq!(case.creates(), 0);
}
