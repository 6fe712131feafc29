//! Every sync, and every write, of every file fails for some time; then the disk works again.

use std::time::Duration;

use futures_util::future::join_all;

use super::patient::{Load, Patient, Verdict, until};
use crate::{
    report, rounds,
    shim::{Call, DATABASE, Effect, Fault},
    support::{receiver::Behaviour, world::World},
};

const SYNCS: &[Call] = &[Call::Sync];
const BOTH: &[Call] = &[Call::Sync, Call::Write];
const EIO: Effect = Effect::Fail(libc::EIO);
/// Data of an event of which the database is soon given many.
const LARGE: usize = 48 * 1024;
/// So many of those are more than the store keeps in memory.
const MANY: usize = 180;
/// Longer than this nothing but the outage takes.
const SOON: Duration = Duration::from_secs(60);

/// What goes on when the outage begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Nothing, and one event comes during it.
    AtRest,
    UnderLoad,
    /// The database is being given what was committed, under load.
    Checkpoint,
    /// The program starts.
    AtStart,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    when: When,
    calls: &'static [Call],
    seconds: u64,
}

impl Case {
    /// The short form has one of 40 seconds.
    fn all() -> Vec<Self> {
        use When::{AtRest, AtStart, Checkpoint, UnderLoad};
        let all = |calls: &'static [Call], seconds: &'static [u64]| {
            let each = move |when| seconds.iter().map(move |s| Self { when, calls, seconds: *s });
            [AtRest, UnderLoad, Checkpoint, AtStart].into_iter().flat_map(each)
        };
        let mut cases: Vec<Self> = all(BOTH, &[1, 5]).collect();
        cases.push(Self { when: AtRest, calls: SYNCS, seconds: 5 });
        cases.push(Self { when: UnderLoad, calls: SYNCS, seconds: 40 });
        if rounds(0, 1) == 1 {
            cases = all(BOTH, &[1, 5, 40]).chain(all(SYNCS, &[1, 5, 40])).collect();
        }
        cases
    }

    async fn run(self) -> Verdict<String> {
        let mut patient = Patient::start(World::new().await).await?;
        let began = patient.shim.now();
        let healed = match self.when {
            When::AtRest => self.at_rest(&mut patient).await?,
            When::UnderLoad => self.under_load(&mut patient, 0, 50).await?,
            When::Checkpoint => self.under_load(&mut patient, LARGE, MANY).await?,
            When::AtStart => self.at_start(&mut patient).await?,
        };
        patient.all_came().await?;
        if let Some(first) = patient.pushes.wrong.lock().unwrap().first() {
            return Err(first.clone());
        }
        patient.survives_power_loss(began).await?;
        let (events, restarts) = (patient.pushes.count(), patient.restarts);
        Ok(format!("{self:?}: healed after {healed:.1?}, {restarts} restarts, {events} events"))
    }

    fn begin(self, patient: &Patient) {
        patient.falls_ill(&[Fault::of(self.calls, "", EIO)]);
    }

    /// It begins with the first call that fails. Its length is the point.
    async fn lasts(self, patient: &mut Patient) -> Verdict<Duration> {
        let fails = until(SOON, async || (patient.shim.hits() > 0).then_some(())).await;
        fails.ok_or("nothing failed")?;
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        patient.mend();
        patient.heals().await
    }

    async fn at_rest(self, patient: &mut Patient) -> Verdict<Duration> {
        self.begin(patient);
        let end = tokio::time::Instant::now() + Duration::from_secs(self.seconds);
        let answered = patient.pushes.push(0).await;
        while answered.is_some() && tokio::time::Instant::now() < end {
            if patient.is_ready().await && tokio::time::Instant::now() < end {
                return Err(format!("a push got {answered:?}, and then /readyz says 200"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        patient.mend();
        patient.heals().await
    }

    async fn under_load(
        self,
        patient: &mut Patient,
        size: usize,
        many: usize,
    ) -> Verdict<Duration> {
        let load = Load::begin(patient, size);
        comes_to(patient, many).await?;
        if self.when == When::Checkpoint {
            patient.shim.set(&[Fault::of(&[Call::Sync], DATABASE, Effect::Hang)]);
            let hangs = until(SOON, async || (patient.shim.hits() > 0).then_some(())).await;
            hangs.ok_or("the database never synced")?;
        }
        self.begin(patient);
        let healed = self.lasts(patient).await?;
        comes_to(patient, patient.pushes.count() + many).await?;
        load.end().await;
        Ok(healed)
    }

    async fn at_start(self, patient: &mut Patient) -> Verdict<Duration> {
        patient.world.receiver.behave(Behaviour::Answer(500));
        for _ in 0..20 {
            patient.pushes.push(0).await;
        }
        patient.terminate(SOON).await?;
        self.begin(patient);
        patient.spawn();
        let healed = self.lasts(patient).await?;
        patient.world.receiver.behave(Behaviour::Answer(200));
        Ok(healed)
    }
}

async fn comes_to(patient: &Patient, count: usize) -> Verdict<()> {
    let come = until(SOON, async || (patient.pushes.count() >= count).then_some(())).await;
    come.ok_or_else(|| format!("only {} of {count} were answered 200", patient.pushes.count()))
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_sync_and_write_fails_and_works_again_nothing_is_lost_and_it_heals() {
    let ended = join_all(Case::all().into_iter().map(|case| async move {
        let verdict = case.run().await;
        verdict.inspect(|figures| report(figures)).map_err(|why| format!("{case:?}: {why}"))
    }));
    let ended = ended.await;
    let wrong: Vec<String> = ended.iter().filter_map(|case| case.clone().err()).collect();
    report(&format!("outages: {} cases, {} wrong", ended.len(), wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
