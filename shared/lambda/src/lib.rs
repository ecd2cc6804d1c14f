//! What every Lambda main shares, so that a main only wires: settings with every mistake named at once, logs,
//! metrics in CloudWatch's embedded format, SQS batches answered message by message, and the time budget of
//! the invocation.
//!
//! In: the process environment and the Runtime API's events. Out: calls of stage handlers, partial batch
//! responses, log lines on standard error and metric lines on standard output.

mod batch;
mod deployed;
mod emf;
mod env;
mod intake;
mod serve;
mod start;

pub use deployed::{Deployed, own_roles};
pub use emf::Emf;
pub use env::{Env, EnvError, Reader};
pub use intake::{Intake, StageQueue};
pub use serve::{serve_events, serve_queue, serve_queue_and_events};
pub use start::{Start, exit, start};
