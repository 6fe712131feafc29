use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, sync::OnceLock};

use super::*;

const MINIMAL: &str = include_str!("../../../config/minimal.toml");

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
    for (name, content) in [
        ("tls/fullchain.pem", made.cert.pem().as_str()),
        ("tls/privkey.pem", made.signing_key.serialize_pem().as_str()),
        ("maskinporten.pem", rsa()),
        ("innboks-secret", "a-secret-of-some-length\n"),
        ("other-token", "other-token-0123456789\n"),
        ("program", "#!/bin/sh\n"),
    ] {
        fs::write(base.join(name), content).unwrap();
        fs::set_permissions(base.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let program = base.join("program");
    let text =
        MINIMAL.replace("[handlers.arkiv]", "secret_file = \"innboks-secret\"\n[handlers.arkiv]");
    let more = format!(
        "[sources.other]\nauth = {{ bearer_file = \"other-token\" }}\n[handlers.skript]\nkind = \
         \"exec\"\ncommand = [{:?}]\n",
        program.to_str().unwrap()
    );
    let text = text.replace("[server]", "data_dir = \"data\"\n[admin]\nsocket = \"s\"\n[server]");
    (folder, format!("{text}\n{more}"))
}

fn tried(folder: &tempfile::TempDir, text: &str) -> Findings {
    let config = Config::from_toml(text, folder.path(), &BTreeMap::new()).unwrap();
    let mut found = Findings::default();
    found.try_all(&config.files, &Clock::System);
    found
}

#[test]
fn every_file_that_is_named_is_tried() {
    let (folder, text) = whole();
    let config = Config::from_toml(&text, folder.path(), &BTreeMap::new()).unwrap();
    let mut keys: Vec<_> = config.files.iter().map(|named| named.key.as_str()).collect();
    keys.sort_unstable();
    let expected = [
        "admin.socket",
        "altinn.maskinporten",
        "data_dir",
        "handlers.skript.command",
        "server.tls",
        "sources.other.auth.bearer_file",
        "subscriptions.innboks.secret_file",
    ];
    assert_eq!(keys, expected);
    let found = tried(&folder, &text);
    assert_eq!((found.faults, found.unseen), (vec![], vec![]));
    // Its name is another, and nobody public vouches for it.
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
}

#[test]
fn files_are_tried_also_when_the_text_is_wrong() {
    let (folder, text) = whole();
    let path = folder.path().join("brevdue.toml");
    fs::write(&path, text.replace("environment", "environnement")).unwrap();
    fs::write(folder.path().join("tls/privkey.pem"), "hunter2").unwrap();
    let fault = configuration(&path, false, &Clock::System).0.unwrap_err().to_string();
    for key in ["altinn.environnement: ", "altinn.environment: ", "server.tls.key_file: "] {
        assert!(fault.contains(&format!("\n  {key}")), "{fault}");
    }
}

#[test]
fn a_file_that_is_missing_or_wrong_is_told_without_its_content() {
    for (file, key, fault) in [
        ("tls/fullchain.pem", "server.tls.certificate_file", "has no certificate in PEM"),
        ("tls/privkey.pem", "server.tls.key_file", "has no private key"),
        ("maskinporten.pem", "altinn.maskinporten.key_file", "has no private key"),
        ("innboks-secret", "subscriptions.innboks.secret_file", "has a secret"),
    ] {
        let (folder, text) = whole();
        fs::write(folder.path().join(file), "hunter2 hunter2").unwrap();
        let found = tried(&folder, &text).faults;
        assert!(matches!(&found[..], [one] if one.key == key), "{found:?}");
        let told = &found[0].message;
        assert!(told.contains(fault) && !told.contains("hunter2"), "{told}");
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
        let found = tried(&folder, &text).faults;
        assert!(matches!(&found[..], [one] if one.key == key), "{found:?}");
        assert!(found[0].message.contains("No such file"), "{found:?}");
    }
}
