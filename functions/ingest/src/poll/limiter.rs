//! At most two requests a second, evenly: what the API allows an account in a Region.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// Least time between two requests; a little over half a second, as the service counts by its own clock.
const GAP: Duration = Duration::from_millis(520);

/// Lets one through at a time.
#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<Option<Instant>>);

impl Limiter {
    /// Waits for the next turn.
    pub(super) async fn turn(&self) {
        let mut last = self.0.lock().await;
        if let Some(last) = *last {
            tokio::time::sleep_until(last + GAP).await;
        }
        *last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_holds_more_than_two_whoever_asks() {
        let limiter = Arc::new(Limiter::default());
        let begun = Instant::now();
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                tokio::spawn(async move {
                    limiter.turn().await;
                    begun.elapsed()
                })
            })
            .collect();
        let mut turns = Vec::new();
        for asked in asking {
            turns.push(asked.await.unwrap());
        }
        turns.sort();
        assert_eq!(turns[0], Duration::ZERO);
        for three in turns.windows(3) {
            assert!(three[2] > three[0] + Duration::from_secs(1), "{turns:?}");
        }
    }
}
