//! The files that a configuration names: are they there, readable, and what they should be.
//!
//! Owns the look from outside, for `brevdue check`; each is read for use where it is used. Never
//! tells what is in a file.

use std::path::Path;

use secrecy::ExposeSecret;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

use super::{Altinn, Config, HandlerKind, KeyName, SourceAuth, error::Problem};
use crate::{
    crypto::rsa_key::RsaKey,
    secret::{SecretError, SecretFile},
};

/// Every problem with the files that must be there before brevdue starts.
pub fn check_files(config: &Config) -> Vec<Problem> {
    let mut found = Found::default();
    if let Some(tls) = &config.server.tls {
        found.certificates("server.tls.certificate_file", &tls.certificate_file);
        found.key("server.tls.key_file", &tls.key_file);
    }
    found.secret("admin.token_file", config.admin.token_file.as_ref());
    if let Some(altinn) = &config.altinn {
        found.altinn(altinn);
    }
    for (name, subscription) in &config.subscriptions {
        if let Some(file) = &subscription.secret_file {
            found.note(&format!("subscriptions.{name}.secret_file"), file.read_shared().err());
        }
    }
    for (name, source) in &config.sources {
        let (key, file) = match &source.auth {
            SourceAuth::Bearer { file } => ("bearer_file", file),
            SourceAuth::StandardWebhooks { file, .. } => ("standard_webhooks_file", file),
            SourceAuth::AllowFrom => continue,
        };
        found.secret(&format!("sources.{name}.auth.{key}"), Some(file));
    }
    found.programs(config);
    found.0
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn push(&mut self, key: &str, message: String) {
        self.0.push(Problem { key: key.to_owned(), message });
    }

    fn note(&mut self, key: &str, fault: Option<SecretError>) {
        match fault {
            // systemd passes it to the daemon; nobody else can look at it.
            None | Some(SecretError::NoCredentials(_)) => {}
            Some(fault) => self.push(key, fault.to_string()),
        }
    }

    fn secret(&mut self, key: &str, file: Option<&SecretFile>) {
        self.note(key, file.and_then(|file| file.read().err()));
    }

    fn altinn(&mut self, altinn: &Altinn) {
        if let Some(file) = &altinn.ca_file {
            self.certificates("altinn.ca_file", file);
        }
        self.secret("altinn.api_key_file", altinn.api_key_file.as_ref());
        self.rsa("altinn.maskinporten.key_file", &altinn.maskinporten.key_file);
        if let KeyName::Certificate(file) = &altinn.maskinporten.key_name {
            self.certificates("altinn.maskinporten.certificate_file", file);
        }
    }

    fn certificates(&mut self, key: &str, path: &Path) {
        let fault = match CertificateDer::pem_file_iter(path) {
            Ok(certificates) => {
                let read: Result<Vec<_>, _> = certificates.collect();
                read.map(|read| read.is_empty())
            }
            Err(fault) => Err(fault),
        };
        let path = path.display();
        match fault {
            Ok(false) => {}
            Ok(true) => self.push(key, format!("{path}: has no certificate in PEM")),
            Err(pem::Error::Io(fault)) => self.push(key, format!("cannot read {path}: {fault}")),
            Err(_) => self.push(key, format!("{path}: is not well-formed PEM")),
        }
    }

    /// PEM, and not encrypted: nobody is there to type a passphrase.
    fn key(&mut self, key: &str, file: &SecretFile) {
        match file.read() {
            Err(fault) => self.note(key, Some(fault)),
            Ok(text) => {
                let pem = PrivateKeyDer::from_pem_slice(text.expose_secret().as_bytes());
                if pem.is_err() {
                    let path = file.path().display();
                    self.push(key, format!("{path}: has no unencrypted private key in PEM"));
                }
            }
        }
    }

    /// Maskinporten documents RS256, RS384 and RS512 only.
    fn rsa(&mut self, key: &str, file: &SecretFile) {
        match file.read() {
            Err(fault) => self.note(key, Some(fault)),
            Ok(text) => {
                if let Err(fault) = RsaKey::read(&text) {
                    self.push(key, format!("{}: {fault}", file.path().display()));
                }
            }
        }
    }

    fn programs(&mut self, config: &Config) {
        for (name, handler) in &config.handlers {
            if let HandlerKind::Exec(exec) = &handler.kind
                && let Some(program) = exec.command.first()
                && let Some(fault) = program_fault(Path::new(program))
            {
                self.push(&format!("handlers.{name}.command"), format!("{program}: {fault}"));
            }
        }
    }
}

fn program_fault(program: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    match program.metadata() {
        Err(fault) => Some(fault.to_string()),
        Ok(found) if !found.is_file() => Some("is not a file".to_owned()),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Some("cannot be run".to_owned()),
        Ok(_) => None,
    }
}
