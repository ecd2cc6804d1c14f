//! Waiting made a shared part: durable queue, due-time timer, outbox, lease and clock.
//!
//! Queue and timer are ports with a SQLite adapter now and SQS and EventBridge Scheduler later; outbox and
//! lease are written once over the state table's conditional writes. All adapters pass [`conformance`], with
//! the same redelivery on one machine as on AWS: a message not deleted within its visibility timeout comes
//! again, and after too many receives goes to the dead-letter queue.

pub mod clock;
pub mod codec;
pub mod conformance;
pub mod contention;
pub mod lease;
pub mod outbox;
pub mod queue;
pub mod timer;
pub mod worker;

pub use clock::{Clock, ManualClock, SystemClock};
pub use queue::{Message, Outcome, Outgoing, Queue, QueueDepth, QueueError, Stage};
pub use timer::{Timer, TimerError};
