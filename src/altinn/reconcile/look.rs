//! One look at Altinn: list, compare, remember, post, remove.
//!
//! Owns the order. Everything is remembered before it is done, so that a process that dies between
//! two steps finds its way on from what Altinn then has.

use tokio::time::Instant;

use super::{Look, LookError, Pause, Reconciler};
use crate::{
    altinn::{
        api::{ApiError, SubscriptionId},
        memory::Memory,
        plan::{Action, Change, Context, Fate, Plan, Posted, Stale, plan, sort},
        token::TokenSource,
    },
    clock::Timestamp,
    name::HookName,
};

impl<T: TokenSource> Reconciler<T> {
    pub(super) async fn look(&mut self) -> Result<Look, LookError> {
        let looked = self.compare_and_act().await;
        if let Err(error) = &looked {
            let words = error.words();
            self.state.send_modify(|state| state.failed(words));
        }
        looked
    }

    async fn compare_and_act(&mut self) -> Result<Look, LookError> {
        let desired = (self.local.desired)();
        let observed = self.events.list().await?;
        let now = self.events.clock().now();
        let held = (self.local.held)();
        let public_url = &self.local.public_url;
        let memory = self.local.memory.update(|memory| {
            memory.observe(&held, &sort(&observed, public_url).0, now);
            memory.clone()
        })?;
        (self.local.remembered)(&memory);
        let context = Context {
            public_url,
            now,
            patience: self.timing.patience,
            posted: &self.posted,
            created_counts: false,
            memory: &memory,
            overlap: self.local.overlap,
            adopt: false,
        };
        let plan = plan(&desired, &observed, &context);
        self.state.send_modify(|state| state.observe(&plan, now, self.events.metrics()));
        self.forget(&plan);
        self.prepare(&plan, &memory).await?;
        let mut look = Look::Settled;
        for change in &plan.changes {
            look = look.and(self.act(change).await?);
        }
        self.remove_all(&plan.stale, now).await?;
        Ok(look)
    }

    /// Before the first post: our endpoint is proven, and it is remembered what is asked.
    async fn prepare(&mut self, plan: &Plan, memory: &Memory) -> Result<(), LookError> {
        let posts = plan.changes.iter().filter(|change| change.action.is_post());
        let posts: Vec<_> = posts.filter(|change| !self.paused(change)).collect();
        if posts.is_empty() {
            return Ok(());
        }
        if let Some(proof) = &mut self.local.proof {
            proof.prove().await?;
        }
        let held: Vec<_> = (self.local.held)().into_iter().filter(|held| held.current).collect();
        let asked = held.iter().filter(|held| posts.iter().any(|change| change.name == held.name));
        let new: Vec<_> =
            asked.filter(|held| !memory.asked(held.name.as_str(), &held.code)).collect();
        if !new.is_empty() {
            let note = |memory: &mut Memory| {
                new.iter().for_each(|held| memory.asks(&held.name, &held.code));
            };
            self.local.memory.update(note)?;
        }
        Ok(())
    }

    /// Drops what was kept about names that are not wanted or not missing any more.
    fn forget(&mut self, plan: &Plan) {
        let find = |name: &HookName| plan.changes.iter().find(|change| change.name == *name);
        self.posted.retain(|name, _| find(name).is_some());
        self.pauses.retain(|name, pause| {
            find(name).is_some_and(|change| change.action.is_post() && change.spec == pause.spec)
        });
        let stale = |id: SubscriptionId| plan.stale.iter().any(|stale| stale.id == id);
        self.removals.retain(|id, _| stale(*id));
    }

    async fn act(&mut self, change: &Change) -> Result<Look, ApiError> {
        match change.action {
            Action::LeaveAlone(_) => Ok(Look::Settled),
            Action::Wait(_) => Ok(Look::Awaiting { asked: false }),
            Action::Create(_) | Action::Revalidate(_) if self.paused(change) => Ok(Look::Settled),
            Action::Create(_) | Action::Revalidate(_) => self.post(change).await,
        }
    }

    fn paused(&self, change: &Change) -> bool {
        self.pauses.get(&change.name).is_some_and(|pause| Instant::now() < pause.until)
    }

    async fn post(&mut self, change: &Change) -> Result<Look, ApiError> {
        // Also after success: should Altinn's list never show what it took, we ask ever less often.
        self.pause(change);
        let answer = self.events.create(&change.spec).await;
        let now = self.events.clock().now();
        let told = answer.as_ref().map(|row| (row.id, row.validated));
        self.state
            .send_modify(|state| state.posted(&change.name, told, now, self.events.metrics()));
        match answer {
            Ok(row) => {
                let posted = Posted { id: row.id, spec: change.spec.clone(), at: now };
                self.posted.insert(change.name.clone(), posted);
                // Only a list begins an overlap, so even a validated one is looked at again.
                Ok(Look::Awaiting { asked: true })
            }
            Err(error) if error.concerns_one() => Ok(Look::Settled),
            Err(error) => Err(error),
        }
    }

    fn pause(&mut self, change: &Change) {
        let times = self.pauses.get(&change.name).map_or(0, |pause| pause.times).saturating_add(1);
        let until = Instant::now() + self.timing.retry.delay(times, fastrand::f64());
        let pause = Pause { spec: change.spec.clone(), times, until };
        self.pauses.insert(change.name.clone(), pause);
    }

    /// Removes what may go now, and notes when the next may.
    async fn remove_all(&mut self, stale: &[Stale], now: Timestamp) -> Result<(), ApiError> {
        let later = stale.iter().filter_map(|stale| match stale.fate {
            Fate::Keep { until } => until,
            Fate::Remove | Fate::Report => None,
        });
        self.over = later.min().map(|until| Instant::now() + until.since(now));
        for stale in stale.iter().filter(|stale| stale.fate == Fate::Remove) {
            self.remove(stale).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, stale: &Stale) -> Result<(), ApiError> {
        let (times, until) = self.removals.get(&stale.id).copied().unwrap_or((0, Instant::now()));
        if Instant::now() < until {
            return Ok(());
        }
        let times = times.saturating_add(1);
        let until = Instant::now() + self.timing.retry.delay(times, fastrand::f64());
        self.removals.insert(stale.id, (times, until));
        let answer = self.events.delete(stale.id).await;
        match answer {
            Ok(()) | Err(ApiError::NotFound) => {
                self.state.send_modify(|state| state.removed(stale));
                self.removals.remove(&stale.id);
                Ok(())
            }
            Err(error) if error.concerns_one() => {
                if times == 1 {
                    tracing::warn!(id = %stale.id, hook = stale.name, "cannot remove a subscription: {error}");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
