//! States kept warm in memory, and written through only when they hold news: a deployed function pays for
//! every write, and most events of somebody known say nothing new of them.
//!
//! A state is written when its principal is new, when it has alerted, used something for the first time, when
//! [`MOST_EVENTS`] have been learned since, or after [`MOST_SECONDS`] of activity. What is not written yet is
//! lost when the process ends or when another one has written meanwhile: at most that many events of habit,
//! never an alert, never anything new. So habits are learned a little slower, and no score that alerted is
//! forgotten before its batch can come again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sentinel_behaviour::PrincipalState;
use sentinel_state::TableError;

use super::baselines::{BaselineStore, Who};

/// Events that may be learned before a state is written. Fewer than the ids that a state remembers, so that
/// whoever reads it later still knows the latest.
pub const MOST_EVENTS: u32 = 32;
/// Seconds of a principal's activity, from the last event written, after which a state is written.
pub const MOST_SECONDS: i64 = 3_600;
/// States kept; beyond it all are let go, which costs reads.
const MOST_STATES: usize = 5_000;

/// A state as it is now, and as it was last read or written.
struct Warm {
    now: PrincipalState,
    stored: PrincipalState,
    version: Option<u64>,
}

/// A store of states in front of another one.
pub struct CachedBaselines {
    behind: Arc<dyn BaselineStore>,
    warm: Mutex<HashMap<Who, Warm>>,
}

impl CachedBaselines {
    /// In front of `behind`.
    pub fn new(behind: Arc<dyn BaselineStore>) -> Self {
        Self { behind, warm: Mutex::default() }
    }

    fn with_warm<T>(&self, act: impl FnOnce(&mut HashMap<Who, Warm>) -> T) -> T {
        act(&mut self.warm.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_due(state: &PrincipalState, stored: &PrincipalState) -> bool {
    let news = state.news_since(stored);
    news.new_kind || news.events >= MOST_EVENTS || news.seconds >= MOST_SECONDS
}

#[async_trait]
impl BaselineStore for CachedBaselines {
    async fn read(&self, who: &Who) -> Result<(PrincipalState, Option<u64>), TableError> {
        if let Some(found) = self.with_warm(|warm| warm.get(who).map(|w| (w.now.clone(), w.version))) {
            return Ok(found);
        }
        let (state, version) = self.behind.read(who).await?;
        let kept = Warm { now: state.clone(), stored: state.clone(), version };
        self.with_warm(|warm| {
            if warm.len() >= MOST_STATES {
                warm.clear();
            }
            warm.insert(who.clone(), kept);
        });
        Ok((state, version))
    }

    async fn write(&self, who: &Who, state: PrincipalState, version: Option<u64>) -> Result<bool, TableError> {
        let waits = self.with_warm(|warm| match warm.get_mut(who) {
            Some(kept) if version.is_some() && kept.version == version && !is_due(&state, &kept.stored) => {
                kept.now = state.clone();
                true
            }
            _ => false,
        });
        if waits {
            return Ok(true);
        }
        // Whatever comes of it, what is warm is no longer what is stored: the next read asks.
        self.with_warm(|warm| warm.remove(who));
        if !self.behind.write(who, state.clone(), version).await? {
            return Ok(false);
        }
        let kept = Warm { now: state.clone(), stored: state, version: Some(version.map_or(1, |v| v + 1)) };
        self.with_warm(|warm| warm.insert(who.clone(), kept));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sentinel_model::{Event, Timestamp};

    use super::*;
    use crate::models::{MemoryBaselines, Model, ModelScorer, simulated};
    use crate::scorer::Scorer;

    /// Counts what reaches the store behind.
    #[derive(Default)]
    struct Counted {
        store: MemoryBaselines,
        reads: AtomicUsize,
        writes: AtomicUsize,
    }

    #[async_trait]
    impl BaselineStore for Counted {
        async fn read(&self, who: &Who) -> Result<(PrincipalState, Option<u64>), TableError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.store.read(who).await
        }

        async fn write(&self, who: &Who, state: PrincipalState, version: Option<u64>) -> Result<bool, TableError> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.store.write(who, state, version).await
        }
    }

    fn batches(events: &[Event], seconds: i64) -> Vec<Vec<Event>> {
        let slot = |e: &Event| e.time.as_second().div_euclid(seconds);
        events.chunk_by(|a, b| slot(a) == slot(b)).map(<[Event]>::to_vec).collect()
    }

    fn counted() -> (Arc<Counted>, ModelScorer) {
        let counted = Arc::new(Counted::default());
        let cached = CachedBaselines::new(Arc::clone(&counted) as Arc<dyn BaselineStore>);
        (counted, ModelScorer::new(Model::embedded().unwrap(), Arc::new(cached)))
    }

    #[tokio::test]
    async fn few_events_cost_a_write_and_the_scores_stay_the_same() {
        let events = simulated::events(77_002, 14, 14);
        let plain = ModelScorer::in_memory().unwrap();
        let (counted, cached) = counted();
        let later = events.last().unwrap().time.as_second() - 4 * 86_400;
        let (mut writes, mut seen) = (0, 0);
        for batch in batches(&events, 300) {
            let before = counted.writes.load(Ordering::Relaxed);
            assert_eq!(cached.score(&batch).await.unwrap(), plain.score(&batch).await.unwrap());
            if batch[0].time.as_second() > later {
                writes += counted.writes.load(Ordering::Relaxed) - before;
                seen += batch.len();
            }
        }
        // Of people who are known for ten days. Every principal of every batch would be several times that.
        assert!(seen > 1_000 && writes * 8 < seen, "{writes} writes for {seen} events");
        println!("{writes} writes for {seen} events, {} reads in all", counted.reads.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn what_another_process_wrote_wins_and_is_read_again() {
        let events = simulated::events(77_003, 3, 3);
        let store: Arc<dyn BaselineStore> = Arc::new(MemoryBaselines::default());
        let scorer = || {
            let cached = CachedBaselines::new(Arc::clone(&store));
            ModelScorer::new(Model::embedded().unwrap(), Arc::new(cached))
        };
        let (one, other) = (scorer(), scorer());
        for (i, batch) in batches(&events, 300).into_iter().enumerate() {
            let scorer = if i % 2 == 0 { &one } else { &other };
            scorer.score(&batch).await.expect("a conflict is not an error");
        }
    }

    #[tokio::test]
    async fn an_alert_is_stored_at_once() {
        let counted = Arc::new(Counted::default());
        let cached = CachedBaselines::new(Arc::clone(&counted) as Arc<dyn BaselineStore>);
        let who = Who { account: "111122223333".into(), actor: "someone".into() };
        let event = simulated::events(77_004, 2, 1).remove(0);
        let (mut state, version) = cached.read(&who).await.unwrap();
        state.update(&event, sentinel_behaviour::Learn::Habit);
        assert!(cached.write(&who, state, version).await.unwrap(), "a new principal is stored");

        let (mut state, version) = cached.read(&who).await.unwrap();
        state.update(&Event { id: "again".into(), ..event.clone() }, sentinel_behaviour::Learn::Habit);
        assert!(cached.write(&who, state, version).await.unwrap());
        assert_eq!(counted.writes.load(Ordering::Relaxed), 1, "more of the same waits");
        assert_eq!(counted.reads.load(Ordering::Relaxed), 1);

        let (mut state, version) = cached.read(&who).await.unwrap();
        let alerted = sentinel_behaviour::Learn::Alerted { score: 0.9, reasons: 1 };
        state.update(&Event { id: "alerted".into(), time: Timestamp::UNIX_EPOCH, ..event }, alerted);
        assert!(cached.write(&who, state.clone(), version).await.unwrap());
        assert_eq!(counted.writes.load(Ordering::Relaxed), 2, "an alert does not");
        assert_eq!(counted.store.read(&who).await.unwrap().0, state);
    }
}
