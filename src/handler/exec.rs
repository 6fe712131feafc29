//! `kind = "exec"`: one child process per event.
//!
//! Owns the child from its start to its reaping: what it gets, what its exit means, and that
//! nothing of its process group is left when an attempt is dropped. What a child leaves running
//! when it ends by itself is its own affair, and the `reaper`'s once that ends. Why a command cannot be run is `reason`'s to say.

mod reason;

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{Attempt, Handler, Outcome, context};
use crate::{config, queue::Failure, reaper};

/// `EX_DATAERR` of sysexits(3): this event will never do.
const REJECTED: i32 = 65;
/// What is kept of what a child writes.
const ANSWER: usize = 1024;
/// How long the pipes are read after the child has ended: a process that it left behind can hold
/// them open for ever.
const LINGER: Duration = Duration::from_secs(1);
/// The longest variable that the system lets a program have (`MAX_ARG_STRLEN` of execve(2)), the zero
/// at its end included.
const LONGEST_VARIABLE: usize = 128 * 1024;
/// Where all variables together are too long for the system, those longer than this are left out.
const SHORT_VARIABLE: usize = 1024;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a command for each event.
#[derive(Debug)]
pub struct ExecHandler {
    program: String,
    arguments: Vec<String>,
    /// PATH, LANG, and what the configuration sets.
    env: BTreeMap<OsString, OsString>,
}

/// A child and its process group, both killed on drop if they still run.
struct Group {
    child: Child,
    /// The group's leader, until it is reaped: then the number can be another's.
    leader: Option<Pid>,
}

/// What a child wrote, the first [`ANSWER`] bytes of each.
#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl ExecHandler {
    /// A handler for this command.
    pub fn new(config: &config::ExecHandler) -> Self {
        let inherited = |name: &str, default: &str| {
            (name.into(), env::var_os(name).unwrap_or_else(|| default.into()))
        };
        let mut env =
            BTreeMap::from([inherited("PATH", DEFAULT_PATH), inherited("LANG", "C.UTF-8")]);
        env.extend(config.env.iter().map(|(name, value)| (name.into(), value.into())));
        let mut command = config.command.iter().cloned();
        let program = command.next().unwrap_or_default();
        Self { program, arguments: command.collect(), env }
    }

    /// The child, started. Its standard input has the whole event, so a variable that the system
    /// would not let it have is left out.
    fn spawn(&self, attempt: Attempt<'_>, variables: &[(String, String)]) -> io::Result<Child> {
        let spawn = |longest| {
            let mut command = self.command(attempt, variables, longest);
            reaper::spawn(|| command.spawn(), Child::id)
        };
        match spawn(LONGEST_VARIABLE) {
            Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => {
                spawn(SHORT_VARIABLE)
            }
            spawned => spawned,
        }
    }

    fn command(
        &self,
        attempt: Attempt<'_>,
        variables: &[(String, String)],
        longest: usize,
    ) -> Command {
        // With the sign between them and the zero at the end.
        let fits = |(name, value): &&(String, String)| name.len() + value.len() + 2 <= longest;
        let variables = variables.iter().filter(fits).map(|(name, value)| (name, value));
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.env)
            .envs(variables)
            .env("BREVDUE_ATTEMPT", attempt.number.to_string())
            .env("IDEMPOTENCY_KEY", attempt.idempotency_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

#[async_trait]
impl Handler for ExecHandler {
    async fn deliver(&self, attempt: Attempt<'_>) -> Outcome {
        let attributes = match context::attributes(&attempt.stored.event) {
            Ok(attributes) => attributes,
            Err(error) => return rejected(error.to_string()),
        };
        let variables: Vec<_> = attributes.into_iter().filter_map(variable).collect();
        let child = match self.spawn(attempt, &variables) {
            Ok(child) => child,
            Err(error) => {
                let path = self.env.get(OsStr::new("PATH"));
                return Outcome::retry(reason::cannot_run(&self.program, path, &error));
            }
        };
        let mut output = Output::default();
        match run(Group::new(child), attempt.stored.event.json(), &mut output).await {
            Ok(status) => outcome(status, &output),
            Err(error) => Outcome::retry(format!("cannot be waited for: {error}")),
        }
    }
}

/// `CE_NAME`. Names that CloudEvents does not allow, and values that no environment can hold, are left
/// out: the event on stdin has them.
fn variable((name, value): (String, String)) -> Option<(String, String)> {
    let legal = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    let legal = legal && !value.contains('\0');
    legal.then(|| (format!("CE_{}", name.to_ascii_uppercase()), value))
}

fn rejected(reason: String) -> Outcome {
    Outcome::Rejected { failure: Failure { reason, answer: None } }
}

/// Feeds the child, drains it, and waits for its end.
async fn run(mut group: Group, input: &[u8], output: &mut Output) -> io::Result<ExitStatus> {
    let Child { stdin, stdout, stderr, .. } = &mut group.child;
    let (stdin, stdout, stderr) = (stdin.take(), stdout.take(), stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child need not read what it does not want; its exit says what it thinks.
            drop(stdin.write_all(input).await);
        }
    };
    let Output { stdout: kept_out, stderr: kept_err } = output;
    let pipes = async { tokio::join!(feed, drain(stdout, kept_out), drain(stderr, kept_err)) };
    tokio::pin!(pipes);
    tokio::select! {
        status = group.wait() => {
            drop(timeout(LINGER, &mut pipes).await);
            status
        }
        _ = &mut pipes => group.wait().await,
    }
}

/// Reads to the end, so that the child never waits for us, and keeps the beginning.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = ANSWER.saturating_sub(kept.len());
        kept.extend(buffer.iter().take(count.min(room)));
    }
}

fn outcome(status: ExitStatus, output: &Output) -> Outcome {
    let reason = match (status.code(), status.signal()) {
        (Some(0), _) => return Outcome::Delivered,
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    };
    let failure = Failure { reason, answer: output.beginning() };
    if status.code() == Some(REJECTED) {
        Outcome::Rejected { failure }
    } else {
        Outcome::Retry { failure, after: None }
    }
}

impl Output {
    /// Standard error first: where both are, that is where the fault is told.
    fn beginning(&self) -> Option<String> {
        let bytes: Vec<u8> = self.stderr.iter().chain(&self.stdout).copied().take(ANSWER).collect();
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Group {
    fn new(child: Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, leader }
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.leader = None;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::warn!(%error, "cannot kill a command's process group");
        }
        // The child itself is reaped by tokio, which takes it over here (`kill_on_drop`).
    }
}

#[cfg(test)]
mod tests;
