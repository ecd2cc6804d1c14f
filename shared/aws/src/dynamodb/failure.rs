//! What goes wrong with a call, in one line; and the wait before it is made again.

use std::{error::Error, time::Duration};

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use rand::Rng;
use sentinel_state::TableError;

/// Most attempts against other transactions over the same items. Throttled calls and lost connections are the
/// client's to try again; a transaction that another one cancelled it does not.
const ATTEMPTS: u32 = 10;
/// The first wait, doubled with every attempt up to the longest.
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(640);

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[error("DynamoDB {operation}: {reason}")]
struct Failed {
    operation: &'static str,
    reason: String,
}

/// The error of a failed call. Its text names the error's code and message, not the request or the answer,
/// which hold what is stored.
pub(super) fn failed<E, R>(operation: &'static str, error: &SdkError<E, R>) -> TableError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    let reason = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => chain(error),
    };
    because(operation, reason)
}

/// An error that no exception of the SDK tells.
pub(super) fn because(operation: &'static str, reason: impl Into<String>) -> TableError {
    TableError::store(Failed { operation, reason: reason.into() })
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Attempts of one call, with growing random waits between them ("full jitter": AWS Architecture Blog,
/// "Exponential Backoff And Jitter").
#[derive(Debug, Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Waits before another attempt; `false`, at once, when there have been enough.
    pub(super) async fn again(&mut self) -> bool {
        self.0 += 1;
        if self.0 >= ATTEMPTS {
            return false;
        }
        let most = FIRST.saturating_mul(1 << (self.0 - 1).min(16)).min(LONGEST);
        let wait = most.mul_f64(rand::rng().random::<f64>());
        tokio::time::sleep(wait).await;
        true
    }
}
