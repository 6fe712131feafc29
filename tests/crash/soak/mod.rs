//! Everything at once: for a minute or an hour, faults of every kind come and go while events come
//! in, drawn from a seed. What was answered 200 reaches every handler, and all is as it was before.
//!
//! `BREVDUE_SEED=7 cargo test --test crash soak` plays a run again: the same faults in the same order,
//! for the same times. What the machine does meanwhile is its own.

mod fault;
mod outside;
mod subject;

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use self::{
    fault::{FAULTS, Fault},
    outside::Outside,
    subject::{Footprint, Subject},
};
use crate::{report, rounds};

/// After the last fault all is well again within this time.
const HEALED: Duration = Duration::from_secs(60);
/// The load runs this long before it is measured what the program takes.
const WARM: Duration = Duration::from_secs(4);

/// The seed: given, or any.
fn seed() -> u64 {
    let given = std::env::var("BREVDUE_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| fastrand::u64(..1 << 32))
}

/// What goes wrong, and for how long: one to three faults at a time, and a pause after them.
fn plan(rng: &mut Rng) -> (Vec<Fault>, Duration, Duration) {
    let mut faults = FAULTS.to_vec();
    rng.shuffle(&mut faults);
    faults.truncate(rng.usize(1..=3));
    let millis = Duration::from_millis;
    (faults, millis(rng.u64(200..3_000)), millis(rng.u64(100..1_500)))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_nothing_answered_is_lost_and_all_is_well_again() {
    let (seed, length) = (seed(), Duration::from_secs(rounds(45, 3600).try_into().unwrap()));
    report(&format!("soak: BREVDUE_SEED={seed}, {length:?}"));
    let mut rng = Rng::with_seed(seed);
    let mut subject = Subject::start().await;
    let outside = Outside::begin(&subject);
    sleep(WARM).await;
    let before = settled(&mut subject, &outside, None).await;

    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < length {
        let (faults, lasts, pause) = plan(&mut rng);
        report(&format!("soak: {:.1?} {faults:?} for {lasts:?}", began.elapsed()));
        for fault in &faults {
            fault.begin(&mut subject, &outside).await;
        }
        subject.live_for(lasts).await;
        for fault in &faults {
            fault.end(&mut subject, &outside).await;
        }
        subject.live_for(pause).await;
        count += faults.len();
    }
    let after = settled(&mut subject, &outside, Some(&before)).await;
    outside.blames_nothing();
    let (answered, published) = (outside.answered().len(), outside.published().len());
    assert!(answered > 100 && published > 10, "only {answered} answered, {published} published");
    assert!(subject.stop().await.success(), "seed {seed}");
    report(&format!(
        "soak: seed {seed}, {count} faults, {answered} events answered, {published} published, \
         {} kills, 0 lost; {before} before, {after} after",
        subject.kills
    ));
}

/// Stops the load, and waits until all is delivered and the program takes no more than before.
async fn settled(
    subject: &mut Subject,
    outside: &Outside,
    before: Option<&Footprint>,
) -> Footprint {
    outside.pause(true).await;
    let began = Instant::now();
    let mut wrong = String::new();
    while began.elapsed() < HEALED {
        subject.live_for(Duration::from_millis(200)).await;
        match look(subject, outside, before).await {
            Ok(footprint) => {
                outside.pause(false).await;
                return footprint;
            }
            Err(why) => wrong = why,
        }
    }
    panic!("not well {HEALED:?} after the last fault: {wrong}\n{}", subject.last_words());
}

async fn look(
    subject: &Subject,
    outside: &Outside,
    before: Option<&Footprint>,
) -> Result<Footprint, String> {
    subject.is_idle().await?;
    outside.has_come(subject)?;
    let footprint = subject.footprint();
    before.map_or(Ok(()), |before| footprint.is_back_at(before))?;
    Ok(footprint)
}
