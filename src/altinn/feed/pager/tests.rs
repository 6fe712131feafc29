use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

const HOUR: u64 = 3600 * 1000;
const DAY: u64 = 24 * HOUR;
const START: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// An item of the feed, its number being its content.
fn item(number: usize, time: u64) -> Item<usize> {
    Item { id: Some(number.to_string()), time: Some(at(time)), content: number }
}

fn items(numbers: impl IntoIterator<Item = usize>) -> Page<usize> {
    Page::Items(numbers.into_iter().map(|number| item(number, START)).collect())
}

fn taken(outcome: Outcome<usize>) -> Vec<usize> {
    let Outcome::Take(chunks) = outcome else { panic!("{outcome:?}") };
    chunks.into_iter().flat_map(|chunk| chunk.items).collect()
}

fn resume(cursor: Cursor) -> Pager<usize> {
    Pager::resume(cursor, StartAt::Now, SIZE)
}

fn after(number: usize) -> Cursor {
    Cursor::oldest(at(START)).at(&number.to_string(), Some(at(START)), at(START))
}

#[test]
fn a_short_page_is_not_the_end_and_an_empty_one_is() {
    let mut paging = resume(Cursor::oldest(at(START)));
    assert_eq!(paging.ask(), Ask { after: "0", size: 1000 });
    assert_eq!(taken(paging.answered(items([1, 2]), at(START))), [1, 2]);
    assert_eq!(paging.ask(), Ask { after: "2", size: 1000 });
    assert_eq!(taken(paging.answered(items([3]), at(START))), [3]);
    assert_eq!(paging.ask().after, "3");
    // Nothing changed since the last chunk, so nothing is to be kept.
    assert_eq!(paging.answered(items([]), at(START)), Outcome::End(None));
}

#[test]
fn a_page_is_stored_in_chunks_each_with_its_cursor() {
    let mut paging = resume(after(0));
    let Outcome::Take(chunks) = paging.answered(items(1..=250), at(START)) else { panic!() };
    let seen: Vec<_> =
        chunks.iter().map(|chunk| (chunk.items.len(), chunk.cursor.id.clone().unwrap())).collect();
    let expected = [(100, "100"), (100, "200"), (50, "250")];
    assert_eq!(seen, expected.map(|(count, id)| (count, id.to_owned())));
}

#[test]
fn starting_now_discards_to_the_end_and_keeps_the_last_id() {
    let mut paging: Pager<usize> = Pager::discard(at(START));
    assert_eq!(paging.answered(items([1, 2]), at(START)), Outcome::Again);
    assert_eq!(paging.answered(items([3]), at(START)), Outcome::Again);
    let Outcome::End(Some(cursor)) = paging.answered(items([]), at(START)) else { panic!() };
    assert_eq!((cursor.after(), cursor.floor), ("3", None));
    // An empty feed has a cursor, too: what comes later is new.
    let mut paging: Pager<usize> = Pager::discard(at(START));
    let Outcome::End(Some(cursor)) = paging.answered(items([]), at(START)) else { panic!() };
    assert_eq!(cursor.after(), "0");
}

#[test]
fn items_without_an_id_wait_for_one_with_an_id() {
    let nameless = |content| Item { id: None, time: None, content };
    let mut paging = resume(after(0));
    let page = Page::Items(vec![nameless(1), item(2, START), nameless(3)]);
    assert_eq!(taken(paging.answered(page, at(START))), [1, 2]);
    assert_eq!(paging.ask().after, "2");
    let stuck = paging.answered(Page::Items(vec![nameless(3)]), at(START));
    assert!(matches!(stuck, Outcome::Stuck(_) | Outcome::Last(..)), "{stuck:?}");
}

#[test]
fn a_page_that_is_too_large_is_asked_for_in_smaller_parts() {
    let mut paging = resume(after(0));
    assert_eq!(paging.answered(Page::TooLarge, at(START)), Outcome::Again);
    assert_eq!(paging.ask(), Ask { after: "0", size: 500 });
    assert_eq!(taken(paging.answered(items([1]), at(START))), [1]);
    assert_eq!(paging.ask(), Ask { after: "1", size: 1000 });
    // An empty small page is not believed.
    assert_eq!(paging.answered(Page::TooLarge, at(START)), Outcome::Again);
    assert_eq!(paging.answered(items([]), at(START)), Outcome::Again);
    assert_eq!(paging.ask().size, 750);
    for _ in 0..20 {
        if paging.answered(Page::TooLarge, at(START)) != Outcome::Again {
            return;
        }
    }
    panic!("never stuck");
}

#[test]
fn a_feed_that_goes_in_a_circle_is_left_wherever_the_circle_begins() {
    for (before, circle) in [(0, 1), (0, 7), (1, 1), (5, 3), (100, 64)] {
        let mut paging = resume(after(0));
        let pages = (1..=before).chain((before + 1..=before + circle).cycle());
        let asked = pages.take_while(|number| {
            !matches!(
                paging.answered(items([*number]), at(START)),
                Outcome::Stuck(_) | Outcome::Last(..)
            )
        });
        let asked = asked.take(10_000).count();
        assert!(asked <= 4 * (before + circle), "{before} {circle}: {asked}");
    }
}

#[test]
fn a_small_empty_page_is_never_the_end_and_large_ones_are_asked_for_only_there() {
    let mut paging = Pager::resume(after(0), StartAt::Now, 125);
    assert_eq!(paging.ask().size, 125);
    assert_eq!(taken(paging.answered(items([1]), at(START))), [1]);
    assert_eq!(paging.ask().size, 125);
    for size in [250, 500, 1000] {
        assert_eq!(paging.answered(items([]), at(START)), Outcome::Again);
        assert_eq!(paging.ask(), Ask { after: "1", size });
    }
    assert_eq!(taken(paging.answered(items([2]), at(START))), [2]);
    assert_eq!(paging.ask(), Ask { after: "2", size: 125 });
    for _ in 0..3 {
        assert_eq!(paging.answered(items([]), at(START)), Outcome::Again);
    }
    assert_eq!(paging.answered(items([]), at(START)), Outcome::End(None));
}

#[test]
fn old_items_after_a_cursor_are_checked_against_the_feeds_beginning() {
    let old = START - 3 * DAY;
    let page = |numbers: &[(usize, u64)]| {
        Page::Items(numbers.iter().map(|(number, time)| item(*number, *time)).collect())
    };
    let answer = [(1, old), (2, START - DAY), (11, START)];
    // The feed's beginning → taken in after cursor 10; whether Altinn lost the cursor.
    for (beginning, start, expected, lost) in [
        // The same, without the cursor.
        (&[(1, old), (2, START)][..], StartAt::Now, &[2, 11][..], true),
        (&[(1, old), (2, START)], StartAt::Oldest, &[1, 2, 11], true),
        // The cursor is there: an event with an old time was stored late.
        (&[(10, START), (1, old)], StartAt::Now, &[1, 2, 11], false),
        // The beginning is another one: the cursor is far from it.
        (&[(7, old), (8, old)], StartAt::Now, &[1, 2, 11], false),
        (&[], StartAt::Now, &[1, 2, 11], false),
        // The night's deletion came between.
        (&[(2, START)], StartAt::Now, &[2, 11], true),
    ] {
        let mut paging = Pager::resume(after(10), start, SIZE);
        assert_eq!(paging.answered(page(&answer), at(START)), Outcome::Again);
        assert_eq!(paging.ask(), Ask { after: "0", size: 1000 });
        assert_eq!(paging.answered(page(beginning), at(START)), Outcome::Again);
        // No page is kept while another one is here.
        assert_eq!(paging.ask(), Ask { after: "10", size: 1000 });
        let outcome = paging.answered(page(&answer), at(START));
        assert_eq!(taken(outcome), expected, "{beginning:?}");
        assert_eq!(paging.restarted(), lost, "{beginning:?}");
        let floored = matches!(paging.answered(page(&[]), at(START)), Outcome::End(Some(cursor)) if cursor.floor.is_none());
        assert_eq!(floored, lost && start == StartAt::Now, "{beginning:?}");
    }
}

#[test]
fn what_was_lost_is_known_after_a_restart_too() {
    let old = START - 3 * DAY;
    let mut paging = resume(after(10));
    let page = || Page::Items((101..=250).map(|number| item(number, old)).collect());
    assert_eq!(paging.answered(page(), at(START)), Outcome::Again);
    assert_eq!(paging.answered(page(), at(START)), Outcome::Again);
    let Outcome::Take(chunks) = paging.answered(page(), at(START)) else { panic!() };
    assert_eq!((chunks[0].items.len(), chunks[0].old), (0, 100));
    // Killed after the first chunk.
    let mut paging = resume(chunks[0].cursor.clone());
    let rest = Page::Items((201..=250).map(|number| item(number, old)).collect());
    let Outcome::Take(chunks) = paging.answered(rest, at(START)) else { panic!() };
    assert_eq!((chunks[0].items.len(), chunks[0].old), (0, 50));
}

/// Altinn's side: rows in the order of storing.
#[derive(Debug, Clone, Default)]
struct Feed {
    rows: Vec<Row>,
    /// A page with more items is too large.
    limit: usize,
}

#[derive(Debug, Clone)]
struct Row {
    time: u64,
    visible: bool,
    gone: bool,
}

impl Feed {
    fn append(&mut self, visible: bool, jitter: u64) {
        // Stored every hour, with a time of up to a day before.
        let hours = u64::try_from(self.rows.len()).unwrap();
        self.rows.push(Row { time: START + hours * HOUR - jitter, visible, gone: false });
    }

    fn extend(&mut self, rows: &[(bool, u64)]) {
        for (visible, jitter) in rows {
            self.append(*visible, *jitter);
        }
    }

    fn page(&self, ask: Ask<'_>) -> Page<usize> {
        let known = |number: &usize| self.rows.get(*number).is_some_and(|row| !row.gone);
        let cursor = ask.after.parse().ok().map(|id: usize| id.wrapping_sub(1)).filter(known);
        let first = cursor.map_or(0, |number| number + 1);
        let kept = (first..self.rows.len()).filter(known);
        let cut = kept.take(ask.size).filter(|number| self.rows[*number].visible);
        let items: Vec<_> = cut
            .map(|number| Item {
                id: Some((number + 1).to_string()),
                time: Some(at(self.rows[number].time)),
                content: number,
            })
            .collect();
        if items.len() > self.limit { Page::TooLarge } else { Page::Items(items) }
    }

    /// Visible rows from `first` on, up to a stretch that no page can see past.
    fn reachable(&self, first: usize, size: usize) -> BTreeSet<usize> {
        let mut reachable = BTreeSet::new();
        let mut hidden = 0;
        for (number, row) in self.rows.iter().enumerate().skip(first) {
            match row {
                Row { gone: true, .. } => {}
                Row { visible: true, .. } => {
                    hidden = 0;
                    reachable.insert(number);
                }
                Row { visible: false, .. } => hidden += 1,
            }
            if hidden >= size {
                break;
            }
        }
        reachable
    }
}

/// Our side: what survives.
#[derive(Debug, Clone)]
struct Store {
    cursor: Cursor,
    events: BTreeSet<usize>,
}

impl Store {
    /// Reads to the end, or until it is killed after `steps` steps.
    fn read(&mut self, feed: &Feed, (usual, largest): (usize, usize), mut steps: usize) -> bool {
        let mut step = || {
            let alive = steps > 0;
            steps = steps.saturating_sub(1);
            alive
        };
        let now = at(START + 10_000 * HOUR);
        let mut paging = Pager::resume(self.cursor.clone(), StartAt::Now, usual.min(largest));
        paging.largest = largest;
        loop {
            if !step() {
                return false;
            }
            let page = feed.page(paging.ask());
            match paging.answered(page, now) {
                Outcome::Again => {}
                Outcome::Take(chunks) => {
                    for chunk in chunks {
                        if !step() {
                            return false;
                        }
                        self.events.extend(chunk.items);
                        self.cursor = chunk.cursor;
                    }
                }
                Outcome::End(cursor) => {
                    self.cursor = cursor.unwrap_or_else(|| self.cursor.clone());
                    return true;
                }
                Outcome::Stuck(why) | Outcome::Last(_, why) => panic!("stuck: {why}"),
            }
        }
    }
}

fn end_of(feed: &Feed, size: usize) -> Cursor {
    let mut paging = Pager::discard(at(START));
    (paging.size, paging.usual, paging.largest) = (size, size, size);
    loop {
        let page = feed.page(paging.ask());
        let outcome = paging.answered(page, at(START + 10_000 * HOUR));
        match outcome {
            Outcome::Again => {}
            Outcome::End(Some(cursor)) => return cursor,
            Outcome::End(None) | Outcome::Take(_) | Outcome::Stuck(_) | Outcome::Last(..) => {
                panic!("{outcome:?}")
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Altinn stores these: whether we may see them, and how old they are.
    Append(Vec<(bool, u64)>),
    /// A push brings one that we may see.
    Push(usize),
    /// A reading, killed after so many steps.
    Read(usize),
}

fn rows() -> impl Strategy<Value = Vec<(bool, u64)>> {
    vec((any::<bool>(), 0..DAY), 0..300)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        rows().prop_map(Step::Append),
        any::<usize>().prop_map(Step::Push),
        (0usize..60).prop_map(Step::Read),
        Just(Step::Read(usize::MAX)),
    ]
}

proptest! {
    #[test]
    fn what_is_stored_is_what_was_visible(
        before in rows(),
        from_now in any::<bool>(),
        steps in vec(step(), 0..12),
        size in 1usize..40,
        usual in 1usize..40,
        limit in 1usize..40,
    ) {
        let mut feed = Feed { rows: Vec::new(), limit };
        feed.extend(&before);
        let mut store = Store { cursor: Cursor::oldest(at(START)), events: BTreeSet::new() };
        if from_now {
            store.cursor = end_of(&feed, size);
        }
        let first = store.cursor.id.as_ref().map_or(0, |id| id.parse().unwrap());
        let mut pushed = BTreeSet::new();
        for step in steps {
            match step {
                Step::Append(rows) => {
                    feed.extend(&rows);
                }
                Step::Push(number) if !feed.rows.is_empty() => {
                    let number = number % feed.rows.len();
                    if feed.rows[number].visible {
                        pushed.insert(number);
                        store.events.insert(number);
                    }
                }
                Step::Push(_) => {}
                Step::Read(steps) => {
                    store.read(&feed, (usual, size), steps);
                }
            }
        }
        prop_assert!(store.read(&feed, (usual, size), usize::MAX));
        let expected: BTreeSet<_> =
            feed.reachable(first, size).union(&pushed).copied().collect();
        prop_assert_eq!(store.events, expected);
    }

    #[test]
    fn a_cursor_that_altinn_forgets_loses_nothing_and_replays_nothing_old(
        before in vec((0..DAY, 0u8..10), 1..300),
        after in vec((0..DAY, 0u8..10), 0..300),
        killed in vec(0usize..20, 0..4),
        // Where the cursor's row stood between two that are hidden, those two stand together.
        size in 3usize..40,
    ) {
        let mut feed = Feed { rows: Vec::new(), limit: usize::MAX };
        // No two in a row are hidden, so that nothing is out of reach.
        let append = |feed: &mut Feed, rows: &[(u64, u8)]| {
            for (jitter, dice) in rows {
                let hidden = *dice == 0 && feed.rows.last().is_none_or(|row| row.visible);
                feed.append(!hidden, *jitter);
            }
        };
        append(&mut feed, &before);
        let cursor = end_of(&feed, size);
        // Had the first page nothing that old, the rest is not older by more than their disorder.
        let line = cursor.time.before(DISORDER).as_millis().saturating_sub(DAY);
        let first: usize = cursor.id.as_ref().map_or(0, |id| id.parse().unwrap());
        append(&mut feed, &after);
        if let Some(lost) = first.checked_sub(1) {
            feed.rows[lost].gone = true;
        }
        let mut store = Store { cursor, events: BTreeSet::new() };
        for steps in killed {
            store.read(&feed, (size, size), steps);
        }
        prop_assert!(store.read(&feed, (size, size), usize::MAX));
        let wanted = feed.reachable(first, size);
        prop_assert!(store.events.is_superset(&wanted), "{:?} {:?}", store.events, wanted);
        let old: Vec<_> =
            store.events.iter().filter(|number| feed.rows[**number].time < line).collect();
        prop_assert!(old.is_empty(), "{old:?}");
        prop_assert_eq!(store.cursor.floor, None);
    }
}
