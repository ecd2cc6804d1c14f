//! What every queue, timer, and table under an outbox and leases must do; adapters run it in their tests.
//!
//! In goes a way to make empty stores with a clock that can be moved; a promise that is not kept is a panic
//! that says which. Times are short, so that an adapter over a real service can wait them out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a suite of tests: a panic is its way to report"
)]

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_model::Timestamp;
use sentinel_state::Table;

use crate::{Clock, Message, Outgoing, Queue, Stage, Timer};

pub mod lease;
pub mod outbox;
pub mod queue;
pub mod timer;
pub mod worker;

/// Stores under test, all on one clock.
#[async_trait]
pub trait Setup: Send + Sync {
    /// The queues.
    fn queue(&self) -> Arc<dyn Queue>;
    /// The timers.
    fn timer(&self) -> Arc<dyn Timer>;
    /// The table.
    fn table(&self) -> Arc<dyn Table>;
    /// The clock.
    fn clock(&self) -> Arc<dyn Clock>;
    /// Lets time pass: moves the clock, or waits.
    async fn pass(&self, seconds: u32);
    /// Closes and opens the stores, as a restart of the process does; nothing where that means nothing.
    async fn restart(&self);
}

/// Runs all suites; `make` gives empty stores each time.
pub async fn all<S: Setup>(make: impl AsyncFn() -> S) {
    queue::suite(&make).await;
    timer::suite(&make).await;
    lease::suite(&make).await;
    outbox::suite(&make).await;
    worker::suite(&make).await;
}

fn now(setup: &impl Setup) -> Timestamp {
    setup.clock().now()
}

async fn send(queue: &dyn Queue, stage: Stage, bodies: &[&str]) {
    for batch in bodies.chunks(crate::queue::MAX_BATCH) {
        queue.send(stage, batch.iter().map(|body| Outgoing::now((*body).to_owned())).collect()).await.unwrap();
    }
}

/// Receives until a few receives in a row found nothing, since a service may give less than there is.
async fn receive(queue: &dyn Queue, stage: Stage, visibility_seconds: u32) -> Vec<Message> {
    let mut all = Vec::new();
    let mut empty = 0;
    while empty < 3 {
        let some = queue.receive(stage, 10, visibility_seconds).await.unwrap();
        assert!(some.len() <= 10, "more than asked for");
        empty = if some.is_empty() { empty + 1 } else { 0 };
        all.extend(some);
    }
    all
}

/// Bodies in order of their text, since a queue promises no order.
fn bodies(messages: &[Message]) -> Vec<&str> {
    let mut bodies: Vec<_> = messages.iter().map(|m| m.body.as_str()).collect();
    bodies.sort_unstable();
    bodies
}
