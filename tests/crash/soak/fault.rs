//! What can go wrong, how it begins, and how it ends.

use std::{fs, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{outside::Outside, subject::Subject};
use crate::{
    shim::{Call, Effect, Fault as Broken},
    support::receiver::Behaviour,
};

/// One kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL, and a start.
    Kill,
    /// Every sync fails.
    Syncs,
    /// Nothing can be written: the disk is full.
    Full,
    /// A handler answers 500.
    Dead,
    /// A handler does not answer.
    Slow,
    /// A handler closes the connection.
    Closing,
    /// Altinn's Events API is away.
    Altinn,
    /// Maskinporten is away.
    Maskinporten,
    /// Altinn's pushes are lost.
    Pushes,
    /// The wall clock jumps ahead, and back.
    Ahead,
    /// The wall clock jumps back, and ahead.
    Behind,
    /// SIGHUP, with everything as it was.
    Reload,
    /// SIGHUP, with a certificate that is none, and again with a good one.
    BadReload,
    /// Hundreds of connections that prove nothing.
    Hostile,
    /// Nobody reads the log.
    Unread,
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault::Kill,
    Fault::Syncs,
    Fault::Full,
    Fault::Dead,
    Fault::Slow,
    Fault::Closing,
    Fault::Altinn,
    Fault::Maskinporten,
    Fault::Pushes,
    Fault::Ahead,
    Fault::Behind,
    Fault::Reload,
    Fault::BadReload,
    Fault::Hostile,
    Fault::Unread,
];

const DAY: Duration = Duration::from_secs(24 * 3600);
const EIO: Effect = Effect::Fail(libc::EIO);
const NO_SPACE: Effect = Effect::Fail(libc::ENOSPC);
const GROWING: &[Call] = &[Call::Write, Call::Create, Call::Allocate, Call::Mkdir];

impl Fault {
    pub(super) async fn begin(self, subject: &mut Subject, outside: &Outside) {
        match self {
            Self::Kill => subject.kill_and_start(),
            Self::Syncs => subject.shim.set(&[Broken::of(&[Call::Sync], "", EIO)]),
            Self::Full => subject.shim.set(&[Broken::of(GROWING, "", NO_SPACE)]),
            Self::Dead => subject.world.receiver.behave(Behaviour::Answer(500)),
            Self::Slow => subject.second.behave(Behaviour::Hang),
            Self::Closing => subject.world.receiver.behave(Behaviour::Close),
            Self::Altinn => altinn(subject, &json!({ "events": "500" })).await,
            Self::Maskinporten => {
                let faults = json!({ "token": "500", "expire_tokens": true });
                altinn(subject, &faults).await;
            }
            Self::Pushes => altinn(subject, &json!({ "push": "drop" })).await,
            Self::Ahead => subject.shim.jump(40 * i64::try_from(DAY.as_millis()).unwrap()),
            Self::Behind => subject.shim.jump(-3_600_000),
            Self::Reload => subject.signal(Signal::HUP).await,
            Self::BadReload => {
                subject.may_refuse = true;
                fs::write(subject.certificate(), "no certificate").unwrap();
                subject.signal(Signal::HUP).await;
            }
            Self::Hostile => outside.besiege(true),
            Self::Unread => subject.read_log(false),
        }
    }

    pub(super) async fn end(self, subject: &mut Subject, outside: &Outside) {
        match self {
            Self::Kill | Self::Reload => {}
            Self::Syncs | Self::Full => subject.shim.mend(),
            Self::Dead | Self::Closing => subject.world.receiver.behave(Behaviour::Answer(200)),
            Self::Slow => subject.second.behave(Behaviour::Answer(200)),
            Self::Altinn | Self::Maskinporten | Self::Pushes => {
                altinn(subject, &json!({})).await;
            }
            Self::Ahead | Self::Behind => subject.shim.jump(0),
            Self::BadReload => {
                fs::write(subject.certificate(), &subject.good_certificate).unwrap();
                subject.signal(Signal::HUP).await;
            }
            Self::Hostile => outside.besiege(false),
            Self::Unread => {
                subject.is_alive().await;
                subject.read_log(true);
            }
        }
    }
}

async fn altinn(subject: &Subject, faults: &Value) {
    subject.world.tell_altinn("faults", faults).await;
}
