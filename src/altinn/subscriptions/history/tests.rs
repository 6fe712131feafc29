use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn held(code: &str) -> HookCode {
    HookCode { name: "a".parse().unwrap(), code: Digest::of(code), current: true }
}

#[test]
fn a_code_is_forgotten_48_hours_after_nothing_holds_it_and_not_when_it_comes_back() {
    let hours = |hours: u64| NOW.after(Duration::from_secs(3600 * hours));
    let name = "a".parse().unwrap();
    let mut history = History::default();
    history.observe(&[held("code-1")], &[], NOW);
    history.observe(&[], &[], hours(1));
    history.observe(&[held("code-1")], &[], hours(48));
    history.observe(&[], &[], hours(49));
    history.observe(&[], &[], hours(96));
    assert!(history.remembers(&name, &Digest::of("code-1")));
    history.observe(&[], &[], hours(97));
    assert!(!history.remembers(&name, &Digest::of("code-1")));
}

#[test]
fn a_clock_that_was_wrong_and_is_set_right_keeps_nothing_for_ever() {
    let name = "a".parse().unwrap();
    let mut history = History::default();
    history.observe(&[held("code-1")], &[], NOW);
    history.observe(&[], &[], NOW.after(Duration::from_secs(1 << 32)));
    history.observe(&[], &[], NOW);
    history.observe(&[], &[], NOW.after(STILL_ACCEPTED));
    assert!(!history.remembers(&name, &Digest::of("code-1")));
}
