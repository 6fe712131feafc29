//! A dead letter again.

use super::{Admin, Fault};
use crate::{
    metrics::HookLabels,
    queue::{Appended, DeadLetterId, Letter, Queue},
};

impl<Q: Queue> Admin<Q> {
    /// Makes it a delivery again. An undecodable push is decoded anew: what it is now is stored, then
    /// the letter goes; one that ends between the two comes again and is a duplicate.
    pub(super) async fn retry(&self, id: &DeadLetterId) -> Result<(), Fault> {
        let push = match id {
            DeadLetterId::Delivery(..) => return Ok(self.queue.revive(id).await?),
            DeadLetterId::Raw(_) => match self.queue.dead_letter(id).await?.letter {
                Letter::Raw(push) => push,
                Letter::Event(_) => return Err(Fault::NotFound),
            },
        };
        let arrivals = (self.outside.redecode)(&push).map_err(Fault::Undecodable)?;
        let appended = self.queue.append(arrivals.clone()).await?;
        self.queue.discard(id).await?;
        for (arrival, appended) in arrivals.iter().zip(appended) {
            let labels = HookLabels::new(&push.hook);
            let outcome = if appended == Appended::Duplicate {
                self.metrics.duplicates.get_or_create(&labels).inc();
                "duplicate"
            } else {
                self.metrics.stored.get_or_create(&labels).inc();
                (self.outside.on_stored)(arrival);
                "stored"
            };
            let event = arrival.event.attributes();
            tracing::info!(
                event.id = %event.id, event.source = %event.source, event.type = %event.ty,
                hook = %push.hook, outcome, "event from a dead letter"
            );
        }
        Ok(())
    }
}
