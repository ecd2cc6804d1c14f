//! The enrich stage: detections in, alerts and incidents out.
//!
//! A batch of detections is freed of our own actions' events, merged into stored alerts that are scored and
//! looked up in threat intelligence, grouped into incidents by principal, access key and lineage, and
//! indexed for search; respond is told, through an outbox, of each alert and level once.
//!
//! Pure parts: [`score`], [`attack`], [`merge`], [`incident`], [`story`], and [`collect`] and [`accumulate`] for hunting in
//! files without a store. Over ports: [`handler`] and [`grouping`]; [`intel`] and [`own`] are ports of their own.

pub mod accumulate;
pub mod attack;
pub mod collect;
pub mod grouping;
pub mod handler;
pub mod incident;
pub mod indicator_list;
pub mod intel;
pub mod merge;
pub mod own;
pub mod score;
pub mod story;

#[cfg(test)]
mod between_tests;
#[cfg(test)]
mod correlated_tests;
mod document;
#[cfg(test)]
mod pipeline_tests;
#[cfg(test)]
mod testing;

pub use accumulate::Accumulator;
pub use collect::{Collected, Collector};
pub use handler::{Enrich, EnrichError, Ports, Settings};
pub use indicator_list::{BadLine, IndicatorList};
pub use intel::{Indicator, IntelError, Intelligence, Sources};
pub use own::{NoOwnActions, OwnActions, OwnActionsError};
