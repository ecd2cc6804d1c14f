//! The model as a [`Scorer`]: scores events one by one against what is remembered of their principals, and
//! remembers them.
//!
//! Each event is scored before it is learned. An alerted one is not learned, so that an intruder cannot teach
//! the model (only what alerts on three days is taken for a new habit). Somebody of whom little is known scores
//! lower, so that new principals don't flood the alerts: see [`damping`]. A redelivered event is told by its id
//! or its batch, gets the score it had, and changes nothing.
//!
//! Services, other accounts and unknown callers are not scored: each name stands for many callers.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use sentinel_behaviour::{Learn, Lesson, Lessons, PrincipalState, Replay, features};
use sentinel_model::Event;

use super::{
    baselines::{BaselineStore, MemoryBaselines, Who},
    reasons,
    runner::{Model, ModelError},
};
use crate::scorer::{LOWEST_ALERT_SCORE, Scored, Scorer, ScorerError};

/// Attempts at a principal's state that others write too, before the batch is left to redelivery.
const ATTEMPTS: usize = 8;

/// Principals whose states are read side by side: what a batch waits for is the store, not the model.
const AT_ONCE: usize = 16;

/// Scores with one model.
#[derive(Clone)]
pub struct ModelScorer {
    model: Model,
    store: Arc<dyn BaselineStore>,
}

/// What came of one event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assessed {
    /// Calibrated and damped score, 0 to 1.
    pub score: f64,
    /// One bit for each feature that stands out; only for alerted events.
    pub reasons: u32,
}

/// Factor on the score of somebody of whom little is known: from 0.6 for a first event up to 1 at full
/// maturity. What is medium of somebody known is then no alert of somebody new; what is critical still is.
pub fn damping(maturity: f32) -> f64 {
    0.6 + 0.4 * f64::from(maturity.clamp(0.0, 1.0))
}

/// Scores one event and learns it.
pub fn assess(model: &Model, state: &mut PrincipalState, event: &Event) -> Result<Assessed, ModelError> {
    Ok(assess_and_tell(model, state, event)?.0)
}

/// Scores one event and learns it, and tells what it taught.
fn assess_and_tell(model: &Model, state: &mut PrincipalState, event: &Event) -> Result<(Assessed, Lesson), ModelError> {
    let assessed = rate(model, state, event)?;
    #[allow(clippy::cast_possible_truncation, reason = "a score between 0 and 1")]
    let learn = if assessed.score >= LOWEST_ALERT_SCORE {
        Learn::Alerted { score: assessed.score as f32, reasons: assessed.reasons }
    } else {
        Learn::Habit
    };
    let lesson = Lesson::of(event, learn);
    state.apply(&lesson);
    Ok((assessed, lesson))
}

/// Scores one event without learning it.
fn rate(model: &Model, state: &PrincipalState, event: &Event) -> Result<Assessed, ModelError> {
    let values = features(event, state, &model.manifest().rarity);
    let raw = model.raw(&[values])?.first().copied().unwrap_or(0.0);
    let score = model.manifest().calibrate(f64::from(raw)) * damping(state.maturity());
    let alerted = score >= LOWEST_ALERT_SCORE;
    let reasons = if alerted { reasons::standing_out(&values, &model.manifest().usual) } else { 0 };
    Ok(Assessed { score, reasons })
}

impl ModelScorer {
    /// A scorer over a store of states.
    pub fn new(model: Model, store: Arc<dyn BaselineStore>) -> Self {
        Self { model, store }
    }

    /// The product's own model with states in memory, as a scan uses it.
    pub fn in_memory() -> Result<Self, ModelError> {
        Ok(Self::new(Model::embedded()?, Arc::new(MemoryBaselines::default())))
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn failed(&self, e: &ModelError) -> ScorerError {
        ScorerError::Model { model: self.model.manifest().name.clone(), reason: e.to_string() }
    }

    /// Scores the events of one principal, given in order of time, and remembers them.
    async fn principal(&self, who: &Who, events: &[(usize, &Event)]) -> Result<Vec<Scored>, ScorerError> {
        let list: Vec<&Event> = events.iter().map(|(_, event)| *event).collect();
        for _ in 0..ATTEMPTS {
            let (mut state, version) = self.store.read(who).await.map_err(state_error)?;
            let known = state.knows_batch(&list);
            let (mut found, mut learned) = (Vec::new(), Lessons::of(&list));
            for (index, event) in events {
                let assessed = self.event(&mut state, event, known, &mut learned).map_err(|e| self.failed(&e))?;
                if assessed.score >= LOWEST_ALERT_SCORE {
                    found.push(self.scored(*index, event, assessed));
                }
            }
            if known {
                return Ok(found);
            }
            state.remember_batch(&list);
            if self.store.write(who, state, version, learned).await.map_err(state_error)? {
                return Ok(found);
            }
        }
        Err(ScorerError::State(format!("the baseline of {} is written by too many at once", who.actor).into()))
    }

    fn event(
        &self,
        state: &mut PrincipalState,
        event: &Event,
        known: bool,
        learned: &mut Lessons,
    ) -> Result<Assessed, ModelError> {
        match state.replay(event) {
            Replay::Alerted { score, reasons } => Ok(Assessed { score: f64::from(score), reasons }),
            Replay::Quiet => Ok(Assessed { score: 0.0, reasons: 0 }),
            // Seen before but too long ago to be remembered by its id: scored again, not learned again.
            Replay::New if known => rate(&self.model, state, event),
            Replay::New => {
                let (assessed, lesson) = assess_and_tell(&self.model, state, event)?;
                learned.add(lesson);
                Ok(assessed)
            }
        }
    }

    fn scored(&self, index: usize, event: &Event, assessed: Assessed) -> Scored {
        Scored {
            index,
            score: assessed.score,
            reasons: reasons::sentences(event, assessed.reasons),
            model: self.model.manifest().name.clone(),
        }
    }
}

fn state_error(e: sentinel_state::TableError) -> ScorerError {
    ScorerError::State(Box::new(e))
}

#[async_trait]
impl Scorer for ModelScorer {
    async fn score(&self, events: &[Event]) -> Result<Vec<Scored>, ScorerError> {
        let mut by_principal: BTreeMap<Who, Vec<(usize, &Event)>> = BTreeMap::new();
        for (index, event) in events.iter().enumerate() {
            if event.principal.identifies_someone() {
                let who = Who { account: event.account.clone(), actor: event.principal.actor.clone() };
                by_principal.entry(who).or_default().push((index, event));
            }
        }
        let mut each = Vec::with_capacity(by_principal.len());
        for (who, mut events) in by_principal {
            events.sort_by(|(_, a), (_, b)| (a.time, &a.id).cmp(&(b.time, &b.id)));
            each.push(async move { self.principal(&who, &events).await }.boxed());
        }
        let all: Vec<Vec<Scored>> = stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut found: Vec<Scored> = all.into_iter().flatten().collect();
        found.sort_by_key(|s| s.index);
        Ok(found)
    }
}
