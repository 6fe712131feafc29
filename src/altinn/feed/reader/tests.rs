use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::{
    altinn::feed::{
        cursor,
        pager::{Ask, Item},
    },
    metrics::Metrics,
    queue::{Letter, Page as Listing, model::ModelQueue},
};

const RESOURCE: &str = "urn:altinn:resource:nabovarsel";
const ALL: Listing = Listing { limit: 1000, newest: false };

/// A feed in memory, and what goes wrong with it.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    items: Vec<Item<Content>>,
    failures: VecDeque<ApiError>,
    /// Larger pages fail.
    largest: Option<usize>,
    /// Of the first items the caller may see none.
    hidden: usize,
    asked: Vec<String>,
}

impl Fake {
    fn publish(&self, id: &str, ty: &str) {
        let json = json!({
            "specversion": "1.0", "id": id, "source": "/s", "type": ty, "resource": RESOURCE,
        });
        let event = Event::from_json(json.to_string().into()).unwrap();
        let item = Item { id: Some(id.to_owned()), time: None, content: Content::Event(event) };
        self.0.lock().unwrap().items.push(item);
    }

    fn fail(&self, error: ApiError) {
        self.0.lock().unwrap().failures.push_back(error);
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }
}

impl Pages for Fake {
    async fn page(&self, _: &Filters, ask: Ask<'_>) -> Result<Page<Content>, ApiError> {
        let mut rows = self.0.lock().unwrap();
        rows.asked.push(ask.after.to_owned());
        if let Some(error) = rows.failures.pop_front() {
            return Err(error);
        }
        if rows.largest.is_some_and(|largest| ask.size > largest) {
            return Err(ApiError::Unreachable("timed out".to_owned()));
        }
        let known = rows.items.iter().position(|item| item.id.as_deref() == Some(ask.after));
        let first = known.map_or(0, |at| at + 1);
        let page = rows.items.iter().enumerate().skip(first).take(ask.size);
        let seen = page.filter(|(at, _)| *at >= rows.hidden).map(|(_, item)| item.clone());
        Ok(Page::Items(seen.collect()))
    }
}

struct Rig {
    feed: Fake,
    queue: ModelQueue,
    watch: PushGap,
    state: watch::Sender<Status>,
    clock: Clock,
}

impl Rig {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let watch = PushGap::new(clock.clone(), Metrics::default(), Duration::from_secs(3900));
        let queue = ModelQueue::new(&[], clock.clone());
        Self { feed: Fake::default(), queue, watch, state: watch::Sender::default(), clock }
    }

    fn reader(&self, start: StartAt, ready: mpsc::Sender<()>) -> Reader<ModelQueue, Fake> {
        let name: HookName = "a".parse().unwrap();
        let filters =
            Filters { resource: RESOURCE.to_owned(), subject: None, ty: Some("t_1".to_owned()) };
        let membership = Membership::new(name.clone(), RESOURCE).with_type(filters.ty.clone());
        let platform = "https://a.example".parse().unwrap();
        let (interval, settle) = (Duration::from_secs(600), self.watch.settle());
        Reader {
            start,
            bookmark: cursor::bookmark(&platform, &name, &filters).unwrap(),
            filters,
            ready: Some(ready),
            last: HashSet::new(),
            common: Common {
                queue: self.queue.clone(),
                pages: self.feed.clone(),
                subscriptions: Arc::new(vec![membership]),
                state: self.state.subscribe(),
                watch: self.watch.clone(),
                on_stored: Arc::new(|_| {}),
                pages_at_once: Arc::new(Semaphore::new(1)),
                timing: Timing::from_interval(interval, settle).unwrap(),
                clock: self.clock.clone(),
            },
            name,
        }
    }

    /// Runs a reader for so long.
    async fn run(&self, start: StartAt, time: Duration) {
        let (ready, _begun) = mpsc::channel(1);
        let reader = self.reader(start, ready);
        let stop = CancellationToken::new();
        let ended = timeout(time, reader.run(stop)).await;
        assert!(ended.is_err(), "{ended:?}");
    }

    async fn ids(&self) -> Vec<String> {
        let events = self.queue.events(ALL).await.unwrap();
        events.iter().map(|stored| stored.event.attributes().id.clone()).collect()
    }

    fn trouble(&self) -> Option<String> {
        self.watch.ways(&"a".parse().unwrap()).trouble.map(|words| words.text)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_new_subscription_begins_now_or_with_the_oldest_and_goes_on_after_a_restart() {
    for (start, expected) in
        [(StartAt::Now, &["3", "4"][..]), (StartAt::Oldest, &["1", "2", "3", "4"])]
    {
        let rig = Rig::new();
        rig.feed.publish("1", "t_1");
        rig.feed.publish("2", "t_1");
        rig.run(start, SECOND).await;
        rig.feed.publish("3", "t_1");
        rig.run(start, SECOND).await;
        let asked = rig.feed.asked().len();
        rig.feed.publish("4", "t_1");
        rig.run(start, SECOND).await;
        assert_eq!(rig.ids().await, expected);
        assert_eq!(rig.feed.asked()[asked..], ["3", "4"]);
        assert_eq!(rig.trouble(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_read_again_after_the_interval_and_sooner_while_the_subscription_is_new() {
    let rig = Rig::new();
    rig.run(StartAt::Now, HOUR).await;
    let slow = rig.feed.asked().len();
    assert!((6..=9).contains(&slow), "{slow}");
    rig.state.send_modify(|state| {
        let known = state.subscriptions.entry("a".parse().unwrap()).or_default();
        known.posted = Some(rig.clock.now());
    });
    rig.run(StartAt::Now, HOUR).await;
    let quick = rig.feed.asked().len() - slow;
    assert!((50..=70).contains(&quick), "{quick}");
    // The hour is over.
    rig.clock.advance(2 * HOUR);
    rig.run(StartAt::Now, HOUR).await;
    let slow = rig.feed.asked().len() - slow - quick;
    assert!((6..=9).contains(&slow), "{slow}");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_no_event_is_a_dead_letter_and_one_of_another_type_is_left_out() {
    let rig = Rig::new();
    rig.feed.publish("1", "t_1");
    rig.feed.publish("2", "tx1");
    let content = Content::Unreadable { body: "{}".into(), reason: "a rule".to_owned() };
    let item = Item { id: Some("3".to_owned()), time: None, content };
    rig.feed.0.lock().unwrap().items.push(item);
    rig.feed.publish("4", "t_1");
    rig.run(StartAt::Oldest, SECOND).await;
    assert_eq!(rig.ids().await, ["1", "4"]);
    let letters = rig.queue.dead_letters(None, ALL).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].failure.reason, "from the feed: a rule");
    assert!(matches!(&letters[0].letter, Letter::Raw(push) if push.body == "{}"));
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_store_that_takes_nothing_and_goes_on() {
    let rig = Rig::new();
    rig.feed.publish("1", "t_1");
    for error in [QueueError::Full("no room"), QueueError::Unavailable("broken".to_owned())] {
        rig.queue.refuse(Some(error));
        rig.run(StartAt::Oldest, 600 * SECOND).await;
        assert_eq!(rig.ids().await, Vec::<String>::new());
    }
    rig.queue.refuse(None);
    rig.run(StartAt::Oldest, SECOND).await;
    assert_eq!(rig.ids().await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_fails_is_told_and_tried_again() {
    let unreachable = || ApiError::Unreachable("no route".to_owned());
    let rig = Rig::new();
    rig.run(StartAt::Now, SECOND).await;
    rig.feed.fail(unreachable());
    rig.feed.fail(unreachable());
    rig.feed.publish("1", "t_1");
    rig.run(StartAt::Now, SECOND).await;
    assert_eq!(rig.trouble().unwrap(), "Altinn cannot be reached: no route");
    rig.run(StartAt::Now, 60 * SECOND).await;
    assert_eq!((rig.trouble(), rig.ids().await), (None, vec!["1".to_owned()]));

    // Who says how long to stay away is not asked before.
    rig.feed.fail(ApiError::Busy {
        status: http::StatusCode::TOO_MANY_REQUESTS,
        words: ErrorText::default(),
        retry_after: Some(2 * HOUR),
    });
    let asked = rig.feed.asked().len();
    rig.run(StartAt::Now, HOUR).await;
    assert_eq!(rig.feed.asked().len(), asked + 1);

    // What only a person can heal is not asked again and again.
    rig.feed.fail(ApiError::MissingScope);
    let asked = rig.feed.asked().len();
    rig.run(StartAt::Now, 500 * SECOND).await;
    assert_eq!(rig.feed.asked().len(), asked + 1);
    assert!(rig.trouble().unwrap().contains("scope"));
}

#[tokio::test(start_paused = true)]
async fn pages_that_fail_again_and_again_are_asked_for_in_smaller_parts() {
    let rig = Rig::new();
    rig.run(StartAt::Now, SECOND).await;
    rig.feed.0.lock().unwrap().largest = Some(200);
    let ids: Vec<String> = (1..=500).map(|number| number.to_string()).collect();
    for id in &ids {
        rig.feed.publish(id, "t_1");
    }
    rig.run(StartAt::Now, HOUR).await;
    assert_eq!(rig.ids().await, ids);
}

#[tokio::test(start_paused = true)]
async fn a_gap_behind_what_may_not_be_seen_is_not_told_as_closed_while_pages_are_small() {
    let rig = Rig::new();
    rig.run(StartAt::Now, SECOND).await;
    (1..=900).for_each(|number| rig.feed.publish(&number.to_string(), "t_1"));
    {
        let mut rows = rig.feed.0.lock().unwrap();
        (rows.hidden, rows.largest) = (899, Some(200));
    }
    let read = || rig.watch.ways(&"a".parse().unwrap()).last_read;
    let before = read();
    rig.clock.advance(SECOND);
    rig.run(StartAt::Now, HOUR).await;
    assert_eq!((rig.ids().await, read()), (vec![], before));
    assert!(rig.trouble().unwrap().contains("timed out"));
    rig.feed.0.lock().unwrap().largest = None;
    rig.run(StartAt::Now, SECOND).await;
    assert_eq!((rig.ids().await, rig.trouble()), (vec!["900".to_owned()], None));
    assert!(read() > before);
}

#[tokio::test(start_paused = true)]
async fn looking_for_the_end_takes_a_slot_for_each_page_as_reading_does() {
    let rig = Rig::new();
    rig.feed.publish("1", "t_1");
    let mut asked = Vec::new();
    // The first time it looks for the end, the second time it reads on from its cursor.
    for pages in [&["0", "1", "1"][..], &["1"]] {
        let (ready, _begun) = mpsc::channel(1);
        let reader = rig.reader(StartAt::Now, ready);
        let slots = Arc::clone(&reader.common.pages_at_once);
        let taken = slots.acquire_owned().await.unwrap();
        let mut running = Box::pin(reader.run(CancellationToken::new()));
        assert!(timeout(SECOND, &mut running).await.is_err());
        assert_eq!(rig.feed.asked(), asked);
        drop(taken);
        assert!(timeout(SECOND, &mut running).await.is_err());
        asked.extend(pages.iter().copied().map(str::to_owned));
        assert_eq!(rig.feed.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_never_ends_is_asked_at_a_bounded_pace() {
    let rig = Rig::new();
    rig.run(StartAt::Now, SECOND).await;
    let endless = Endless(Arc::default());
    let (ready, _begun) = mpsc::channel(1);
    let Reader { name, filters, start, bookmark, common, .. } = rig.reader(StartAt::Now, ready);
    let Common {
        queue, subscriptions, state, watch, on_stored, pages_at_once, timing, clock, ..
    } = common;
    let pages = endless.clone();
    let common = Common {
        queue,
        pages,
        subscriptions,
        state,
        watch,
        on_stored,
        pages_at_once,
        timing,
        clock,
    };
    let reader =
        Reader { name, filters, start, bookmark, ready: None, last: HashSet::new(), common };
    assert!(timeout(HOUR / 60, reader.run(CancellationToken::new())).await.is_err());
    let asked = endless.0.load(Ordering::SeqCst);
    assert!((700..=900).contains(&asked), "{asked} pages in a minute");
}

/// Always one more page of what is not wanted.
#[derive(Clone)]
struct Endless(Arc<AtomicUsize>);

impl Pages for Endless {
    async fn page(&self, _: &Filters, _: Ask<'_>) -> Result<Page<Content>, ApiError> {
        let id = self.0.fetch_add(1, Ordering::SeqCst);
        // Without any pause the paused clock would never go on.
        assert!(id < 10_000, "asked again and again without a pause");
        let id = id.to_string();
        let json = json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "another" });
        let content = Content::Event(Event::from_json(json.to_string().into()).unwrap());
        Ok(Page::Items(vec![Item { id: Some(id), time: None, content }]))
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_feeds_end_cannot_be_found_it_begins_with_what_is_published_from_now_on() {
    let rig = Rig::new();
    let publish = |id: &str, time: Timestamp| {
        rig.feed.publish(id, "t_1");
        rig.feed.0.lock().unwrap().items.last_mut().unwrap().time = Some(time);
    };
    publish("1", rig.clock.now().before(HOUR));
    rig.feed.fail(ApiError::Unreachable("no route".to_owned()));
    rig.clock.advance(SECOND);
    publish("2", rig.clock.now().after(SECOND));
    rig.run(StartAt::Now, 60 * SECOND).await;
    assert_eq!(rig.ids().await, ["2"]);
    // From then on only the cursor counts.
    publish("3", rig.clock.now().before(HOUR));
    rig.run(StartAt::Now, SECOND).await;
    assert_eq!(rig.ids().await, ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_pushed_before_is_not_stored_again() {
    let rig = Rig::new();
    rig.run(StartAt::Now, SECOND).await;
    rig.feed.publish("1", "t_1");
    let pushed = {
        let rows = rig.feed.0.lock().unwrap();
        let Content::Event(event) = &rows.items[0].content else { panic!() };
        membership::arrival(&[], &"a".parse().unwrap(), event.clone())
    };
    rig.queue.append(vec![pushed]).await.unwrap();
    rig.run(StartAt::Now, SECOND).await;
    assert_eq!(rig.ids().await, ["1"]);
    let ways = rig.watch.ways(&"a".parse().unwrap());
    assert_eq!((ways.fed, ways.last_row), (0, Some(rig.clock.now())));
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_store_is_closed_and_it_is_time_to_stop() {
    let rig = Rig::new();
    rig.feed.publish("1", "t_1");
    rig.queue.close().await.unwrap();
    let stop = CancellationToken::new();
    let (ready, _begun) = mpsc::channel(1);
    let reader = rig.reader(StartAt::Now, ready).run(stop.clone());
    stop.cancel();
    timeout(HOUR, reader).await.unwrap().unwrap();
}

/// A page as the wire has it.
fn wire(page: &str) -> Vec<Item<Content>> {
    let read = crate::altinn::feed::client::read(page.as_bytes(), 5000).unwrap();
    let Page::Items(items) = read else { panic!("{read:?}") };
    items
}

#[tokio::test(start_paused = true)]
async fn whatever_items_are_the_feed_goes_on_and_each_that_cannot_be_read_is_one_letter() {
    let rig = Rig::new();
    let good = |id: &str| {
        let event = json!({
            "specversion": "1.0", "id": id, "source": "/s", "type": "t_1", "resource": RESOURCE,
        });
        event.to_string()
    };
    let deep = format!(r#"{{"id":"d","x":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let large = |id| format!(r#"{{"x":"{}","id":"{id}"}}"#, "a".repeat(20_000));
    let bad = [
        r#"{"id":7}"#,
        "null",
        "7",
        r#""text""#,
        "[]",
        r#"{"id":"t","source":["/s"]}"#,
        &deep,
        &large("l1"),
        &large("l2"),
        r#"{"specversion":"1.0","source":"/s"}"#,
    ];
    let middle = format!("{},{},{}", bad.join(","), good("2"), good("2"));
    let page = format!("[{},{middle},{},null,{{}}]", good("1"), good("1"));
    rig.feed.0.lock().unwrap().items = wire(&page);
    rig.run(StartAt::Oldest, HOUR * 5).await;
    let letters = rig.queue.dead_letters(None, ALL).await.unwrap();
    // `null` comes twice and is one letter, `{}` stands behind all that has an id.
    assert_eq!(letters.len(), bad.len() + 1, "{letters:?}");
    assert_eq!(rig.queue.events(ALL).await.unwrap().len(), 2);
    // What is discarded does not come back while the same items stand at the end, and what comes
    // behind them is taken in.
    for letter in &letters {
        rig.queue.discard(&letter.id).await.unwrap();
    }
    rig.feed.publish("3", "t_1");
    rig.run(StartAt::Oldest, HOUR * 5).await;
    assert_eq!(rig.queue.events(ALL).await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_page_without_an_id_is_kept_once_and_told_and_what_follows_is_found() {
    let rig = Rig::new();
    let unnamed: Vec<String> = (0..40).map(|number| format!(r#"{{"n":{number}}}"#)).collect();
    rig.feed.0.lock().unwrap().items = wire(&format!("[{}]", unnamed.join(",")));
    let feed = rig.feed.clone();
    let later = async {
        sleep(HOUR * 10).await;
        let letters = rig.queue.dead_letters(None, ALL).await.unwrap();
        assert_eq!(letters.len(), unnamed.len());
        for letter in letters {
            rig.queue.discard(&letter.id).await.unwrap();
        }
        sleep(HOUR * 10).await;
        assert!(rig.queue.dead_letters(None, ALL).await.unwrap().is_empty(), "each once");
        feed.publish("1", "t_1");
    };
    tokio::join!(rig.run(StartAt::Oldest, HOUR * 40), later);
    assert_eq!(rig.queue.events(ALL).await.unwrap().len(), 1);
}
