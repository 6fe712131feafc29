//! However Altinn and Maskinporten answer, and whoever wakes us: in no hour more calls than this.

use std::sync::mpsc;

use proptest::{collection::vec, prelude::*};
use tokio::{runtime, task::spawn_blocking, time};

use super::*;
use crate::altinn::testing::{EXCHANGE, jwt};

const HOUR: Duration = Duration::from_secs(3600);

/// Looks in an hour at the very most, as [`Timing::from_interval`] says of ten minutes.
const LOOKS: usize = 260;

/// One answer of the other side, or what happens here before the next look.
#[derive(Debug, Clone)]
enum Say {
    /// Subscriptions: which name and secret, and whether it is validated.
    Rows(Vec<(u8, u8, bool)>),
    Status(u16, Option<u16>),
    Nonsense,
    /// The lifetime of a token or a row, or its number.
    Good(u16),
}

/// What happens on this side: somebody wakes us, or a secret is rotated.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Wake,
    Rotate,
}

fn say() -> impl Strategy<Value = Say> {
    let row = (0u8..4, 0u8..3, any::<bool>());
    let statuses = prop::sample::select(vec![200u16, 400, 401, 401, 403, 404, 429, 500, 503]);
    prop_oneof![
        4 => vec(row, 0..5).prop_map(Say::Rows),
        4 => (statuses, prop::option::of(0u16..900)).prop_map(|(status, wait)| Say::Status(status, wait)),
        1 => Just(Say::Nonsense),
        4 => (0u16..2000).prop_map(Say::Good),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![1 => Just(Event::Nothing), 3 => Just(Event::Wake), 1 => Just(Event::Rotate)]
}

impl Say {
    fn reply(&self, seen: &Seen, clock: &Clock) -> Reply {
        match (self, seen.call.as_str()) {
            (Self::Status(status, wait), _) => {
                let reply = Reply::new(*status, "");
                wait.map_or(reply.clone(), |wait| reply.header("retry-after", wait))
            }
            (Self::Nonsense, _) => Reply::new(200, "<html>"),
            (Self::Good(life), TOKEN) => {
                Reply::new(200, json!({"access_token": "opaque", "expires_in": life}))
            }
            (Self::Rows(_), TOKEN) => {
                Reply::new(200, json!({"access_token": "opaque", "expires_in": 119}))
            }
            (Self::Good(_) | Self::Rows(_), EXCHANGE) => {
                let life = if let Self::Good(life) = self { *life } else { 1800 };
                let exp = clock.now().after(Duration::from_secs(life.into())).as_secs();
                Reply::new(200, jwt(&json!({"exp": exp, "jti": uuid::Uuid::new_v4().to_string()})))
            }
            (Self::Rows(rows), LIST) => Reply::new(200, json!({ "subscriptions": listed(rows) })),
            (Self::Good(_), LIST) => Reply::new(200, json!({ "subscriptions": [] })),
            (Self::Good(id), CREATE) => {
                let mut row = seen.json();
                (row["id"], row["validated"]) = (json!(id), json!(id % 2 == 0));
                Reply::new(201, row)
            }
            (Self::Good(_) | Self::Rows(_), _) => Reply::new(200, ""),
        }
    }
}

fn listed(rows: &[(u8, u8, bool)]) -> Vec<Value> {
    let one = |(id, (name, code, validated)): (usize, &(u8, u8, bool))| {
        let name = ["a", "b", "gone", "other"][usize::from(*name)];
        json!({
            "id": id, "validated": validated, "resourceFilter": format!("urn:altinn:resource:{name}"),
            "endPoint": format!("https://hooks.example.no/hooks/{name}?code=code-{code}"),
        })
    };
    rows.iter().enumerate().map(one).collect()
}

fn both(code: usize) -> Vec<Desired> {
    ["a", "b"].map(|name| wanted(name, &format!("code-{code}"))).to_vec()
}

/// Both clocks go on by so much.
async fn pass_time(case: &Case, by: Duration) {
    case.clock.advance(by);
    time::advance(by).await;
}

/// One look. Tokio's clock goes on by itself while sockets are waited for, unless a thread is busy:
/// so one is, and the clock goes on by small steps for who sleeps between two calls.
async fn look(case: &Case, reconciler: &mut Reconciler<AltinnTokens>, streak: &mut Streak) -> Next {
    let mut pass = Box::pin(reconciler.pass(streak));
    loop {
        let (done, held) = mpsc::channel::<()>();
        let mut busy = spawn_blocking(move || held.recv_timeout(Duration::from_millis(10)).ok());
        tokio::select! {
            biased;
            next = &mut pass => {
                drop(done);
                busy.await.unwrap();
                return next;
            }
            waited = &mut busy => { waited.unwrap(); }
        }
        pass_time(case, Duration::from_millis(250)).await;
    }
}

/// What an hour came to.
#[derive(Debug)]
struct Hour {
    rotations: usize,
    lists: usize,
    creates: usize,
    deletes: usize,
    tokens: usize,
    exchanges: usize,
}

impl Hour {
    /// What is more than it should be, in calls. A call is made again once, if its token is refused.
    fn excess(&self) -> Option<String> {
        let bounds = [
            ("lists", self.lists, 2 * LOOKS),
            // Two are wanted. Only time brings a further attempt at the same one, at most 33 in an
            // hour; a rotation wants other ones, and then each look may ask for them.
            ("creates", self.creates, 2 * 2 * LOOKS.min(33 * (1 + self.rotations))),
            ("deletes", self.deletes, 5 * LOOKS),
            // Each call may need a token of its own, should they all be refused or end at once.
            ("tokens", self.tokens, 2 * LOOKS + self.creates + self.deletes),
            ("exchanges", self.exchanges, 3 * self.tokens),
        ];
        let above = bounds.into_iter().find(|(_, count, most)| count > most);
        above.map(|(name, _, most)| format!("more than {most} {name}: {self:?}"))
    }
}

async fn an_hour(answers: Vec<Say>, events: Vec<Event>) -> Hour {
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let (told, spoken) = (clock.clone(), Mutex::new(answers.into_iter().cycle()));
    let answer = move |seen: &Seen| spoken.lock().unwrap().next().unwrap().reply(seen, &told);
    let rig = Rig::new(&clock, answer).await;
    let case = Case { altinn: Arc::default(), rig, clock, desired: Arc::new(Mutex::new(both(0))) };
    let mut reconciler = case.reconciler(Timing::from_interval(HOUR / 6).unwrap());
    time::pause();
    let (began, mut streak) = (Instant::now(), Streak::default());
    let mut events = events.into_iter().cycle();
    let (mut rotations, mut looks) = (0, 0);
    while began.elapsed() < HOUR {
        looks += 1;
        assert!(looks <= LOOKS, "{looks} looks within {:?}", began.elapsed());
        let next = look(&case, &mut reconciler, &mut streak).await;
        let until = match events.next().unwrap() {
            Event::Nothing => next.due,
            Event::Wake => {
                streak.watches = 0;
                next.earliest.min(next.due)
            }
            Event::Rotate => {
                rotations += 1;
                case.want(both(rotations % 3));
                next.earliest.min(next.due)
            }
        };
        pass_time(&case, until.saturating_duration_since(Instant::now())).await;
    }
    let deletes = case.rig.server.calls().iter().filter(|call| call.starts_with("DELETE")).count();
    let [lists, creates, tokens, exchanges] =
        [LIST, CREATE, TOKEN, EXCHANGE].map(|call| case.rig.server.count(call));
    Hour { rotations, lists, creates, deletes, tokens, exchanges }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn no_hour_has_more_calls_than_its_budget(
        answers in vec(say(), 1..20),
        events in vec(event(), 1..6),
    ) {
        let hour = run(an_hour(answers, events));
        prop_assert_eq!(hour.excess(), None);
    }
}

#[test]
fn an_hour_of_rotations_has_no_more_calls_than_its_budget() {
    let refused = vec![Say::Rows(vec![]), Say::Good(0), Say::Status(401, None), Say::Good(2)];
    for (answers, events, least) in [
        (refused, vec![Event::Rotate], 200),
        (vec![Say::Rows(vec![])], vec![Event::Nothing, Event::Rotate, Event::Nothing], 50),
    ] {
        let hour = run(an_hour(answers, events));
        assert_eq!(hour.excess(), None);
        assert!(hour.rotations > least, "{hour:?}");
    }
}

#[tokio::test]
async fn a_removal_that_was_refused_before_a_rotation_makes_no_hot_loop() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let timing = Timing::from_interval(HOUR / 6).unwrap();
    let mut reconciler = case.reconciler(timing);
    let mut streak = Streak::default();
    // A first secret has been replaced, and its row cannot be removed.
    for code in ["code-1", "code-2"] {
        case.want(vec![wanted("a", code)]);
        reconciler.pass(&mut streak).await;
        case.altinn.validate_all();
        reconciler.pass(&mut streak).await;
    }
    case.altinn.anothers.store(true, Ordering::SeqCst);
    case.clock.advance(OVERLAP);
    reconciler.pass(&mut streak).await;
    assert_eq!(reconciler.upkeep.attempts.removals.len(), 1);
    // Now comes the next one: nothing is removed before its overlap is over.
    case.want(vec![wanted("a", "code-3")]);
    reconciler.pass(&mut streak).await;
    case.altinn.validate_all();
    time::pause();
    // Both while the failure is remembered, and when it is long ago.
    for wait in [Duration::from_secs(5), HOUR] {
        time::advance(wait).await;
        let next = look(&case, &mut reconciler, &mut streak).await;
        let next = next.due - Instant::now();
        assert!(next > Duration::from_secs(500), "{next:?}");
    }
}

#[tokio::test]
async fn a_removal_that_altinn_grants_and_its_list_never_shows_is_asked_for_ever_less_often() {
    let case = Case::new(vec![]).await;
    let rows = json!([{ "id": 7, "validated": true, "resourceFilter": "urn:altinn:resource:a",
        "endPoint": "https://hooks.example.no/hooks/a?code=code-1" }]);
    let mut reconciler = case.reconciler(Timing::from_interval(HOUR / 6).unwrap());
    case.want(vec![wanted("a", "code-1")]);
    reconciler.pass(&mut Streak::default()).await;
    case.want(vec![]);
    for _ in 0..10 {
        *case.altinn.rows.lock().unwrap() = serde_json::from_value(rows.clone()).unwrap();
        reconciler.pass(&mut Streak::default()).await;
    }
    let deletes = case.rig.server.calls().iter().filter(|call| call.starts_with("DELETE")).count();
    assert_eq!(deletes, 1, "its pause is not over");
}

#[tokio::test]
async fn a_list_that_says_one_thing_and_then_another_makes_no_new_first_attempt() {
    let case = Case::new(vec![wanted("a", "code-1")]).await;
    let mut reconciler = case.reconciler(Timing::from_interval(HOUR / 6).unwrap());
    let mut streak = Streak::default();
    // Ours is there and not there.
    reconciler.pass(&mut streak).await;
    case.altinn.validate_all();
    for _ in 0..5 {
        for forgetful in [false, true] {
            case.altinn.forgetful.store(forgetful, Ordering::SeqCst);
            reconciler.pass(&mut streak).await;
        }
    }
    assert_eq!(case.rig.server.count(CREATE), 1);
    // Nor is what was not wanted any more, and cannot be removed.
    case.altinn.anothers.store(true, Ordering::SeqCst);
    case.want(vec![]);
    for _ in 0..5 {
        for forgetful in [false, true] {
            case.altinn.forgetful.store(forgetful, Ordering::SeqCst);
            reconciler.pass(&mut streak).await;
        }
    }
    let deletes = case.rig.server.calls().iter().filter(|call| call.starts_with("DELETE")).count();
    assert_eq!(deletes, 1);
}
