use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn name() -> HookName {
    "innboks".parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_secret_is_made_once_kept_private_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = HookSecrets::open(None, folder.path(), &name()).unwrap().current();
    assert_eq!(first.expose_secret().len(), 43);
    let again = HookSecrets::open(None, folder.path(), &name()).unwrap();
    assert!(again.accepts(first.expose_secret()));
    assert_eq!(mode(&folder.path().join("secrets")), 0o700);
    assert_eq!(mode(&folder.path().join("secrets/innboks")), 0o600);
    let other = HookSecrets::open(None, folder.path(), &"annen".parse().unwrap()).unwrap();
    assert!(!other.accepts(first.expose_secret()));
    let left = fs::read_dir(folder.path().join("secrets")).unwrap().count();
    assert_eq!(left, 2, "no temporary file is left");
}

#[test]
fn to_look_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let seen = HookSecrets::look(None, folder.path(), &name()).unwrap();
    assert_eq!(seen.current().expose_secret().len(), 43);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let made = HookSecrets::open(None, folder.path(), &name()).unwrap().current();
    let seen = HookSecrets::look(None, folder.path(), &name()).unwrap();
    assert!(seen.accepts(made.expose_secret()));
    seen.prune(|_| false).unwrap();
    // A directory that is not there is not made by the way.
    let nowhere = folder.path().join("nowhere");
    assert!(HookSecrets::open(None, &nowhere, &name()).is_err() && !nowhere.exists());
}

#[test]
fn of_two_that_make_it_at_once_both_have_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let open = || HookSecrets::open(None, folder.path(), &name()).unwrap().current();
    let made: Vec<SecretString> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|secret| secret.expose_secret() == made[0].expose_secret()));
}

#[test]
fn the_first_line_is_current_and_every_line_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s"), "new-secret-000001\nold-secret-000001\n").unwrap();
    let file = SecretFile::resolve("s", folder.path()).unwrap();
    let secrets = HookSecrets::open(Some(&file), folder.path(), &name()).unwrap();
    assert_eq!(secrets.current().expose_secret(), "new-secret-000001");
    assert!(secrets.accepts("old-secret-000001"));
    for wrong in ["", "old-secret-00000", "old-secret-0000011", "new-secret-000001\n"] {
        assert!(!secrets.accepts(wrong), "{wrong}");
    }
    assert!(!folder.path().join("secrets").exists());
}

#[test]
fn reloading_takes_in_a_good_file_and_keeps_the_old_secrets_on_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    fs::write(&path, "first-secret-0001").unwrap();
    let file = SecretFile::resolve("s", folder.path()).unwrap();
    let secrets = HookSecrets::open(Some(&file), folder.path(), &name()).unwrap();
    fs::write(&path, "second-secret-001").unwrap();
    secrets.reload().unwrap();
    assert!(secrets.accepts("second-secret-001") && !secrets.accepts("first-secret-0001"));
    for bad in ["", "short", "not unreserved!!!"] {
        fs::write(&path, bad).unwrap();
        secrets.reload().unwrap_err();
        assert!(secrets.accepts("second-secret-001"));
    }
    fs::remove_file(&path).unwrap();
    secrets.reload().unwrap_err();
    assert!(secrets.accepts("second-secret-001"));
    HookSecrets::open(Some(&file), folder.path(), &name()).unwrap_err();
}

#[test]
fn rotating_puts_a_new_secret_first_and_accepts_those_before_until_they_are_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = HookSecrets::open(None, folder.path(), &name()).unwrap();
    let mut history = vec![secrets.current()];
    for _ in 1..KEPT {
        HookSecrets::rotate(folder.path(), &name()).unwrap();
        secrets.reload().unwrap();
        history.insert(0, secrets.current());
    }
    assert!(HookSecrets::rotate(folder.path(), &name()).is_err(), "there is a bound");
    assert!(history.iter().all(|secret| secrets.accepts(secret.expose_secret())));
    let kept = secrets.digests()[2].clone();
    secrets.prune(|digest| *digest == kept).unwrap();
    for secrets in [&secrets, &HookSecrets::open(None, folder.path(), &name()).unwrap()] {
        let accepted = history.iter().map(|secret| secrets.accepts(secret.expose_secret()));
        let accepted: Vec<bool> = accepted.take(4).collect();
        assert_eq!(accepted, [true, false, true, false], "the current one always stays");
    }
    assert_eq!(mode(&folder.path().join("secrets/innboks")), 0o600);
}

#[test]
fn the_operators_file_is_never_changed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "new-secret-000001\nold-secret-000001\n";
    fs::write(folder.path().join("s"), text).unwrap();
    let file = SecretFile::resolve("s", folder.path()).unwrap();
    let secrets = HookSecrets::open(Some(&file), folder.path(), &name()).unwrap();
    secrets.prune(|_| false).unwrap();
    assert!(secrets.accepts("old-secret-000001"));
    assert_eq!(fs::read_to_string(folder.path().join("s")).unwrap(), text);
}

#[test]
fn old_codes_are_known_by_their_digests() {
    let old = OldCodes::default();
    assert!(!old.accepts(""));
    old.set(vec![Digest::of("old-secret-000001")]);
    assert!(old.accepts("old-secret-000001") && !old.accepts("old-secret-00000"));
    old.set(Vec::new());
    assert!(!old.accepts("old-secret-000001"));
}

#[test]
fn tokens_and_signing_keys_that_cannot_be_right_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = SecretFile::resolve("s", folder.path()).unwrap();
    let write = |text: &str| fs::write(folder.path().join("s"), text).unwrap();
    write("abcdefghijklmnop+/==\n");
    assert!(HookSecrets::bearer(&file).is_ok());
    for bad in ["", "short", "with a space in the midst"] {
        write(bad);
        assert!(HookSecrets::bearer(&file).is_err(), "{bad}");
    }
    write("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    assert_eq!(HookSecrets::signing(&file).unwrap().keys().len(), 1);
    for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_!!!!", "whsec_"] {
        write(bad);
        assert!(HookSecrets::signing(&file).is_err(), "{bad}");
    }
}
