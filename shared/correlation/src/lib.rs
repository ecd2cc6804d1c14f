//! Correlations: what several events say together (Sigma correlation rules, version 2).
//!
//! In: [`Hit`]s, which are events that matched a rule that a correlation refers to, in any order, any number of times.
//! Out: for every group and [`Plan::window`] of the UTC clock at most one [`Outcome`], and the detection it makes.
//!
//! A hit *completes* a correlation when the condition holds over the hits of its group that lie within the timespan
//! up to it. Hits are kept in [`Bucket`]s, one for a group and window, and buckets merge as sets do; a window is at
//! least as long as the timespan, so that three buckets are all that one outcome depends on ([`evaluate`]). That is
//! why order, repetition and lateness change nothing, and why the same code serves a file of logs read in any
//! order and a store that many processes write.
//!
//! Everything here is a pure function: no clock, no store.

mod bucket;
mod evaluate;
mod hit;
pub mod judge;
mod plan;
mod say;
#[cfg(test)]
mod tests;
pub mod wire;

pub use bucket::{Bucket, CAP, MAX_SOURCES, Source, SourceKey, revision, slice_width};
pub use evaluate::{Contested, Outcome, claim, completing, evaluate};
pub use hit::{Evidence, Group, Hit, HitKey, Onward};
pub use plan::{Condition, Expression, Kind, Link, MAX_BASES, Op, Plan};
pub use say::{Calls, call_name};
