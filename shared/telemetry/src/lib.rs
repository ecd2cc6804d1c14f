//! What operators see of the running pipeline: structured logs and metrics, under the same names on one
//! machine and on AWS.
//!
//! Stages count through the functions of [`metrics`] and log through `tracing`; the binary decides once, at
//! its start, where both go: [`init_logs`], [`Metrics::install`].

pub mod logs;
pub mod metrics;
pub mod prometheus;

pub use logs::{LogFormat, init_logs};
pub use metrics::error;
pub use prometheus::Metrics;

/// What can go wrong when telemetry starts.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is not one of `tracing`'s directives, e.g. `info,sentinel_detect=debug`.
    #[error("bad log filter {filter:?}: {reason}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logs or metrics were started before in this process.
    #[error("telemetry is already running: {0}")]
    AlreadyRunning(String),
    /// A metric's settings are wrong.
    #[error("bad metric settings: {0}")]
    Settings(String),
}
