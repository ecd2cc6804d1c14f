//! Ordinary activity of a simulated company in one AWS account, and a scripted attack, as `CloudTrail` records.
//!
//! Why: models are trained and measured on activity that we may publish, and the demonstration replays an
//! attack without touching a real account. In: a seed and a start time. Out: JSON records in `CloudTrail`'s
//! real shapes, in order of time. The same options always give the same records, byte for byte: nothing here
//! reads a clock, the environment or the operating system's randomness.
//!
//! Addresses come from the ranges reserved for documentation (RFC 5737, RFC 3849) and RFC 1918; access key
//! ids end in `EXAMPLE`, so none can be mistaken for a real one.

pub mod attack;
pub mod catalogue;
pub mod company;
pub mod identity;
pub mod record;
pub mod scenario;
mod schedule;
#[cfg(test)]
mod tests;

pub use attack::{AttackOptions, compromised_key};
pub use company::{Company, CompanyOptions, IamUser};
pub use scenario::{Scenario, ScenarioOptions, day_with_attack, shift};
