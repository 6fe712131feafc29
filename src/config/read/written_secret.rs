//! A secret that stands where the path of its file belongs.
//!
//! Owns how such a text is told from a path, so that it is never shown as one. What must be in the file is for who reads it.

use std::{io::ErrorKind, path::Path};

/// What to say of it, without it.
pub(super) const FAULT: &str = "looks like a secret, and there is no such file: a secret is never written here; put it into a \
                                file and name the file";

/// No file system has longer names and paths.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;
/// A file's name with an ending may be as long as this and begin as secrets do.
const LONGEST_WITH_ENDING: usize = 64;
/// Shorter words are not told from names.
const SHORTEST_RANDOM: usize = 16;

/// Standard Webhooks keys; base64 of `{"`, of `{ "`, of `{` and a line break, of `-----`; what a header has.
const BEGINNINGS: [&str; 7] = ["whsec_", "eyJ", "eyAi", "ewo", "LS0tLS", "Bearer ", "bearer "];
const CREDENTIAL: &str = "credential:";

/// Whether it is a secret rather than a path. What is there is a path, and so is what may not be looked at.
pub(super) fn is_likely(written: &str, base: &Path) -> bool {
    let text = written.trim();
    let text = text.strip_prefix(CREDENTIAL).unwrap_or(text);
    let is_secret = is_content(text)
        || (!has_ending(text) && (begins_so(text) || is_phrase(text) || has_random(text)));
    is_secret && is_absent(&base.join(written))
}

fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() != ErrorKind::PermissionDenied)
}

/// What can stand in a file only: JSON, PEM, lines, and what is too long.
fn is_content(text: &str) -> bool {
    text.starts_with(['{', '[', '"'])
        || text.contains("-----BEGIN")
        || text.contains(char::is_control)
        || text.len() > LONGEST_PATH
        || text.split('/').any(|name| name.len() > LONGEST_NAME)
}

/// `.pem`, `.jwk`, `.txt` and the like.
fn has_ending(text: &str) -> bool {
    let short = |ending: &str| {
        (1..=8).contains(&ending.len()) && ending.bytes().all(|c| c.is_ascii_alphanumeric())
    };
    text.len() <= LONGEST_WITH_ENDING
        && text.rsplit_once('.').is_some_and(|(name, ending)| !name.is_empty() && short(ending))
}

fn begins_so(text: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

/// A password or several words, in one piece.
fn is_phrase(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || "!$%^&*()|<>?;'\"\\`#=".contains(c);
    !text.contains('/') && text.contains(odd)
}

/// A path from the root begins with a name that somebody gave; below that, programs give names, too.
fn has_random(text: &str) -> bool {
    let judged = if text.starts_with('/') { 1 } else { usize::MAX };
    let mut names = text.split('/').filter(|name| !name.is_empty()).take(judged);
    names.any(|name| name.split('.').any(is_random))
}

/// Whether digits, small and capital letters change as often as in a word that was drawn by lot.
fn is_random(word: &str) -> bool {
    let kind = |c: u8| match c {
        b'0'..=b'9' => 1,
        b'a'..=b'z' => 2,
        b'A'..=b'Z' => 3,
        _ => 0,
    };
    let is_change = |pair: &&[u8]| match pair {
        // A capital begins a word.
        [one, other] => match (kind(*one), kind(*other)) {
            (0, _) | (_, 0) | (3, 2) => false,
            (one, other) => one != other,
        },
        _ => false,
    };
    let changes = word.as_bytes().windows(2).filter(is_change).count();
    word.len() >= SHORTEST_RANDOM && changes * 5 >= word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_paths() {
        let long = "a".repeat(256);
        for secret in [
            r#"{"kty":"RSA","d":"TgPA"}"#,
            " { \"kty\": \"RSA\" }",
            "-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nMIIE",
            "./-----BEGIN RSA PRIVATE KEY-----",
            "eyJrdHkiOiJSU0EifQ",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg==",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "MfKQ9r8GKY/qrTwjU9PD8ILPZIo2LaL5aSw+",
            "/fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "0123456789abcdef0a1b2c3d4e5f6a7b",
            "3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "Bearer abc",
            "correct horse battery staple",
            "Tr0ub4dor&3",
            "credential:{\"kty\":\"RSA\"}",
            &long,
        ] {
            assert!(is_likely(secret, Path::new("/etc/brevdue")), "{secret}");
        }
    }

    #[test]
    fn paths_are_paths_whether_they_are_there_or_not() {
        for path in [
            "maskinporten.pem",
            "tls/live/hooks.example.no/privkey.pem",
            "/etc/brevdue/secrets/bearer-token",
            "/run/credentials/brevdue.service/3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "/var/run/secrets/..2024_10_10_10_10_10.123456789/token",
            "../secrets/altinn-apim-key-2024-prod",
            "innboks-secret",
            "other-whsec",
            "maskinporten-client-key-2024-11-30",
            "MaskinportenPrivateKeyOfProduction",
            "Mine nøkler/Nøkkel fra Digdir.jwk",
            "eyJafjallajokull.pem",
            "key20241130prod01",
            "${CREDENTIALS_DIRECTORY}/maskinporten",
            "credential:maskinporten-key",
            "~/key",
            ".key",
            "k",
            "",
        ] {
            assert!(!is_likely(path, Path::new("/etc/brevdue")), "{path}");
        }
    }

    #[test]
    fn what_is_there_is_a_path_however_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let name = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert!(is_likely(name, folder.path()));
        std::fs::write(folder.path().join(name), "").unwrap();
        assert!(!is_likely(name, folder.path()));
    }
}
