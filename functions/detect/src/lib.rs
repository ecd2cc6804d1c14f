//! Detect: from normalised events to what they add to alerts.
//!
//! In: batches of events from ingest. Out: batches of detections for enrich, with the lineage that all
//! successful events show. Sigma rules look at the raw record under its own field names; models look at
//! behaviour through the [`scorer`] port. This crate knows neither queue product nor cloud SDK.

pub mod check;
pub mod correlations;
pub mod detection;
#[cfg(test)]
mod differential;
mod dispatch;
mod fields;
pub mod handler;
pub mod keeper;
mod matcher;
pub mod models;
mod program;
mod reason;
pub mod rules;
pub mod scorer;
mod stories;
#[cfg(test)]
mod testing;
mod view;

pub use correlations::{Completed, Correlator, Events, Noted, Part, SpillError, StoredCorrelations};
pub use detection::{Builder, Config, OWN_ROLE_RULE};
pub use dispatch::DispatchStats;
pub use handler::Detect;
pub use keeper::{Kept, RuleKeeper, RuleObject, RuleSource, RuleSourceError};
pub use matcher::{Looked, Matcher, Memory};
pub use reason::Call;
pub use rules::{
    Brief, LoadError, LoadOptions, LoadReport, PackAhead, Refused, RuleIndex, RuleMeta, RuleSet, SharedRules,
    Suppressed,
};
pub use scorer::{Scored, Scorer, ScorerError};
