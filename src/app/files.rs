//! Every file that the configuration names, tried as the daemon uses it, before anything is bound or opened.
//!
//! Owns that `check` and `run` see the same and say it in the same words: both take the configuration from here. What a
//! file must be is for the constructors that the daemon is made with.

mod limits;
mod matches;
mod outputs;
mod places;
mod programs;

use std::path::Path;

use self::{
    places::{Fault, data_dir, output, socket},
    programs::program,
};
use crate::{
    altinn::{CALL_TIMEOUT, auth::maskinporten::identity::Identity, http::client::read_key},
    clock::Clock,
    config::{
        Config, KeyName, Origins, Tls,
        error::{ConfigError, Problem},
        files::{NamedFile, Role},
    },
    crypto::{certificate_file, chain, chain::Audience},
    error_chain::in_one_line,
    files::operator_file,
    http_client,
    secret::{SecretError, SecretFile},
    server::tls::{CertificateFileFault, CertificateFiles, Certificates, KeyFileFault, TlsError},
    source::secrets::HookSecrets,
};

/// What was found beside faults.
#[derive(Debug, Default)]
pub struct Findings {
    faults: Vec<Problem>,
    /// What cannot be looked at by this user or in this process.
    pub unseen: Vec<Problem>,
    /// What does not keep the daemon from starting.
    pub warnings: Vec<Problem>,
}

/// The configuration with all that it names, or everything that is wrong with either. What cannot be
/// seen is a fault only to who needs it now. What was found beside is there in any case.
pub fn configuration(
    path: &Path,
    is_needed: bool,
    clock: &Clock,
) -> (Result<Config, ConfigError>, Findings) {
    let loaded = Config::load(path);
    let mut found = Findings::default();
    let (files, origins, mut problems) = match &loaded {
        Ok(config) => (config.files.as_slice(), &config.origins, Vec::new()),
        Err(ConfigError::Invalid { files, origins, problems, .. }) => {
            (files.as_slice(), origins, problems.clone())
        }
        Err(ConfigError::Missing(_) | ConfigError::Read(_) | ConfigError::Syntax { .. }) => {
            return (loaded, found);
        }
    };
    found.try_all(files, clock);
    found.faults.extend(outputs::faults(path, files));
    if let Ok(config) = &loaded {
        found.warnings.extend(matches::warnings(config));
        found.limits(config);
    }
    found.name_variables(origins);
    problems.append(&mut found.faults);
    if is_needed {
        problems.append(&mut found.unseen);
    }
    if problems.is_empty() {
        return (loaded, found);
    }
    let path = path.to_owned();
    let told = ConfigError::Invalid { path, problems, files: Vec::new(), origins: <_>::default() };
    (Err(told), found)
}

/// Who is to trust our certificate: whoever trusts the system's authorities, and ours.
pub(super) fn audience(files: &[NamedFile]) -> Audience {
    let mut audience = Audience::default();
    for NamedFile { role, .. } in files {
        if let Role::Certificate { host, .. } = role {
            audience.host.clone_from(host);
        } else if let Role::Authorities(path) = role {
            // That it cannot be read is told in its own place.
            audience.more = certificate_file::authorities(path).unwrap_or_default();
        }
    }
    audience
}

impl Findings {
    fn try_all(&mut self, files: &[NamedFile], clock: &Clock) {
        for NamedFile { key, role } in files {
            match role {
                Role::DataDir(path) => self.place(key, data_dir(path)),
                Role::Socket(path) => self.place(key, socket(path)),
                Role::Program(path) => self.place(key, program(path)),
                Role::Output(path) => self.place(key, output(path)),
                Role::Certificate { tls, .. } => {
                    self.certificate(key, tls, (&audience(files), clock));
                }
                Role::Authorities(path) => self.authorities(key, path, clock),
                Role::Client(file, name) => self.client(key, (file, name), clock),
                Role::GatewayKey(file) => self.secret(key, file, read_key(file).err()),
                Role::Codes(file) => self.secret(key, file, HookSecrets::codes(file).err()),
                Role::Bearer(file) => self.secret(key, file, HookSecrets::bearer(file).err()),
                Role::Signing(file) => self.secret(key, file, HookSecrets::signing(file).err()),
                Role::Remote => {
                    // The same client, but for its target, as the handler's.
                    let made = http_client::builder(CALL_TIMEOUT).build();
                    self.faults.extend(made.err().map(|fault| {
                        let cure = "see that this system has authorities (install ca-certificates)";
                        problem(key, format!("{}: {cure}", in_one_line(&fault)))
                    }));
                }
            }
        }
    }

    fn limits(&mut self, config: &Config) {
        self.warnings.extend(limits::warnings(config));
        let told = limits::disk(config);
        // What is there is what it will be; a disk that is mounted later may be another.
        let list = if config.data_dir.is_dir() { &mut self.faults } else { &mut self.warnings };
        list.extend(told);
    }

    /// Says of each which variable named the file.
    fn name_variables(&mut self, origins: &Origins) {
        for list in [&mut self.faults, &mut self.unseen, &mut self.warnings] {
            for Problem { key, message } in list {
                *message = origins.with_variable(key, std::mem::take(message));
            }
        }
    }

    fn place(&mut self, key: &str, fault: Option<Fault>) {
        match fault {
            None => {}
            Some(Fault::Wrong(message)) => self.faults.push(problem(key, message)),
            Some(Fault::Denied(message)) => self.unseen.push(problem(key, message)),
            Some(Fault::Odd(messages)) => {
                self.warnings.extend(messages.into_iter().map(|message| problem(key, message)));
            }
        }
    }

    fn secret(&mut self, key: &str, file: &SecretFile, fault: Option<SecretError>) {
        if let Some(fault) = fault {
            let list = if fault.is_unseen() { &mut self.unseen } else { &mut self.faults };
            list.push(problem(key, fault.to_string()));
        }
        self.mode(key, file);
    }

    /// A file with a secret in it that others can read.
    fn mode(&mut self, key: &str, file: &SecretFile) {
        self.warnings.extend(file.open_to_others().map(|seen| problem(key, open(&seen))));
    }

    fn certificate(&mut self, key: &str, tls: &Tls, (audience, clock): (&Audience, &Clock)) {
        let [certificate, private] =
            ["certificate_file", "key_file"].map(|last| format!("{key}.{last}"));
        let files = files(tls);
        let mut told = Vec::new();
        match Certificates::load(files, audience.clone(), clock.clone()) {
            Ok(loaded) => told = loaded.warnings(),
            Err(fault) => {
                let TlsError { certificate: fault, key: of_key } = *fault;
                // The chain is looked at also where only its key cannot be.
                if fault.is_none()
                    && let Ok(read) = certificate_file::chain(&tls.certificate_file)
                {
                    told = chain::of_server(&read, audience, clock.now());
                }
                let told = |fault: CertificateFileFault| problem(&certificate, fault.to_string());
                self.faults.extend(fault.map(told));
                match of_key {
                    Some(KeyFileFault::Secret(fault)) => {
                        self.secret(&private, &tls.key_file, Some(fault));
                    }
                    Some(fault) => self.faults.push(problem(&private, fault.to_string())),
                    None => {}
                }
            }
        }
        self.warnings.extend(told.into_iter().map(|message| problem(&certificate, message)));
        self.mode(&private, &tls.key_file);
        let both = operator_file::read(&tls.certificate_file, certificate_file::LARGEST);
        if both.is_ok_and(|text| text.contains("PRIVATE KEY-----")) {
            let seen = operator_file::open_to_others(&tls.certificate_file);
            self.warnings.extend(seen.map(|seen| problem(&certificate, open(&seen))));
        }
    }

    fn authorities(&mut self, key: &str, path: &Path, clock: &Clock) {
        if let Err(fault) = http_client::build(CALL_TIMEOUT, Some(path)) {
            self.faults.push(problem(key, fault.to_string()));
        }
        let read = certificate_file::authorities(path).unwrap_or_default();
        let told = chain::ages(&read, clock.now()).into_iter();
        self.warnings
            .extend(told.map(|words| problem(key, format!("{}: {words}", path.display()))));
    }

    fn client(&mut self, key: &str, (file, name): (&SecretFile, &KeyName), clock: &Clock) {
        match Identity::try_read(file, name) {
            Ok(identity) => {
                let told = identity.warnings(clock.now()).into_iter();
                let key = format!("{key}.certificate_file");
                self.warnings.extend(told.map(|message| problem(&key, message)));
            }
            Err(faults) => {
                for fault in std::iter::once(faults.first).chain(faults.second) {
                    let list = if fault.unseen { &mut self.unseen } else { &mut self.faults };
                    list.push(problem(&format!("{key}.{}", fault.setting), fault.to_string()));
                }
            }
        }
        self.mode(&format!("{key}.key_file"), file);
    }
}

/// As the daemon reads them.
pub(super) fn files(tls: &Tls) -> CertificateFiles {
    CertificateFiles { certificate: tls.certificate_file.clone(), key: tls.key_file.clone() }
}

fn problem(key: &str, message: impl Into<String>) -> Problem {
    Problem { key: key.to_owned(), message: message.into() }
}

fn open(seen: &str) -> String {
    format!("{seen}, so that others can read or change it: chmod 600 (or 640 for its group)")
}

#[cfg(test)]
mod tests;
