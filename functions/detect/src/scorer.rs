//! The port for models: something that scores events by how unusual they are.
//!
//! In: the events of one batch, in order of arrival. Out: a calibrated score for each event that a model
//! has something to say about. Detect turns scores into alerts of rule `model:NAME`; it knows nothing of
//! how a score is made, and scoring knows nothing of alerts.

use async_trait::async_trait;
use sentinel_model::{Event, Level};

/// What one model says of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Which of the events given, by position.
    pub index: usize,
    /// Calibrated score, 0 to 1: at most one benign event in 1,000 reaches 0.4.
    pub score: f64,
    /// Readable sentences on what was unusual.
    pub reasons: Vec<String>,
    /// Name of the model, e.g. `isolation-forest`; the alert's rule id is `model:` and this name.
    pub model: String,
}

/// Why a model could not score. Worth another try: the batch comes again.
#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    /// The model itself failed.
    #[error("model {model} failed: {reason}")]
    Model {
        /// Name of the model.
        model: String,
        /// What went wrong.
        reason: String,
    },
    /// The state a model needs (baselines) could not be read or written.
    #[error("model state failed: {0}")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Scores events. Redelivery may show the same event twice; the score must then be the same alert's.
#[async_trait]
pub trait Scorer: Send + Sync {
    /// Scores of those events that a model has something to say about, in any order; scores below
    /// [`LOWEST_ALERT_SCORE`] may be left out.
    async fn score(&self, events: &[Event]) -> Result<Vec<Scored>, ScorerError>;
}

/// Below this calibrated score there is no alert.
pub const LOWEST_ALERT_SCORE: f64 = 0.4;

/// The level of a model's alert: critical from 0.8, high from 0.6, medium from 0.4, no alert below
/// (and none for a score that is no number).
pub fn level_of_score(score: f64) -> Option<Level> {
    match score {
        s if s >= 0.8 => Some(Level::Critical),
        s if s >= 0.6 => Some(Level::High),
        s if s >= LOWEST_ALERT_SCORE => Some(Level::Medium),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_score() {
        for (score, level) in [
            (1.0, Some(Level::Critical)),
            (0.8, Some(Level::Critical)),
            (0.79, Some(Level::High)),
            (0.6, Some(Level::High)),
            (0.4, Some(Level::Medium)),
            (0.399, None),
            (f64::NAN, None),
        ] {
            assert_eq!(level_of_score(score), level, "{score}");
        }
    }
}
