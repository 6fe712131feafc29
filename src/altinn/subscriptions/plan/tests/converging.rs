//! Any desired and observed sets, changing and interrupted at any point, with Altinn's side played.

use super::*;

/// Altinn, this store, and what only an onlooker knows.
#[derive(Debug, Default)]
struct World {
    rows: Vec<Observed>,
    last: i64,
    history: History,
    now: Timestamp,
    /// When a row really was validated.
    validated: BTreeMap<SubscriptionId, Timestamp>,
    /// Rows that were made by us.
    made: Vec<SubscriptionId>,
}

impl World {
    fn new(rows: Vec<Observed>) -> Self {
        let last = i64::try_from(rows.len()).unwrap();
        let validated = rows.iter().filter(|row| row.validated);
        let validated = validated.map(|row| (row.id, NOW)).collect();
        Self { last, validated, now: NOW, rows, ..Self::default() }
    }

    /// One look, of which only the first `steps` steps are done.
    fn look(&mut self, desired: &[Desired], steps: usize) -> Plan {
        observed(&mut self.history, desired, &self.rows, self.now);
        let (base, posted) = (base(), BTreeMap::new());
        let context = Context { now: self.now, history: &self.history, ..context(&base, &posted) };
        let plan = plan(desired, &self.rows, &context);
        self.judge(desired, &plan);
        for change in plan.changes.iter().take(steps) {
            self.post(change);
        }
        let gone = plan.stale.iter().filter(|stale| stale.fate == Fate::Remove);
        for stale in gone.take(steps.saturating_sub(plan.changes.len())) {
            self.rows.retain(|row| row.id != stale.id);
        }
        plan
    }

    /// What Altinn does: what exists is validated anew, the rest is added.
    fn post(&mut self, change: &Change) {
        let wanted = Desired { name: change.name.clone(), spec: change.spec.clone() };
        match change.action {
            Action::Create(_) => {
                self.history.asks(&change.name, &code_of(&change.spec.endpoint).unwrap());
                self.last += 1;
                self.made.push(SubscriptionId(self.last));
                self.rows.push(row(self.last, &wanted, false));
            }
            Action::Revalidate(id) | Action::Wait(id) => {
                self.rows.iter_mut().find(|row| row.id == id).unwrap().validated = true;
                self.validated.insert(id, self.now);
            }
            Action::LeaveAlone(_) => {}
        }
    }

    /// No removal is a foreign one, or comes before what replaces it has stood for the overlap.
    fn judge(&self, desired: &[Desired], plan: &Plan) {
        let kept = |wanted: &Desired| {
            plan.changes.iter().find(|change| change.name == wanted.name).unwrap().action
        };
        for stale in plan.stale.iter().filter(|stale| stale.fate == Fate::Remove) {
            let row = self.rows.iter().find(|row| row.id == stale.id).unwrap();
            assert!(is_ours(row) && !plan.foreign.contains(&stale.id), "{row:?}");
            let replaces = |wanted: &&Desired| match stale.reason {
                StaleReason::NotConfigured => true,
                StaleReason::Duplicate | StaleReason::OtherCode | StaleReason::OtherFilters => {
                    wanted.name.as_str() == stale.name
                }
            };
            for wanted in desired.iter().filter(replaces) {
                let Action::LeaveAlone(kept) = kept(wanted) else { panic!("{stale:?} too early") };
                assert_ne!(kept, stale.id);
                let stood = self.now.since(self.validated[&kept]);
                assert!(stood >= OVERLAP || stale.reason == StaleReason::Duplicate, "{stood:?}");
            }
            let ours = self.made.contains(&stale.id);
            assert!(stale.reason != StaleReason::NotConfigured || ours || self.known(row));
        }
    }

    /// Whether its code is one that we have asked with, although another made the row.
    fn known(&self, row: &Observed) -> bool {
        let sorted = split(std::slice::from_ref(row), &base()).0;
        self.history.asked(&sorted[0].name, sorted[0].code.as_ref().unwrap())
    }
}

proptest! {
    #[test]
    fn planning_and_applying_converges_and_removes_nothing_too_early(
        stages in prop::collection::vec((any_desired(), 0..8_usize, 0..5_000_u64), 1..8),
        rows in any_rows(),
    ) {
        let mut world = World::new(rows);
        let foreign: Vec<_> = world.rows.iter().filter(|row| !is_ours(row)).cloned().collect();
        for (desired, steps, seconds) in &stages {
            world.look(desired, *steps);
            world.now = world.now.after(Duration::from_secs(*seconds));
        }
        let (desired, _, _) = stages.last().unwrap();
        // Created; validated; seen validated; removed.
        for _ in 0..4 {
            world.look(desired, usize::MAX);
            world.now = world.now.after(OVERLAP);
        }
        let end = world.look(desired, usize::MAX);
        let good = |change: &Change| matches!(change.action, Action::LeaveAlone(_));
        prop_assert!(end.changes.iter().all(good), "{:?}", end.changes);
        prop_assert_eq!(end.changes.len(), desired.len());
        let left = |stale: &Stale| {
            stale.fate == Fate::Report && stale.reason == StaleReason::NotConfigured
        };
        prop_assert!(end.stale.iter().all(left), "{:?}", end.stale);
        let still: Vec<_> = world.rows.iter().filter(|row| !is_ours(row)).cloned().collect();
        prop_assert_eq!(still, foreign);
    }
}
