//! Few requests at once while a process is young.
//!
//! In: requests that want to begin. Out: leave to begin. Every request made beside others opens a connection of its own,
//! each with a TLS handshake of several round trips and a millisecond of a small function's processor. A function that
//! has just started earns less by asking four things at once than it pays for three connections more; one that goes on
//! has its connections, and asks as much at once as it likes.

use tokio::sync::{Semaphore, SemaphorePermit};

use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests at once while few were made.
const AT_ONCE: usize = 2;
/// Requests after which a process has its connections.
const FEW: usize = 16;

/// Lets requests begin.
#[derive(Debug)]
pub(super) struct Gate {
    places: Semaphore,
    begun: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self { places: Semaphore::new(AT_ONCE), begun: AtomicUsize::new(0) }
    }
}

impl Gate {
    /// Waits for leave, which lasts as long as what is returned; `None` lasts for ever.
    pub(super) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        // Those that wait while the last of the few begins are let in as places become free.
        if self.begun.fetch_add(1, Ordering::Relaxed) >= FEW {
            return None;
        }
        // It is never closed.
        self.places.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_young_process_makes_few_requests_at_once_and_an_old_one_many() {
        let gate = Gate::default();
        let waits = |gate| async move { timeout(Duration::from_millis(20), Gate::enter(gate)).await.is_err() };
        let mut places = vec![gate.enter().await, gate.enter().await];
        assert!(waits(&gate).await);
        places.clear();
        for _ in 3..FEW {
            assert!(!waits(&gate).await);
        }
        places.extend([gate.enter().await, gate.enter().await, gate.enter().await]);
        assert!(places.iter().all(Option::is_none), "no place is needed any more");
    }
}
