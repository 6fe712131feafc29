//! A call to the disk does not return: nobody waits for ever, the program says so, it can be ended,
//! and when the call returns after all it works again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::StatusCode;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use super::patient::{Patient, Verdict, until};
use crate::{
    report,
    shim::{BALLAST, COMMITS, Call, DATABASE, Effect, Fault, HIGH_WATER},
    support::world::World,
};

/// The store's patience with its disk, 15 seconds, and something to spare.
const REFUSED: Duration = Duration::from_secs(20);
/// The two need not see it in the same moment.
const SLACK: Duration = Duration::from_secs(2);
/// `shutdown_grace` here, with the last commit and the end of threads, and something to spare.
const ENDED: Duration = Duration::from_secs(2 + 5 + 1 + 5);
const SOON: Duration = Duration::from_secs(60);
/// Data of an event, and how many of those are not read when the store is opened.
const LARGE: usize = 48 * 1024;
const BACKLOG: usize = 1500;

/// What hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hang {
    HighWater,
    FreeSpace,
    MakingBallast,
    RemovingBallast,
    /// Allocating what sled's file grows by.
    Growth,
    /// A delivery reads what it is to deliver.
    Read,
}

const ALL: [Hang; 6] = [
    Hang::HighWater,
    Hang::FreeSpace,
    Hang::MakingBallast,
    Hang::RemovingBallast,
    Hang::Growth,
    Hang::Read,
];

impl Hang {
    fn faults(self) -> Vec<Fault<'static>> {
        let hang = |calls, suffix| Fault::of(calls, suffix, Effect::Hang);
        match self {
            Self::HighWater => vec![hang(&[Call::Sync], HIGH_WATER)],
            Self::FreeSpace => vec![hang(&[Call::Statvfs], "")],
            Self::MakingBallast => vec![hang(&[Call::Create, Call::Allocate], BALLAST)],
            Self::RemovingBallast => {
                let full = Effect::Fail(libc::ENOSPC);
                let full = Fault { which: (0, 1), ..Fault::of(&[Call::Write], COMMITS, full) };
                vec![full, hang(&[Call::Unlink], BALLAST)]
            }
            Self::Growth => vec![hang(&[Call::Allocate], DATABASE)],
            Self::Read => vec![hang(&[Call::Read], DATABASE)],
        }
    }

    /// The disk gets to where the call will be made.
    async fn prepare(self, patient: &mut Patient) -> Verdict<()> {
        let ballast = ballast(patient);
        match self {
            Self::HighWater | Self::FreeSpace | Self::Growth => Ok(()),
            Self::MakingBallast | Self::RemovingBallast => {
                let made = until(SOON, async || {
                    patient.pushes.push(0).await;
                    ballast.exists().then_some(())
                });
                made.await.ok_or("there is no ballast")?;
                if self == Self::MakingBallast {
                    std::fs::remove_file(ballast).unwrap();
                }
                Ok(())
            }
            Self::Read => {
                patient.post("/v1/handlers/arkiv/pause").await?;
                let mut senders = JoinSet::new();
                for _ in 0..3 {
                    let pushes = Arc::clone(&patient.pushes);
                    senders.spawn(async move {
                        for _ in 0..BACKLOG / 3 {
                            pushes.push(LARGE).await;
                        }
                    });
                }
                senders.join_all().await;
                // Nothing of it is in memory.
                patient.terminate(SOON).await?;
                patient.spawn();
                patient.heals().await.map(drop)
            }
        }
    }

    /// Has the call made; pushes that wait for it go on waiting.
    async fn begin(self, patient: &mut Patient) -> Verdict<JoinSet<()>> {
        self.prepare(patient).await?;
        let faults = self.faults();
        let hits = u64::try_from(faults.len()).unwrap();
        patient.shim.set(&faults);
        if self == Self::Read {
            patient.post("/v1/handlers/arkiv/resume").await?;
        }
        let mut waiting = JoinSet::new();
        let mut pace = interval(Duration::from_millis(100));
        let hangs = timeout(SOON, async {
            while patient.shim.hits() < hits {
                pace.tick().await;
                let pushes = Arc::clone(&patient.pushes);
                waiting.spawn(async move {
                    pushes.push(0).await;
                });
            }
        });
        hangs.await.map_err(|_| "nothing hangs")?;
        Ok(waiting)
    }

    async fn run(self) -> Verdict<String> {
        let world = World::new().await;
        let data = "data_dir = \"data\"\n";
        world.edit(data, &format!("{data}shutdown_grace = \"2s\"\n"));
        let mut patient = Patient::start(world).await?;
        let waiting = self.begin(&mut patient).await?;
        let refused = refuses(&patient).await?;
        patient.mend();
        waiting.join_all().await;
        let healed = patient.heals().await?;
        patient.all_came().await?;
        let waiting = self.begin(&mut patient).await?;
        let began = Instant::now();
        patient.terminate(ENDED).await?;
        let ended = began.elapsed();
        patient.mend();
        waiting.join_all().await;
        if let Some(first) = patient.pushes.wrong.lock().unwrap().first() {
            return Err(first.clone());
        }
        patient.knows_all().await?;
        Ok(format!(
            "{self:?} hangs: refused after {refused:.1?}, healed after {healed:.1?}, ended by \
             SIGTERM after {ended:.1?}"
        ))
    }
}

fn ballast(patient: &Patient) -> PathBuf {
    patient.world.folder.path().join("data/queue").join(BALLAST.trim_start_matches('/'))
}

/// Pushes are refused, readiness is denied, and the status is told: all of it in time.
async fn refuses(patient: &Patient) -> Verdict<Duration> {
    let began = Instant::now();
    let refused = until(REFUSED, async || {
        let status = patient.pushes.push(0).await;
        (status == Some(StatusCode::SERVICE_UNAVAILABLE)).then_some(())
    });
    refused.await.ok_or_else(|| format!("no push was refused within {REFUSED:?}"))?;
    let taken = began.elapsed();
    let denied = until(SLACK, async || (!patient.is_ready().await).then_some(())).await;
    denied.ok_or("a push was refused, and /readyz says 200")?;
    match patient.get("/v1/status").await {
        Some(StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) => Ok(taken),
        other => Err(format!("/v1/status got {other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_call_to_the_disk_hangs_nobody_waits_for_ever_and_then_it_works_again() {
    let ended = join_all(ALL.map(|hang| async move {
        let verdict = hang.run().await;
        verdict.inspect(|figures| report(figures)).map_err(|why| format!("{hang:?}: {why}"))
    }));
    let wrong: Vec<String> = ended.await.into_iter().filter_map(Result::err).collect();
    report(&format!("hangs: {} kinds, {} wrong", ALL.len(), wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
