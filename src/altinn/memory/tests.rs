use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn held(code: &str) -> Held {
    Held { name: "a".parse().unwrap(), code: Digest::of(code), current: true }
}

#[test]
fn what_is_written_is_read_again_private_and_without_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = MemoryFile::new(folder.path());
    assert_eq!(file.read(), Memory::default());
    file.update(|memory| {
        memory.observe(&[held("code-1")], &[], NOW);
        memory.observe(&[held("code-2")], &[], NOW);
        memory.asks(&"a".parse().unwrap(), &Digest::of("code-2"));
        memory.validated.insert(SubscriptionId(12), NOW);
    })
    .unwrap();
    let memory = file.read();
    assert!(!memory.asked("a", &Digest::of("code-1")) && memory.asked("a", &Digest::of("code-2")));
    assert_eq!(memory.validated(SubscriptionId(12)), Some(NOW));
    assert_eq!(memory.hooks()[&"a".parse().unwrap()].len(), 2);
    let path = folder.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("code-1") && text.contains("\"gone\": \"2027-01-15T08:00:00Z\""),
        "{text}"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_cannot_be_read_is_as_good_as_none_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = MemoryFile::new(folder.path());
    for text in ["", "{", "[]", r#"{"version":2,"hooks":[],"validated":{}}"#, "\u{0}"] {
        fs::write(folder.path().join(FILE), text).unwrap();
        assert_eq!(file.read(), Memory::default(), "{text}");
        file.update(|memory| memory.observe(&[held("code-1")], &[], NOW)).unwrap();
        assert!(file.read().remembers(&"a".parse().unwrap(), &Digest::of("code-1")), "{text}");
    }
}

#[test]
fn a_code_is_forgotten_48_hours_after_nothing_holds_it_and_not_when_it_comes_back() {
    let hours = |hours: u64| NOW.after(Duration::from_secs(3600 * hours));
    let name = "a".parse().unwrap();
    let mut memory = Memory::default();
    memory.observe(&[held("code-1")], &[], NOW);
    memory.observe(&[], &[], hours(1));
    memory.observe(&[held("code-1")], &[], hours(48));
    memory.observe(&[], &[], hours(49));
    memory.observe(&[], &[], hours(96));
    assert!(memory.remembers(&name, &Digest::of("code-1")));
    memory.observe(&[], &[], hours(97));
    assert!(!memory.remembers(&name, &Digest::of("code-1")));
}

#[test]
fn a_clock_that_was_wrong_and_is_set_right_keeps_nothing_for_ever() {
    let name = "a".parse().unwrap();
    let mut memory = Memory::default();
    memory.observe(&[held("code-1")], &[], NOW);
    memory.observe(&[], &[], NOW.after(Duration::from_secs(1 << 32)));
    memory.observe(&[], &[], NOW);
    memory.observe(&[], &[], NOW.after(STILL_ACCEPTED));
    assert!(!memory.remembers(&name, &Digest::of("code-1")));
}
