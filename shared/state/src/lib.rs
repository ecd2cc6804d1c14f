//! State behind ports shaped for DynamoDB: items under a partition and a sort key, conditional writes,
//! time to live, two listing indexes, no joins.
//!
//! [`Table`] is the one port an adapter implements (SQLite in `sentinel-embedded`, DynamoDB later); both
//! pass [`conformance`]. What the stages read and write are the typed stores over it: [`alerts`],
//! [`incidents`], [`lineage`], [`responses`], [`users`], [`polls`], [`backtests`]. [`rules`] is the port of where operators keep
//! theirs.

pub mod alerts;
pub mod backtests;
pub mod baselines;
pub mod conformance;
pub mod correlations;
pub mod incidents;
pub mod lineage;
pub mod polls;
pub mod responses;
pub mod rules;
pub mod signing;
pub mod sources;
pub mod table;
pub mod users;

pub use table::{Condition, Index, IndexKey, Item, Key, Page, Put, Query, SkRange, Table, TableError, Write};

/// A time as text of fixed width, so that sort keys of text sort by time (milliseconds; RFC 3339).
pub fn sort_time(time: sentinel_model::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
