mod converging;
mod fates;

use std::sync::LazyLock;

use proptest::prelude::*;

use super::{
    super::hook_url::{code_of, hook_of, normal},
    *,
};
use crate::altinn::subscriptions::history::HookCode;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000); // 2027-01-15T08:00:00Z
const PATIENCE: Duration = Duration::from_secs(600);
const OVERLAP: Duration = Duration::from_secs(65 * 60);
const CODE: &str = "0123456789abcdef";

fn base() -> Url {
    "https://hooks.example.no".parse().unwrap()
}

fn wanted(name: &str, code: &str) -> Desired {
    let spec = Spec {
        endpoint: format!("https://hooks.example.no/hooks/{name}?code={code}").parse().unwrap(),
        resource: "urn:altinn:resource:nabovarsel".to_owned(),
        subject: Some("urn:altinn:organization:identifier-no:999888777".to_owned()),
        ty: None,
        include_subunits: false,
    };
    Desired { name: name.parse().unwrap(), spec }
}

/// What Altinn has after `desired` was posted.
fn row(id: i64, desired: &Desired, validated: bool) -> Observed {
    let Spec { endpoint, resource, subject, ty, include_subunits } = desired.spec.clone();
    Observed {
        id: SubscriptionId(id),
        endpoint: Some(endpoint.into()),
        source: None,
        resource: Some(resource.to_lowercase()),
        subject,
        ty,
        consumer: Some("/systemuser/x".to_owned()),
        created: Some("2027-01-15T07:00:00.1234567Z".to_owned()),
        validated,
        include_subunits,
    }
}

fn at(id: i64, endpoint: &str) -> Observed {
    Observed { endpoint: Some(endpoint.to_owned()), ..row(id, &wanted("a", CODE), true) }
}

fn run(desired: &[Desired], observed: &[Observed]) -> Plan {
    let posted = BTreeMap::new();
    plan(desired, observed, &context(&base(), &posted))
}

static NOTHING: LazyLock<History> = LazyLock::new(History::default);

fn context<'a>(public_url: &'a Url, posted: &'a BTreeMap<HookName, Posted>) -> Context<'a> {
    Context {
        public_url,
        now: NOW,
        patience: PATIENCE,
        posted,
        created_counts: true,
        history: &NOTHING,
        overlap: OVERLAP,
        adopt: false,
    }
}

#[test]
fn what_altinn_writes_differently_is_the_same_url() {
    let tilde = "~-._0123456789abc";
    for endpoint in [
        format!("https://hooks.example.no/hooks/a?code={tilde}"),
        format!("https://HOOKS.example.NO:443/hooks/a?code={tilde}"),
        format!("https://hooks.example.no/./hooks/x/../a?code={tilde}"),
        "https://hooks.example.no/h%6Foks/%61?code=%7E-%2E_0123456789abc".to_owned(),
        "https://hooks.example.no/h%6foks/a?c%6fde=%7e-._0123456789abc".to_owned(),
    ] {
        let plan = run(&[wanted("a", tilde)], &[at(1, &endpoint)]);
        assert_eq!(plan.changes[0].action, Action::LeaveAlone(SubscriptionId(1)), "{endpoint}");
        assert_eq!((plan.stale, plan.foreign), (vec![], vec![]));
    }
}

#[test]
fn urls_that_mean_something_else_are_not_the_same() {
    for (one, two) in [
        ("https://h/a?x=1", "https://h/a?x=2"),
        ("https://h/a%2Fb", "https://h/a/b"),
        ("https://h/a?x=%26", "https://h/a?x=&"),
        ("https://h/a%25", "https://h/a%2525"),
        ("https://h/A", "https://h/a"),
        ("https://h/a", "https://h/a/"),
        ("https://h/a", "https://h/a?"),
    ] {
        assert_ne!(normal(one), normal(two));
    }
    for (one, two) in [
        ("https://h/%c3%a5", "https://h/å"),
        ("https://h/?a=|", "https://h/?a=%7c"),
        ("https://h/100%", "https://h/100%25"),
        ("https://h/%zz", "https://h/%25zz"),
    ] {
        assert_eq!(normal(one), normal(two));
        assert_eq!(normal(&normal(one)), normal(one));
    }
}

#[test]
fn only_what_is_under_our_hooks_is_ours() {
    let plain = "https://hooks.example.no";
    for (public_url, endpoint, name) in [
        (plain, "https://hooks.example.no/hooks/a?code=x", Some("a")),
        (plain, "https://hooks.example.no/hooks/a/b", Some("a/b")),
        ("https://hooks.example.no/", "https://hooks.example.no:443/hooks/a", Some("a")),
        ("https://hooks.example.no:8443", "https://hooks.example.no:8443/hooks/a", Some("a")),
        ("https://hooks.example.no/p", "https://hooks.example.no/p/hooks/a", Some("a")),
        ("https://hooks.example.no/p/", "https://hooks.example.no/p/hooks/a", Some("a")),
        ("https://hooks.example.no/%70", "https://hooks.example.no/p/hooks/a", Some("a")),
        ("https://hooks.example.no/p", "https://hooks.example.no/hooks/a", None),
        ("https://hooks.example.no/p", "https://hooks.example.no/pq/hooks/a", None),
        (plain, "https://hooks.example.no/p/hooks/a", None),
        (plain, "https://hooks.example.no.evil.com/hooks/a", None),
        (plain, "https://hooks.example.no@evil.com/hooks/a", None),
        (plain, "https://evil@hooks.example.no/hooks/a", None),
        (plain, "https://evil.hooks.example.no/hooks/a", None),
        (plain, "https://hooks.example.no/hooksX/a", None),
        (plain, "https://hooks.example.no/hooks", None),
        (plain, "https://hooks.example.no/hooks/", None),
        (plain, "https://hooks.example.no/hooks%2Fa", None),
        (plain, "https://hooks.example.no/hooks/../a", None),
        (plain, "https://hooks.example.no/Hooks/a", None),
        (plain, "https://hooks.example.no:8443/hooks/a", None),
        (plain, "http://hooks.example.no/hooks/a", None),
        (plain, "https://evil.com/?https://hooks.example.no/hooks/a", None),
        (plain, "urn:hooks.example.no/hooks/a", None),
    ] {
        let ours = hook_of(&endpoint.parse().unwrap(), &public_url.parse().unwrap());
        assert_eq!(ours.as_deref(), name, "{public_url} {endpoint}");
    }
}

#[test]
fn foreign_and_unreadable_rows_are_counted_and_no_more() {
    let rows = [
        at(1, "https://other.example/hooks/a?code=x"),
        at(2, "not a url"),
        Observed { endpoint: None, ..at(3, "") },
    ];
    let plan = run(&[], &rows);
    assert_eq!(plan.foreign, [1, 2, 3].map(SubscriptionId));
    assert_eq!((plan.changes, plan.stale), (vec![], vec![]));
}

#[test]
fn each_difference_has_its_action_and_its_reason() {
    use StaleReason as Why;
    type Change = fn(&mut Observed);
    let none: Change = |_| {};
    let other = Action::Create(Missing::OtherFilters);
    let cases: [(&str, Change, Action, Option<Why>); 10] = [
        ("as wanted", none, Action::LeaveAlone(SubscriptionId(1)), None),
        (
            "upper case",
            |row| row.resource = row.resource.as_ref().map(|text| text.to_uppercase()),
            Action::LeaveAlone(SubscriptionId(1)),
            None,
        ),
        (
            "resource",
            |row| row.resource = Some("urn:other".to_owned()),
            other,
            Some(Why::OtherFilters),
        ),
        ("no resource", |row| row.resource = None, other, Some(Why::OtherFilters)),
        ("subject", |row| row.subject = None, other, Some(Why::OtherFilters)),
        ("type", |row| row.ty = Some(String::new()), other, Some(Why::OtherFilters)),
        (
            "source",
            |row| row.source = Some("https://s/".to_owned()),
            other,
            Some(Why::OtherFilters),
        ),
        ("subunits", |row| row.include_subunits = true, other, Some(Why::OtherFilters)),
        (
            "code",
            |row| row.endpoint = Some("https://hooks.example.no/hooks/a?code=old".to_owned()),
            Action::Create(Missing::OtherCode),
            Some(Why::OtherCode),
        ),
        (
            "name",
            |row| row.endpoint = Some("https://hooks.example.no/hooks/b?code=old".to_owned()),
            Action::Create(Missing::Absent),
            Some(Why::NotConfigured),
        ),
    ];
    for (name, change, action, stale) in cases {
        let mut observed = row(1, &wanted("a", CODE), true);
        change(&mut observed);
        let plan = run(&[wanted("a", CODE)], &[observed]);
        assert_eq!(plan.changes[0].action, action, "{name}");
        assert_eq!(plan.stale.first().map(|stale| stale.reason), stale, "{name}");
        assert!(plan.stale.iter().all(|stale| !stale.endpoint.contains("old")), "{name}");
    }
}

#[test]
fn an_empty_filter_is_no_filter() {
    let mut empty = wanted("a", CODE);
    (empty.spec.subject, empty.spec.ty) = (Some(String::new()), Some(String::new()));
    let bare = Observed { subject: None, ..row(1, &wanted("a", CODE), true) };
    assert_eq!(run(&[empty], &[bare]).changes[0].action, Action::LeaveAlone(SubscriptionId(1)));
}

#[test]
fn one_of_several_equal_rows_is_enough() {
    let wanted = wanted("a", CODE);
    let rows = [row(3, &wanted, false), row(1, &wanted, false), row(2, &wanted, true)];
    let plan = run(std::slice::from_ref(&wanted), &rows);
    assert_eq!(plan.changes[0].action, Action::LeaveAlone(SubscriptionId(2)));
    let told = |plan: &Plan| -> Vec<_> {
        plan.stale.iter().map(|stale| (stale.id.0, stale.reason, stale.fate)).collect()
    };
    let (duplicate, wait) = (StaleReason::Duplicate, Fate::Keep { until: None });
    assert_eq!(told(&plan), [(3, duplicate, Fate::Remove), (1, duplicate, Fate::Remove)]);
    let plan =
        run(std::slice::from_ref(&wanted), &[row(2, &wanted, false), row(1, &wanted, false)]);
    assert_eq!(plan.changes[0].action.id(), Some(SubscriptionId(1)));
    assert_eq!(told(&plan), [(2, duplicate, wait)]);
}

#[test]
fn a_validation_is_asked_for_again_when_it_has_not_come_in_time() {
    let wanted = wanted("a", CODE);
    let (wait, again) = (Action::Wait(SubscriptionId(1)), Action::Revalidate(SubscriptionId(1)));
    for (created, posted, created_counts, action) in [
        (Some("2027-01-15T07:50:01Z"), None, true, wait),
        (Some("2027-01-15T07:50:00Z"), None, true, again),
        (Some("2027-01-15T07:59:59Z"), None, false, again),
        (Some("2027-01-15T08:00:05Z"), None, true, wait),
        (Some("yesterday"), None, true, again),
        (None, None, true, again),
        (Some("2020-01-01T00:00:00Z"), Some(599), false, wait),
        (Some("2027-01-15T07:59:59Z"), Some(600), true, again),
    ] {
        let observed = Observed { created: created.map(str::to_owned), ..row(1, &wanted, false) };
        let at = |ago| NOW.before(Duration::from_secs(ago));
        // Altinn answered with the number of an equal row: that does not matter.
        let id = SubscriptionId(9);
        let post =
            |ago| (wanted.name.clone(), Posted { id, spec: wanted.spec.clone(), at: at(ago) });
        let posted: BTreeMap<_, _> = posted.map(post).into_iter().collect();
        let base = base();
        let context = Context { created_counts, ..context(&base, &posted) };
        let plan = plan(std::slice::from_ref(&wanted), &[observed], &context);
        assert_eq!(plan.changes[0].action, action, "{created:?} {posted:?}");
    }
}

#[test]
fn a_row_that_altinn_gave_us_is_recognised_however_it_is_written() {
    let wanted = wanted("a", CODE);
    let odd = at(5, "https://hooks.example.no/hooks/a?code=written-in-another-way");
    let post = |spec: Spec| (wanted.name.clone(), Posted { id: odd.id, spec, at: NOW });
    let base = base();
    let posted = BTreeMap::from([post(wanted.spec.clone())]);
    let one =
        plan(std::slice::from_ref(&wanted), std::slice::from_ref(&odd), &context(&base, &posted));
    assert_eq!((one.changes[0].action, one.stale), (Action::LeaveAlone(odd.id), vec![]));
    let before = Spec { ty: Some("t".to_owned()), ..wanted.spec.clone() };
    let posted = BTreeMap::from([post(before)]);
    let two =
        plan(std::slice::from_ref(&wanted), std::slice::from_ref(&odd), &context(&base, &posted));
    assert_eq!(two.changes[0].action, Action::Create(Missing::OtherCode));
}

#[test]
fn a_url_is_shown_without_its_secrets() {
    for (url, shown) in [
        ("https://h/hooks/a?code=abc", "https://h/hooks/a?code=***"),
        ("https://h/a?x=1&abc&y=", "https://h/a?x=***&***&y=***"),
        ("https://u:p@h/a#frag", "https://***@h/a#***"),
        ("https://h/a", "https://h/a"),
    ] {
        assert_eq!(redacted(&url.parse().unwrap()), shown);
    }
}

fn any_desired() -> impl Strategy<Value = Vec<Desired>> {
    let one = (prop::sample::select(vec!["a", "b", "c"]), 0..3u8, any::<bool>(), 0..2u8);
    prop::collection::vec(one, 0..4).prop_map(|all| {
        let mut named = BTreeMap::new();
        for (name, code, subunits, ty) in all {
            let mut desired = wanted(name, &format!("{CODE}{code}"));
            desired.spec.include_subunits = subunits;
            desired.spec.ty = (ty > 0).then(|| format!("t{ty}"));
            named.insert(name, desired);
        }
        named.into_values().collect()
    })
}

fn any_rows() -> impl Strategy<Value = Vec<Observed>> {
    let places = [
        "https://hooks.example.no/hooks/",
        "https://HOOKS.example.no:443/hooks/",
        "https://hooks.example.no/%68ooks/",
        "https://hooks.example.no.evil.com/hooks/",
        "https://hooks.example.no/hooksX/",
        "https://other.example/hooks/",
    ];
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let one = (prop::sample::select(places.to_vec()), name, 0..3u8, any::<[bool; 3]>());
    let made = |(place, name, code, [validated, subunits, typed]): (&str, &str, u8, [bool; 3])| {
        let endpoint = format!("{place}{name}?code={CODE}{code}");
        let ty = typed.then(|| "t1".to_owned());
        Observed { validated, include_subunits: subunits, ty, ..at(0, &endpoint) }
    };
    prop::collection::vec(one.prop_map(made), 0..12).prop_map(|mut rows| {
        for (id, row) in (1..).zip(&mut rows) {
            row.id = SubscriptionId(id);
        }
        rows
    })
}

fn is_ours(row: &Observed) -> bool {
    let endpoint = row.endpoint.as_deref().unwrap().to_lowercase();
    let endpoint = endpoint.replace(":443", "").replace("%68", "h");
    endpoint.starts_with("https://hooks.example.no/hooks/")
}

proptest! {
    #[test]
    fn what_is_not_ours_is_never_named(desired in any_desired(), rows in any_rows()) {
        let plan = run(&desired, &rows);
        let ids = |ours: bool| rows.iter().filter(move |row| is_ours(row) == ours).map(|row| row.id);
        prop_assert_eq!(ids(false).collect::<Vec<_>>(), plan.foreign.clone());
        let mut named: Vec<_> = plan.changes.iter().filter_map(|change| change.action.id()).collect();
        named.extend(plan.stale.iter().map(|stale| stale.id));
        named.sort();
        prop_assert_eq!(ids(true).collect::<Vec<_>>(), named, "each of ours exactly once");
    }
}

/// Every hook with the code of its endpoint only.
fn held(desired: &[Desired]) -> Vec<HookCode> {
    let one = |wanted: &Desired| {
        let code = code_of(&wanted.spec.endpoint)?;
        Some(HookCode { name: wanted.name.clone(), code, current: true })
    };
    desired.iter().filter_map(one).collect()
}

/// What history has after this was observed at `now`.
fn observed(history: &mut History, desired: &[Desired], rows: &[Observed], now: Timestamp) {
    history.observe(&held(desired), &split(rows, &base()).0, now);
}
