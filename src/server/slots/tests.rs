use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const SHARE: usize = 4;

#[expect(clippy::unnecessary_wraps, reason = "a holder may be none")]
fn peer(number: u8) -> Holder {
    Some(Network::host(Ipv4Addr::new(127, 0, 0, number).into()))
}

struct House {
    table: Table,
    told: HashMap<Id, Told>,
}

impl House {
    fn new(most: usize) -> Self {
        Self { table: Table::new(most), told: HashMap::new() }
    }

    fn enter(&mut self, holder: Holder) -> Result<(Id, Option<Eviction>), NoSlot> {
        let told = Told::default();
        let entered = self.table.enter(holder, SHARE, false, told.clone())?;
        self.told.insert(entered.id, told);
        Ok((entered.id, entered.eviction))
    }

    fn id(&mut self, holder: Holder) -> Id {
        self.enter(holder).unwrap().0
    }

    fn gone(&self, id: Id) -> bool {
        self.told[&id].gone.is_cancelled()
    }

    fn leaving(&self, id: Id) -> bool {
        self.told[&id].leaving.is_cancelled()
    }
}

#[test]
fn a_peer_over_its_share_displaces_its_own_longest_idle_connection() {
    let mut house = House::new(100);
    let other = house.id(peer(2));
    let own: Vec<Id> = (0..SHARE).map(|_| house.id(peer(1))).collect();
    house.table.got_on(own[0]);
    let (_, eviction) = house.enter(peer(1)).unwrap();
    assert_eq!(eviction, Some(Eviction::Share));
    assert!(house.gone(own[1]) && !house.gone(own[0]) && !house.gone(other));
}

#[test]
fn who_holds_most_gives_up_a_slot_first() {
    let mut house = House::new(6);
    let first = house.id(peer(9));
    let many: Vec<Id> = (0..3).map(|_| house.id(peer(1))).collect();
    let two: Vec<Id> = (0..2).map(|_| house.id(peer(2))).collect();
    // Longest idle of all is the first one, but its peer has no other.
    assert_eq!(house.enter(peer(3)).unwrap().1, Some(Eviction::Full));
    assert!(house.gone(many[0]));
    // Two peers with two each: now the longest idle one counts.
    house.id(peer(4));
    assert!(house.gone(many[1]));
    house.id(peer(5));
    assert!(house.gone(two[0]) && !house.gone(first));
}

#[test]
fn proven_connections_go_last_gently_and_never_with_a_request_under_way() {
    let mut house = House::new(3);
    let busy = house.id(peer(1));
    house.table.prove(busy);
    house.table.began(busy);
    let idle = house.id(peer(2));
    house.table.prove(idle);
    let unproven = house.id(peer(3));
    assert_eq!(house.enter(peer(4)).unwrap().1, Some(Eviction::Full));
    assert!(house.gone(unproven) && !house.leaving(idle));
    let fourth = *house.told.keys().max().unwrap();
    house.table.prove(fourth);
    house.table.began(fourth);
    let fifth = house.id(peer(5));
    assert!(house.leaving(idle) && !house.gone(idle));
    house.table.prove(fifth);
    house.table.began(fifth);
    assert_eq!(house.enter(peer(6)), Err(NoSlot::Full));
    house.table.ended(busy);
    house.id(peer(6));
    assert!(house.leaving(busy));
}

#[test]
fn a_share_in_use_by_requests_is_not_exceeded() {
    let mut house = House::new(100);
    for _ in 0..SHARE {
        let id = house.id(peer(1));
        house.table.prove(id);
        house.table.began(id);
    }
    assert_eq!(house.enter(peer(1)), Err(NoSlot::Share));
    assert!(house.enter(peer(2)).is_ok());
    assert!(house.enter(None).is_ok());
}

#[test]
fn an_answer_makes_no_unproven_connection_younger() {
    let mut house = House::new(2);
    let asked = house.id(peer(1));
    house.table.began(asked);
    let silent = house.id(peer(2));
    house.table.ended(asked);
    house.id(peer(3));
    assert!(house.gone(asked) && !house.gone(silent));
}

#[test]
fn what_a_proxy_names_counts_for_whom_it_names() {
    let mut house = House::new(100);
    for _ in 0..2 * SHARE {
        assert_eq!(house.enter(None).unwrap().1, None, "a proxy has no share");
    }
    let behind: Vec<Id> = (0..=SHARE).map(|_| house.id(None)).collect();
    for id in &behind[..SHARE] {
        assert_eq!(house.table.belongs_to(*id, peer(1), SHARE), Ok(None));
    }
    let last = house.table.belongs_to(behind[SHARE], peer(1), SHARE);
    assert_eq!(last, Ok(Some(Eviction::Share)));
    assert!(house.gone(behind[0]));
    // What has gone has no say any more.
    assert_eq!(house.table.belongs_to(behind[0], peer(2), SHARE), Ok(None));
    house.table.prove(behind[0]);
    house.table.leave(behind[0]);
}

#[test]
fn shedding_ends_what_has_proved_nothing_and_nothing_else() {
    let mut house = House::new(9);
    let proven = house.id(peer(1));
    house.table.prove(proven);
    let unproven = house.id(peer(2));
    assert!(house.table.shed());
    assert!(house.gone(unproven));
    assert!(!house.table.shed());
    assert!(!house.leaving(proven) && !house.gone(proven));
}

#[derive(Debug, Clone)]
enum Step {
    Enter(u8),
    Leave(usize),
    GotOn(usize),
    Prove(usize),
    Began(usize),
    Ended(usize),
    BelongsTo(usize, u8),
    Shed,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..40;
    prop_oneof![
        6 => (0u8..6).prop_map(Step::Enter),
        1 => which.clone().prop_map(Step::Leave),
        1 => which.clone().prop_map(Step::GotOn),
        1 => which.clone().prop_map(Step::Prove),
        1 => which.clone().prop_map(Step::Began),
        1 => which.clone().prop_map(Step::Ended),
        1 => (which, 0u8..6).prop_map(|(id, peer)| Step::BelongsTo(id, peer)),
        1 => Just(Step::Shed),
    ]
}

/// A holder; 0 is one without a share.
fn holder(number: u8) -> Holder {
    if number == 0 { None } else { peer(number) }
}

proptest! {
    #[test]
    fn whatever_happens_the_bounds_hold_and_the_books_agree(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        const MOST: usize = 9;
        let mut house = House::new(MOST);
        let mut ids: Vec<Id> = Vec::new();
        let at = |ids: &[Id], place: usize| ids.get(place % ids.len().max(1)).copied().unwrap_or(0);
        for step in steps {
            let before: HashMap<Holder, usize> =
                house.table.groups.iter().map(|(holder, group)| (*holder, group.unproven.len())).collect();
            let most_unproven = before.values().max().copied().unwrap_or(0);
            match step {
                Step::Enter(number) => {
                    let full = house.table.slots.len() == MOST;
                    let entered = house.enter(holder(number));
                    if let Ok((id, eviction)) = entered {
                        ids.push(id);
                        let lost: Vec<_> = before.iter().filter(|(holder, count)| {
                            let left = house.table.groups.get(*holder).map_or(0, |group| group.unproven.len());
                            left < **count
                        }).collect();
                        // Only the heaviest loses to another peer.
                        for (loser, count) in lost {
                            prop_assert!(eviction.is_some());
                            prop_assert!(*loser == holder(number) || *count == most_unproven);
                        }
                    } else {
                        prop_assert!(entered == Err(NoSlot::Share) || full);
                    }
                }
                Step::Leave(place) => house.table.leave(at(&ids, place)),
                Step::GotOn(place) => house.table.got_on(at(&ids, place)),
                Step::Prove(place) => house.table.prove(at(&ids, place)),
                Step::Began(place) => house.table.began(at(&ids, place)),
                Step::Ended(place) => house.table.ended(at(&ids, place)),
                Step::BelongsTo(place, number) => {
                    let moved = house.table.belongs_to(at(&ids, place), holder(number), SHARE);
                    prop_assert_ne!(moved, Err(NoSlot::Full));
                }
                Step::Shed => { house.table.shed(); }
            }
            let table = &house.table;
            prop_assert!(table.slots.len() <= MOST);
            let mut total = 0;
            for (holder, group) in &table.groups {
                total += group.total;
                prop_assert!(group.total > 0 && (holder.is_none() || group.total <= SHARE));
                for id in group.unproven.values() {
                    prop_assert!(!table.slots[id].proven && !house.gone(*id));
                }
                for id in group.idle.values() {
                    prop_assert!(table.slots[id].proven && table.slots[id].requests == 0);
                }
            }
            prop_assert_eq!(total, table.slots.len());
            let weighed = |of: fn(&Group) -> usize| table.groups.values().filter(|group| of(group) > 0).count();
            prop_assert_eq!(table.unproven.len(), weighed(|group| group.unproven.len()));
            prop_assert_eq!(table.idle.len(), weighed(|group| group.idle.len()));
        }
    }
}
