//! The files that a configuration names.

use std::{fs, os::unix::fs::PermissionsExt, sync::OnceLock};

use super::{super::files::check_files, *};

/// Made once: it takes a while.
fn rsa() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let size = rcgen::RsaKeySize::_2048;
        rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap().serialize_pem()
    })
}

/// The minimal configuration with a source, a subscription's secret and a program, all there.
fn whole() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::create_dir(base.join("tls")).unwrap();
    fs::write(base.join("tls/fullchain.pem"), made.cert.pem()).unwrap();
    fs::write(base.join("tls/privkey.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(base.join("maskinporten.pem"), rsa()).unwrap();
    fs::write(base.join("innboks-secret"), "a-secret-of-some-length\n").unwrap();
    fs::write(base.join("other-token"), "other-token-0123456789\n").unwrap();
    fs::write(base.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(base.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    let program = base.join("program");
    let text =
        MINIMAL.replace("[handlers.arkiv]", "secret_file = \"innboks-secret\"\n[handlers.arkiv]");
    let more = format!(
        "[sources.other]\nauth = {{ bearer_file = \"other-token\" }}\n[handlers.skript]\nkind = \
         \"exec\"\ncommand = [{:?}]\n",
        program.to_str().unwrap()
    );
    (folder, format!("{text}\n{more}"))
}

fn check(folder: &tempfile::TempDir, text: &str) -> Vec<Problem> {
    check_files(&good(Config::from_toml(text, folder.path(), &BTreeMap::new())))
}

#[test]
fn files_that_are_all_there_give_no_problem() {
    let (folder, text) = whole();
    assert_eq!(check(&folder, &text), []);
}

#[test]
fn a_file_that_is_missing_or_wrong_is_told_without_its_content() {
    let wrong = "hunter2 hunter2";
    for (file, key, fault) in [
        ("tls/fullchain.pem", "server.tls.certificate_file", "has no certificate in PEM"),
        ("tls/privkey.pem", "server.tls.key_file", "has no unencrypted private key"),
        ("maskinporten.pem", "altinn.maskinporten.key_file", "has no unencrypted RSA"),
        ("innboks-secret", "subscriptions.innboks.secret_file", "has a secret"),
    ] {
        let (folder, text) = whole();
        fs::write(folder.path().join(file), wrong).unwrap();
        let found = check(&folder, &text);
        assert!(matches!(&found[..], [one] if one.key == key), "{found:?}");
        assert!(
            found[0].message.contains(fault) && !found[0].message.contains("hunter2"),
            "{found:?}"
        );
    }
    for (file, key) in [
        ("tls/fullchain.pem", "server.tls.certificate_file"),
        ("tls/privkey.pem", "server.tls.key_file"),
        ("maskinporten.pem", "altinn.maskinporten.key_file"),
        ("innboks-secret", "subscriptions.innboks.secret_file"),
        ("other-token", "sources.other.auth.bearer_file"),
        ("program", "handlers.skript.command"),
    ] {
        let (folder, text) = whole();
        fs::remove_file(folder.path().join(file)).unwrap();
        let found = check(&folder, &text);
        assert!(matches!(&found[..], [one] if one.key == key), "{found:?}");
        assert!(found[0].message.contains("No such file"), "{found:?}");
    }
}

#[test]
fn a_key_for_maskinporten_is_an_rsa_key() {
    let (folder, text) = whole();
    fs::copy(folder.path().join("tls/privkey.pem"), folder.path().join("maskinporten.pem"))
        .unwrap();
    let found = check(&folder, &text);
    assert!(matches!(&found[..], [one] if one.message.contains("no unencrypted RSA")), "{found:?}");
}

#[test]
fn a_program_that_cannot_be_run_is_told() {
    let (folder, text) = whole();
    fs::set_permissions(folder.path().join("program"), fs::Permissions::from_mode(0o644)).unwrap();
    let found = check(&folder, &text);
    assert!(matches!(&found[..], [one] if one.message.contains("cannot be run")), "{found:?}");
}
