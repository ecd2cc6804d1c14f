//! How writers that met at one item of the state table come out of each other's way.
//!
//! In: how often they have met, and how long the store took. Out: a while that is waited.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Most that is waited after a first attempt that took no time.
const PAUSE: Duration = Duration::from_millis(8);
/// Most that is waited between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Waits a little, longer with every attempt, and never as long as the other writer does. Where the store answers slowly,
/// as `took` tells of the attempt, the wait grows with it: writers that come back at once would only meet again.
pub async fn pause(attempt: u32, took: Duration) {
    let most = longest_pause(attempt, took);
    let share = RandomState::new().build_hasher().finish() % 1000;
    tokio::time::sleep(Duration::from_millis(1) + most / 1000 * u32::try_from(share).unwrap_or_default()).await;
}

fn longest_pause(attempt: u32, took: Duration) -> Duration {
    took.max(PAUSE).min(LONGEST_PAUSE).saturating_mul(attempt.min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_wait_longer_with_every_attempt_and_as_long_as_slow_stores_take() {
        let (quick, slow) = (Duration::from_micros(300), Duration::from_millis(700));
        assert_eq!(longest_pause(1, quick), PAUSE);
        assert_eq!(longest_pause(30, quick), PAUSE * 10);
        assert_eq!(longest_pause(1, slow), slow);
        assert_eq!(longest_pause(3, slow), slow * 3);
        assert_eq!(longest_pause(30, Duration::from_mins(1)), LONGEST_PAUSE);
    }
}
