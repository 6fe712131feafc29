//! How often Altinn may be asked, whatever it answers and whoever wakes us.
//!
//! Owns the last bound: every call takes from it, and only time gives back. The pace that an answer
//! asks for is its caller's; this holds where that is mistaken.

use std::time::Duration;

use tokio::time::Instant;

/// Calls that are left, as the time at which all are there again.
#[derive(Debug)]
pub(super) struct Budget {
    burst: u32,
    each: Duration,
    whole: Instant,
}

impl Budget {
    /// Full: `burst` calls may follow each other as they like, and each is given back after `each`.
    pub(super) fn new(burst: u32, each: Duration) -> Self {
        Self { burst, each, whole: Instant::now() }
    }

    /// Takes one call; tells when the next one may be.
    pub(super) fn take(&mut self) -> Instant {
        let now = Instant::now();
        self.whole = self.whole.max(now) + self.each;
        // One that is left is one that may be now.
        now + (self.whole - now).saturating_sub(self.each * self.burst.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_then_only_time_gives_back() {
        let each = Duration::from_secs(15);
        let mut budget = Budget::new(20, each);
        let began = Instant::now();
        let mut calls = 0;
        while began.elapsed() < Duration::from_secs(3600) {
            calls += 1;
            tokio::time::sleep_until(budget.take()).await;
            assert_eq!(began.elapsed().is_zero(), calls < 20, "{calls}");
        }
        assert_eq!(calls, 20 + 239);
        // Quiet for a while, and the burst is there again.
        tokio::time::advance(each * 40).await;
        let now = Instant::now();
        for _ in 1..20 {
            assert_eq!(budget.take(), now);
        }
        assert_eq!(budget.take(), now + each);
    }
}
