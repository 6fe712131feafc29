//! Whose rights the examination is made with: root sees files that the service cannot see.
//!
//! Owns who the service's user is (the owner of `data_dir`, once it is there), and the command that
//! asks with that user's rights. What is found is the checks'. Credentials are read by systemd as root,
//! so where they are given nobody else can ask.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use crate::config::Config;

/// Of util-linux: it also takes on the user's further groups.
const SETPRIV: &str = "setpriv";

/// The service's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceUser {
    uid: u32,
    gid: u32,
}

impl ServiceUser {
    /// Whom to ask as, if this is root and the service is not, and no credentials are at hand.
    pub fn of(config: &Config) -> Option<Self> {
        if env::var_os("CREDENTIALS_DIRECTORY").is_some() {
            return None;
        }
        let owner = fs::metadata(&config.data_dir).ok()?;
        let other = rustix::process::geteuid().is_root() && owner.uid() != 0;
        other.then(|| Self { uid: owner.uid(), gid: owner.gid() })
    }

    /// This very program with the same arguments, as that user; an error says why that user cannot
    /// run it.
    pub fn same_command(self) -> io::Result<Command> {
        let program = env::current_exe()?;
        let mut first = None;
        for way in [self.with_setpriv(&program), self.plainly(&program)] {
            match tried(way) {
                Ok(mut command) => {
                    command.args(env::args_os().skip(1));
                    return Ok(command);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| io::ErrorKind::PermissionDenied.into()))
    }

    fn with_setpriv(self, program: &Path) -> Box<dyn Fn() -> Command + '_> {
        let program = program.to_owned();
        Box::new(move || {
            let mut command = Command::new(SETPRIV);
            command.args(["--reuid", &self.uid.to_string(), "--regid", &self.gid.to_string()]);
            command.args([OsStr::new("--init-groups"), OsStr::new("--"), program.as_os_str()]);
            command
        })
    }

    /// Without further groups.
    fn plainly(self, program: &Path) -> Box<dyn Fn() -> Command + '_> {
        let program = program.to_owned();
        Box::new(move || {
            let mut command = Command::new(&program);
            command.uid(self.uid).gid(self.gid);
            command
        })
    }
}

/// The command, if it can say its version.
fn tried(way: impl Fn() -> Command) -> io::Result<Command> {
    let mut trial = way();
    trial.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if trial.status()?.success() { Ok(way()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

impl std::fmt::Display for ServiceUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the owner of data_dir (uid {})", self.uid)
    }
}
