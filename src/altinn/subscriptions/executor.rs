//! Carries out a plan: posts what is missing, then removes what may go.
//!
//! Owns the order, and that what concerns one subscription only does not keep the others from being
//! tried. Whether a step is taken now, and what is told of it, is its [`Progress`]'s.

use super::{
    api::Observed,
    plan::{Change, Fate, Plan, Stale},
};
use crate::altinn::{
    auth::token::TokenSource,
    events_api::{ApiError, EventsApi},
};

/// Who paces a plan's steps and is told of each.
pub(super) trait Progress {
    /// Whether this one is to be asked for now.
    fn may_post(&self, change: &Change) -> bool;

    /// Told before it is asked for.
    fn posting(&mut self, change: &Change);

    /// Told what Altinn answered.
    fn posted(&mut self, change: &Change, answer: Result<&Observed, &ApiError>);

    /// Whether this one is to be removed now.
    fn may_remove(&mut self, stale: &Stale) -> bool;

    /// Told what Altinn answered. One that was gone already is removed.
    fn removed(&mut self, stale: &Stale, answer: Result<(), &ApiError>);
}

/// The changes that [`execute`] would ask Altinn for.
pub(super) fn posts<'p>(plan: &'p Plan, progress: &impl Progress) -> Vec<&'p Change> {
    let posts = plan.changes.iter().filter(|change| change.action.is_post());
    posts.filter(|change| progress.may_post(change)).collect()
}

/// Takes the steps, one after the other. An error ends it that would meet every step.
pub(super) async fn execute<T: TokenSource>(
    events: &EventsApi<T>,
    plan: &Plan,
    progress: &mut (impl Progress + Send),
) -> Result<(), ApiError> {
    for change in posts(plan, progress) {
        progress.posting(change);
        let answer = events.create(&change.spec).await;
        progress.posted(change, answer.as_ref());
        go_on(answer.map(drop))?;
    }
    for stale in plan.stale.iter().filter(|stale| stale.fate == Fate::Remove) {
        if !progress.may_remove(stale) {
            continue;
        }
        let answer = match events.delete(stale.id).await {
            Err(ApiError::NotFound) => Ok(()),
            answer => answer,
        };
        progress.removed(stale, answer.as_ref().copied());
        go_on(answer)?;
    }
    Ok(())
}

fn go_on(answer: Result<(), ApiError>) -> Result<(), ApiError> {
    match answer {
        Err(error) if !error.concerns_one() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
