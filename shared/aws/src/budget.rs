//! How much time the current invocation has left, so that no call is begun that cannot end in time.
//!
//! A Lambda instance handles one invocation at a time: the glue sets the deadline at its start, and the SDK
//! clients ask before every attempt. Outside Lambda nothing sets it and time is unlimited.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The deadline of the current invocation, shared by all clients of a process.
#[derive(Debug, Clone)]
pub struct Budget(Arc<AtomicI64>);

impl Default for Budget {
    fn default() -> Self {
        Self::unlimited()
    }
}

impl Budget {
    /// No deadline.
    pub fn unlimited() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }

    /// Sets the deadline, in milliseconds since 1970 as Lambda tells it (`Lambda-Runtime-Deadline-Ms`).
    pub fn set_deadline_ms(&self, deadline: u64) {
        self.0.store(i64::try_from(deadline).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Time left until the deadline; zero when it has passed, [`Duration::MAX`] without one.
    pub fn remaining(&self) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            i64::MAX => Duration::MAX,
            deadline => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Duration::from_millis(u64::try_from(deadline).unwrap_or(0)).saturating_sub(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_unlimited_until_a_deadline_is_set_and_never_negative() {
        let budget = Budget::unlimited();
        assert_eq!(budget.remaining(), Duration::MAX);
        let shared = budget.clone();
        shared.set_deadline_ms(1);
        assert_eq!(budget.remaining(), Duration::ZERO);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        budget.set_deadline_ms(u64::try_from(now.as_millis()).unwrap() + 60_000);
        assert!(budget.remaining() > Duration::from_secs(50) && budget.remaining() <= Duration::from_mins(1));
    }
}
