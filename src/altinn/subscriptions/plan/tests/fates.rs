//! When one that is not wanted may go.

use super::*;

#[test]
fn a_replaced_one_goes_when_its_replacement_has_been_validated_for_the_overlap() {
    let (old, new) = (wanted("a", "old-code-old-code"), wanted("a", CODE));
    let other_filters = {
        let mut other = new.clone();
        other.spec.ty = Some("t".to_owned());
        other
    };
    let keep = |until| Fate::Keep { until };
    let end = NOW.after(OVERLAP);
    for old in [old, other_filters] {
        for (validated, later, fate) in [
            (false, 0, keep(None)),
            (false, 9_999_999, keep(None)),
            (true, 0, keep(Some(end))),
            (true, 65 * 60 - 1, keep(Some(end))),
            (true, 65 * 60, Fate::Remove),
        ] {
            let rows = [row(1, &old, true), row(2, &new, validated)];
            let wanted = std::slice::from_ref(&new);
            let mut history = History::default();
            observed(&mut history, wanted, &rows, NOW);
            let now = NOW.after(Duration::from_secs(later));
            observed(&mut history, wanted, &rows, now);
            let (base, posted) = (base(), BTreeMap::new());
            let context = Context { now, history: &history, ..context(&base, &posted) };
            let plan = plan(wanted, &rows, &context);
            let stale: Vec<_> = plan.stale.iter().map(|stale| (stale.id.0, stale.fate)).collect();
            assert_eq!(stale, [(1, fate)], "{validated} {later}");
        }
        // Nothing has come in its place yet.
        let plan = run(std::slice::from_ref(&new), &[row(1, &old, true)]);
        assert_eq!(plan.stale[0].fate, keep(None));
        assert_eq!(plan.changes[0].action.word(), "replace");
    }
}

#[test]
fn one_that_is_not_configured_goes_only_if_this_store_asked_for_it_or_a_person_says_so() {
    let gone = wanted("gone", CODE);
    let mut other = wanted("a", CODE);
    other.spec.resource = "urn:altinn:resource:other".to_owned();
    let renamed = wanted("b", CODE);
    for (asked, adopt, desired, validated, fate) in [
        (false, false, vec![], false, Fate::Report),
        (true, false, vec![], false, Fate::Remove),
        (false, true, vec![], false, Fate::Remove),
        (true, false, vec![other], false, Fate::Remove),
        (true, false, vec![renamed.clone()], false, Fate::Keep { until: None }),
        (true, false, vec![renamed.clone()], true, Fate::Keep { until: Some(NOW.after(OVERLAP)) }),
        (false, true, vec![renamed], false, Fate::Keep { until: None }),
    ] {
        let mut rows = vec![row(1, &gone, true)];
        rows.extend((2..).zip(&desired).map(|(id, wanted)| row(id, wanted, validated)));
        let mut history = History::default();
        observed(&mut history, std::slice::from_ref(&gone), &rows, NOW);
        if asked {
            history.asks(&gone.name, &code_of(&gone.spec.endpoint).unwrap());
        }
        observed(&mut history, &desired, &rows, NOW);
        let (base, posted) = (base(), BTreeMap::new());
        let context = Context { history: &history, adopt, ..context(&base, &posted) };
        let plan = plan(&desired, &rows, &context);
        assert_eq!(plan.stale[0].reason, StaleReason::NotConfigured);
        assert_eq!(plan.stale[0].fate, fate, "asked {asked}, adopt {adopt}, {desired:?}");
    }
}
