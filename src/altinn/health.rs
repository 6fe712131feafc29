//! Whether a subscription works: what Altinn says of it, whether its feed can be read, and which
//! way its events come. And the log line when that changes.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    feed::push_gap::PushGap,
    subscriptions::status::{Status, SubscriptionStatus},
};
use crate::{
    clock::{Clock, Timestamp},
    metrics::{HookLabels, Metrics},
    name::HookName,
};

/// What is wrong with a subscription, in words for people; nothing if it works.
pub fn troubles(name: &HookName, state: &Status, watch: &PushGap) -> Vec<String> {
    let known = state.subscriptions.get(name).cloned().unwrap_or_default();
    let ways = watch.ways(name);
    let mut troubles = Vec::new();
    if let Some(error) = &state.error {
        troubles.push(format!("the subscription cannot be looked after: {error}"));
    }
    if let Some(error) = &known.error {
        troubles.push(format!("Altinn does not take the subscription: {error}"));
    }
    match known {
        SubscriptionStatus { checked: None, .. } | SubscriptionStatus { validated: true, .. } => {}
        SubscriptionStatus { id: None, .. } => {
            troubles.push("Altinn does not have the subscription".to_owned());
        }
        SubscriptionStatus { id: Some(_), .. } => {
            troubles.push("the subscription is not validated: nothing is pushed".to_owned());
        }
    }
    if let Some(words) = &ways.trouble {
        troubles.push(format!("the feed cannot be read: {words}"));
    }
    if watch.is_silent(name) {
        troubles.push("the feed brings events that Altinn did not push".to_owned());
    }
    troubles
}

/// Looks at all subscriptions again and again, and says what has changed.
#[derive(Debug)]
pub struct Monitor {
    /// The subscriptions.
    pub names: Vec<HookName>,
    /// What Altinn says of them.
    pub state: watch::Receiver<Status>,
    /// Which way events come.
    pub watch: PushGap,
    /// Between two looks.
    pub interval: Duration,
    /// A subscription may be missing or not validated for so long before that is told: it is so
    /// at first, and after each change.
    pub grace: Duration,
    /// Now.
    pub clock: Clock,
    /// Where it is shown.
    pub metrics: Metrics,
}

impl Monitor {
    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        match stop.run_until_cancelled(self.look_for_ever()).await {
            None => Ok(()),
            Some(never) => match never {},
        }
    }

    async fn look_for_ever(&mut self) -> Infallible {
        let mut told: BTreeMap<HookName, Vec<String>> = BTreeMap::new();
        loop {
            let state = self.state.borrow_and_update().clone();
            let now = self.clock.now();
            for name in &self.names {
                let troubles = troubles(name, &state, &self.watch);
                let degraded = i64::from(!troubles.is_empty());
                let gauge = &self.metrics.subscription_degraded;
                gauge.get_or_create(&HookLabels::new(name)).set(degraded);
                let known = state.subscriptions.get(name);
                if !known.is_some_and(|known| self.is_on_its_way(known, now)) {
                    tell(name, &troubles, told.entry(name.clone()).or_default());
                }
            }
            let due = Instant::now() + self.interval;
            tokio::select! {
                () = sleep_until(due) => {}
                Ok(()) = self.state.changed() => {}
            }
        }
    }

    fn is_on_its_way(&self, known: &SubscriptionStatus, now: Timestamp) -> bool {
        let lately = known.since.is_none_or(|since| now.since(since) < self.grace);
        !known.validated && known.error.is_none() && lately
    }
}

/// One line for each change.
fn tell(name: &HookName, troubles: &[String], told: &mut Vec<String>) {
    if troubles == told.as_slice() {
        return;
    }
    if troubles.is_empty() {
        tracing::info!(subscription = %name, "the subscription works");
    } else {
        let why = troubles.join("; ");
        tracing::warn!(subscription = %name, why, "the subscription is degraded");
    }
    troubles.clone_into(told);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::altinn::{http::error_text::ErrorText, subscriptions::api::SubscriptionId};

    #[test]
    fn each_trouble_is_told_in_words() {
        let name: HookName = "a".parse().unwrap();
        let metrics = Metrics::default();
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let watch = PushGap::new(clock, metrics, Duration::from_secs(1));
        let one = |change: &dyn Fn(&mut Status, &mut SubscriptionStatus)| {
            let mut state = Status::default();
            let mut known = SubscriptionStatus {
                id: Some(SubscriptionId(7)),
                validated: true,
                checked: Some(Timestamp::from_millis(1)),
                ..SubscriptionStatus::default()
            };
            change(&mut state, &mut known);
            state.subscriptions.insert(name.clone(), known);
            troubles(&name, &state, &watch)
        };
        let none: [&str; 0] = [];
        assert_eq!(one(&|_, _| {}), none);
        let validation = ["the subscription is not validated: nothing is pushed"];
        assert_eq!(one(&|_, known| known.validated = false), validation);
        assert_eq!(
            one(&|_, known| (known.validated, known.id) = (false, None)),
            ["Altinn does not have the subscription"]
        );
        assert_eq!(
            one(&|state, _| state.error = Some(ErrorText::new("no token"))),
            ["the subscription cannot be looked after: no token"]
        );
        assert_eq!(
            one(&|_, known| known.error = Some(ErrorText::new("no"))),
            ["Altinn does not take the subscription: no"]
        );
        // Not yet asked.
        assert_eq!(troubles(&name, &Status::default(), &watch), none);
        watch.read(&name, Some(ErrorText::new("no feed")));
        assert_eq!(one(&|_, _| {}), ["the feed cannot be read: no feed"]);
        watch.read(&name, None);
        assert_eq!(one(&|_, _| {}), none);
    }
}
