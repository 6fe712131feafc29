//! A change at Altinn, step by step: the stand-in stops at a step, the daemon is killed there, events
//! come meanwhile, and the next start has to finish it.

use std::num::NonZeroU32;

use brevdue::simulator::options::Options;
use serde_json::{Value, json};

use super::{daemon::Daemon, eventually, world::World};

/// Keys of `[altinn]`: everything at once, as far as the order of things allows it.
pub(crate) const QUICK: &str = "reconcile_interval = \"1s\"\noverlap = \"1s\"\n";

/// Where a change is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The daemon has asked what Altinn has.
    List,
    /// It has asked for the new one, and Altinn has done nothing yet.
    Post,
    /// Altinn has the new one, and the daemon does not know.
    Posted,
    /// Altinn has the new one, and has not asked for its validation.
    NotValidated,
    /// Both are validated; the overlap is not over.
    Overlap,
    /// It has asked for the removal, and Altinn has done nothing yet.
    Delete,
    /// The old one is removed, and the daemon does not know.
    Deleted,
}

/// All of them in order.
pub(crate) const STEPS: [Step; 7] = [
    Step::List,
    Step::Post,
    Step::Posted,
    Step::NotValidated,
    Step::Overlap,
    Step::Delete,
    Step::Deleted,
];

/// Altinn's time runs a thousand times as fast: an outage of two minutes is one of 34 hours.
pub(crate) fn fast(options: &mut Options) {
    options.time_scale = NonZeroU32::new(1000).unwrap();
}

/// Starts the daemon, kills it at this step, publishes events while it is dead, and starts it again.
pub(crate) async fn until_killed(world: &World, step: Step) -> Daemon {
    let fault = match step {
        Step::List => json!({ "hang": "list" }),
        Step::Post => json!({ "hang": "post" }),
        Step::Posted => json!({ "hang": "post-done" }),
        Step::NotValidated => json!({ "events": "500-after-insert" }),
        Step::Overlap => json!({}),
        Step::Delete => json!({ "hang": "delete" }),
        Step::Deleted => json!({ "hang": "delete-done" }),
    };
    world.tell_altinn("faults", &fault).await;
    let hanging = hanging(world).await;
    let daemon = Daemon::start(&world.config, world.folder.path()).await;
    eventually(&format!("{step:?}"), || async {
        let reached = match step {
            Step::NotValidated => rows(world).await.iter().any(|row| row["validated"] == false),
            Step::Overlap => {
                let rows = rows(world).await;
                rows.len() == 2 && rows.iter().all(|row| row["validated"] == true)
            }
            Step::List | Step::Post | Step::Posted | Step::Delete | Step::Deleted => {
                self::hanging(world).await > hanging
            }
        };
        reached.then_some(())
    })
    .await;
    daemon.kill();
    world.tell_altinn("faults", &json!({})).await;
    world.publish(3).await;
    Daemon::start(&world.config, world.folder.path()).await
}

async fn hanging(world: &World) -> u64 {
    world.altinn("requests").await["hanging"].as_u64().unwrap()
}

/// All that Altinn has, of anyone.
pub(crate) async fn rows(world: &World) -> Vec<Value> {
    serde_json::from_value(world.altinn("subscriptions").await).unwrap()
}

/// Waits until there is one row, validated, and it is not the old one.
pub(crate) async fn one_is_left(world: &World, old: &Value) -> Value {
    eventually("the new subscription alone", || async {
        let rows = rows(world).await;
        let [row] = rows.as_slice() else { return None };
        (row["validated"] == true && row["id"] != *old).then(|| row.clone())
    })
    .await
}

/// Publishes some more, and sees that all that was ever published has been delivered, and once.
pub(crate) async fn each_came_once(world: &World, step: Step) {
    world.publish(3).await;
    let published = world.published();
    eventually(&format!("all that was published: {step:?}"), || async {
        published.iter().all(|id| !world.receiver.of(id).is_empty()).then_some(())
    })
    .await;
    world.once_each(&published).await;
}
