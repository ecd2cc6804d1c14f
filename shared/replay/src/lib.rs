//! History replayed through two rule sets: what a set of rules would change before it is turned on.
//!
//! In: events, each once or more, in any order, and two rule sets ([`Pair`]). Both match every event in one pass
//! ([`Pass`]), and the alerts of both are made by the code that makes those of a scan. Out: a [`Report`] that says, rule
//! by rule, which alerts are gained and lost. `sentinel backtest` reads files; [`Runner`] reads the archive, for the API.

mod compare;
mod in_force;
mod job;
mod pass;
mod report;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod told;

pub use compare::compare;
pub use in_force::{InForce, InForceError, RulesInForce};
pub use job::{JobError, Limits, Runner};
pub use pass::{Loaded, Pair, Pass};
pub use report::{Affected, Change, Kind, Report, RuleDifference, Sample, Side};
pub use told::{correlations, say};
