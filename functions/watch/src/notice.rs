//! What operators are told: one notice for each source that falls silent or comes back, and for each poll that stalls or
//! goes on. A gauge says how many there are and keeps an alarm up; but while one is known, the alarm hides the next.
//!
//! In: what a round found. Out: notices through a port. A notice is told before it is remembered as told, so that a
//! crash between the two tells it twice rather than never.

use async_trait::async_trait;
use sentinel_model::{Timestamp, time};
use sentinel_state::{polls::PollCursor, sources::Heartbeat};

use crate::Poll;

/// Most notices that are told one by one in a round; more are told as one.
pub const ONE_BY_ONE: usize = 5;
/// Most of them that such a one names.
const NAMED: usize = 50;

/// One thing that operators should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened, in one line.
    pub title: String,
    /// The details, in sentences.
    pub text: String,
}

/// A notice was not delivered.
#[derive(Debug, thiserror::Error)]
#[error("operators could not be told: {0}")]
pub struct TellError(pub String);

/// Whoever runs CloudSentinel.
#[async_trait]
pub trait Operators: Send + Sync {
    /// Delivers a notice, or says why that failed; then it is tried again in the next round.
    async fn tell(&self, notice: &Notice) -> Result<(), TellError>;
}

/// A source that fell silent, of which so many seconds of quiet would have been expected.
pub(crate) fn fell_silent(heartbeat: &Heartbeat, now: Timestamp, expected_seconds: i64) -> Notice {
    let quiet = time::seconds_between(heartbeat.last_seen, now) / 60;
    Notice {
        title: format!("Logs of {} stopped", named(heartbeat)),
        text: format!(
            "Account {}, Region {}, by {}: the last records came at {}, {quiet} minutes ago. By its longest pause of the \
             last two weeks it counts as silent after {} minutes. What happens there is not seen: was a trail, a rule or a \
             notification switched off? If nothing runs there any more, it is forgotten after two weeks.",
            heartbeat.source.account,
            heartbeat.source.region,
            heartbeat.source.delivery.as_str(),
            heartbeat.last_seen,
            expected_seconds / 60,
        ),
    }
}

/// A silent source that delivers again.
pub(crate) fn delivers_again(heartbeat: &Heartbeat) -> Notice {
    let since =
        heartbeat.silent_since.map_or_else(String::new, |since| format!(" It counted as silent since {since}."));
    Notice {
        title: format!("Logs of {} come again", named(heartbeat)),
        text: format!(
            "Account {}, Region {}, by {}: records came at {}.{since}",
            heartbeat.source.account,
            heartbeat.source.region,
            heartbeat.source.delivery.as_str(),
            heartbeat.last_seen,
        ),
    }
}

/// A poll that stalled, or never succeeded.
pub(crate) fn stalled(poll: &Poll, cursor: Option<&PollCursor>) -> Notice {
    let last =
        cursor.map_or_else(|| "was never made".to_owned(), |c| format!("has not got on since {}", c.last_success));
    let error = cursor.and_then(|c| c.error.as_deref()).unwrap_or("none is known; does the function run?");
    Notice {
        title: format!("The poll of {} in {} stalled", poll.account, poll.region),
        text: format!(
            "Account {}, Region {}: the poll of CloudTrail's event history {last}. Its last error: {error}. Events wait \
             there for 90 days: nothing is lost if it goes on.",
            poll.account, poll.region
        ),
    }
}

/// A stalled poll that goes on.
pub(crate) fn polls_again(poll: &Poll, since: Timestamp) -> Notice {
    Notice {
        title: format!("The poll of {} in {} goes on", poll.account, poll.region),
        text: format!("Account {}, Region {}: it had stalled since {since}.", poll.account, poll.region),
    }
}

/// Many at once, as when an organisation's trail stops: what they have in common is one thing.
pub(crate) fn many(notices: &[Notice]) -> Notice {
    let named: Vec<&str> = notices.iter().take(NAMED).map(|notice| notice.title.as_str()).collect();
    let more = notices.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("\nand {more} more.") } else { String::new() };
    Notice {
        title: format!("{} sources of logs or polls changed at once", notices.len()),
        text: format!("{}{more}\nThe log of the watch function has the details of each.", named.join("\n")),
    }
}

fn named(heartbeat: &Heartbeat) -> String {
    format!("{} in {}", heartbeat.source.account, heartbeat.source.region)
}
