//! The watch stage: what should have come and did not, and what a crash left undone.
//!
//! Once a minute: sends what lies in the outbox ([`sentinel_durable::outbox`]), looks for sources that used to
//! deliver and stopped ([`silence`]), and for polls of the CloudTrail API that stalled. Once a day, where there is
//! a search index that forgets nothing by itself, it forgets old events ([`forget`]). In: the table, the queues
//! and that index. Out: messages sent, gauges that are written in every round (so that an alarm can take their absence
//! for a failure), and one notice to operators for each source or poll that stopped or goes on ([`notice`]).

pub mod forget;
pub mod notice;
mod round;
pub mod silence;

pub use notice::{Notice, Operators, TellError};
pub use round::{PartError, Poll, Round, STALLED_SECONDS, Settings, Watch, WatchError};
