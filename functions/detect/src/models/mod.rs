//! Models: an isolation forest over behaviour features, from training to alerts' reasons.
//!
//! In: events of a batch, and what is remembered of their principals. Out: calibrated scores with readable
//! reasons, through the [`crate::scorer`] port. The forest is trained by [`train()`], written as ONNX
//! ([`onnx`]), and run by tract with one operator of ours ([`op`]); [`runner`] checks the file against its
//! manifest before it counts. A trained model is part of this crate, so that a deployment has one from the
//! first event on.
//!
//! What it cannot see: identities without a past. A user or session that an intruder has just made is judged
//! as an average colleague, and scores low; rules and lineage follow it instead. And it was trained on simulated
//! activity: how many false alerts a real account gives is to be measured there.

pub mod baselines;
pub mod cached;
pub mod forest;
pub mod manifest;
pub mod onnx;
pub mod op;
pub mod reasons;
pub mod runner;
pub mod scorer;
pub mod train;

#[cfg(test)]
mod evaluation;
#[cfg(test)]
#[allow(unreachable_pub, reason = "shared with the example that writes the model's files")]
mod simulated;
#[cfg(test)]
mod tests;

pub use baselines::{BaselineStore, MemoryBaselines, TableBaselines};
pub use cached::CachedBaselines;
pub use forest::{Forest, ForestOptions};
pub use manifest::Manifest;
pub use runner::{Model, ModelError};
pub use scorer::ModelScorer;
pub use train::{TrainError, Trained, TrainingOptions, train};
