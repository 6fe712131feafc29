use std::sync::{
    Arc, Mutex as SyncMutex,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::task::yield_now;

use super::*;
use crate::altinn::{
    auth::token::Refused,
    http::{advice::Kind, error_text::ErrorText},
};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Gives `t1`, `t2`, … with a fixed life, or fails while it is told to.
#[derive(Clone)]
struct Scripted {
    clock: Clock,
    life: Duration,
    made: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    failing: Arc<SyncMutex<bool>>,
    retry_after: Arc<SyncMutex<Option<Duration>>>,
}

impl Scripted {
    fn cached(life: Duration) -> (TokenCache<Self>, Self, Clock) {
        let clock = Clock::manual(START);
        let made = Arc::default();
        let (asked, failing) = (Arc::default(), Arc::default());
        let retry_after = Arc::default();
        let source = Self { clock: clock.clone(), life, made, asked, failing, retry_after };
        (TokenCache::new(source.clone(), clock.clone()), source, clock)
    }
}

impl TokenSource for Scripted {
    async fn token(&self) -> Result<AccessToken, TokenError> {
        yield_now().await;
        self.asked.fetch_add(1, Ordering::SeqCst);
        if *self.failing.lock().unwrap() {
            if let Some(wait) = *self.retry_after.lock().unwrap() {
                return Err(busy(wait));
            }
            return Err(TokenError::Malformed { who: "the test", fault: "it is failing" });
        }
        let n = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let secret = SecretString::from(format!("t{n}"));
        Ok(AccessToken::new(secret, self.clock.now().after(self.life)))
    }
}

fn busy(wait: Duration) -> TokenError {
    TokenError::Refused(Box::new(Refused {
        who: "the test",
        status: http::StatusCode::TOO_MANY_REQUESTS,
        error: None,
        code: None,
        uri: None,
        words: ErrorText::default(),
        hint: None,
        advice: None,
        retry_after: Some(wait),
    }))
}

async fn text(cached: &TokenCache<Scripted>) -> String {
    cached.token().await.unwrap().secret().expose_secret().to_owned()
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_its_end() {
    for (life, kept, renewed) in [
        (1800.0, 1439.0, 1441.0),
        (3600.0, 2879.0, 2881.0),
        (119.0, 59.0, 60.0),
        (30.0, 14.9, 15.1),
        (2.0, 0.9, 1.1),
    ] {
        let (cached, _, clock) = Scripted::cached(Duration::from_secs_f64(life));
        assert_eq!(text(&cached).await, "t1");
        clock.advance(Duration::from_secs_f64(kept));
        assert_eq!(text(&cached).await, "t1", "{life}");
        clock.advance(Duration::from_secs_f64(renewed - kept));
        assert_eq!(text(&cached).await, "t2", "{life}");
    }
}

#[tokio::test]
async fn a_token_without_a_life_is_given_and_not_kept() {
    let (cached, _, _) = Scripted::cached(Duration::ZERO);
    assert_eq!(text(&cached).await, "t1");
    assert_eq!(text(&cached).await, "t2");
}

#[tokio::test]
async fn callers_at_the_same_time_get_the_same_token() {
    let (cached, source, _) = Scripted::cached(Duration::from_secs(1800));
    let all = join_all((0..20).map(|_| text(&cached))).await;
    assert_eq!(all, vec!["t1"; 20]);
    assert_eq!(source.made.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn ten_callers_refused_with_one_token_make_one_renewal() {
    let (cached, source, _) = Scripted::cached(Duration::from_secs(1800));
    let refused = cached.token().await.unwrap();
    let renewals = (0..10).map(async |_| {
        cached.invalidate(&refused).await;
        text(&cached).await
    });
    assert_eq!(join_all(renewals).await, vec!["t2"; 10]);
    assert_eq!(source.made.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_failure_is_told_again_for_a_while_and_then_it_is_tried_again() {
    tokio::time::pause();
    let (cached, source, _) = Scripted::cached(Duration::from_secs(1800));
    *source.failing.lock().unwrap() = true;
    let error = cached.token().await.unwrap_err();
    assert_eq!(error.to_string(), "the test answered without a usable token: it is failing");
    assert_eq!(error.kind(), Kind::Passing);
    *source.failing.lock().unwrap() = false;
    assert!(cached.token().await.is_err(), "asked too early");
    tokio::time::advance(FIRST_PAUSE).await;
    assert_eq!(text(&cached).await, "t1");
}

#[tokio::test]
async fn many_callers_make_no_storm_of_failures() {
    tokio::time::pause();
    let (cached, source, _) = Scripted::cached(Duration::from_secs(1800));
    *source.failing.lock().unwrap() = true;
    for _ in 0..36_000 {
        assert!(cached.token().await.is_err());
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let asked = source.asked.load(Ordering::SeqCst);
    assert!((60..140).contains(&asked), "{asked} in an hour");
}

#[tokio::test]
async fn a_new_key_is_tried_at_once() {
    let (cached, source, _) = Scripted::cached(Duration::from_secs(1800));
    *source.failing.lock().unwrap() = true;
    assert!(cached.token().await.is_err());
    *source.failing.lock().unwrap() = false;
    cached.forgive();
    assert_eq!(text(&cached).await, "t1");
}

#[tokio::test]
async fn a_token_that_still_holds_bridges_a_failing_renewal() {
    let (cached, source, clock) = Scripted::cached(Duration::from_secs(1800));
    text(&cached).await;
    *source.failing.lock().unwrap() = true;
    clock.advance(Duration::from_secs(1500));
    assert_eq!(text(&cached).await, "t1");
    clock.advance(Duration::from_secs(300));
    assert!(cached.token().await.is_err(), "its end has come");
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_block_the_next() {
    let (cached, _, _) = Scripted::cached(Duration::from_secs(1800));
    {
        let mut abandoned = Box::pin(cached.token());
        assert!(futures_util::poll!(&mut abandoned).is_pending());
    }
    assert_eq!(text(&cached).await, "t1");
}

#[test]
fn debug_does_not_show_the_token() {
    let token = AccessToken::new(SecretString::from("very-secret"), START);
    assert!(!format!("{token:?}").contains("very-secret"));
}

#[tokio::test]
async fn a_failing_renewal_stays_away_for_as_long_as_it_is_asked_to() {
    tokio::time::pause();
    let (cached, source, clock) = Scripted::cached(Duration::from_secs(1800));
    text(&cached).await;
    *source.failing.lock().unwrap() = true;
    *source.retry_after.lock().unwrap() = Some(Duration::from_secs(600));
    let go_on = async |seconds| {
        clock.advance(Duration::from_secs(seconds));
        tokio::time::advance(Duration::from_secs(seconds)).await;
    };
    go_on(1440).await;
    for _ in 0..59 {
        assert_eq!(text(&cached).await, "t1");
        go_on(6).await;
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    // Also when the token has ended meanwhile.
    go_on(10).await;
    assert!(cached.token().await.is_err());
    assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    *source.failing.lock().unwrap() = false;
    go_on(240).await;
    assert_eq!(text(&cached).await, "t2");
}

#[tokio::test]
async fn tokens_that_are_refused_again_and_again_are_asked_for_ever_less_often() {
    tokio::time::pause();
    let (cached, source, _) = Scripted::cached(Duration::from_secs(1800));
    for _ in 0..36_000 {
        if let Ok(token) = cached.token().await {
            cached.invalidate(&token).await;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let asked = source.asked.load(Ordering::SeqCst);
    assert!((60..140).contains(&asked), "{asked} in an hour");
    tokio::time::advance(LAST_PAUSE).await;
    let token = cached.token().await.unwrap();
    cached.accepted();
    cached.invalidate(&token).await;
    assert!(cached.token().await.is_ok(), "one that was good has ended early");
}
