//! The timer port: an item in the table says what is set, and a delayed SQS message or a one-time schedule of
//! EventBridge Scheduler brings it when it is due.
//!
//! Each setting has a token of its own, in the item and in the message. Neither a delayed message nor a
//! schedule that is firing can be taken back, so a message counts only while its token is the item's: one of
//! a timer that was cancelled or set again is dropped when it comes ([`crate::sqs::SqsQueue::admit`]).
//!
//! The item is written before the message: a crash between the two leaves a timer that does not fire and a
//! caller that was not told of success, and sets it again. The other way round a message could come before
//! the item by which it is recognised. Once its schedule is made the item says so, and who sets the same again, as
//! each process does that looks after what waits, makes no other: every schedule that is made and deleted is an
//! event in the account's trail.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_scheduler::{
    Client,
    types::{ActionAfterCompletion, DeadLetterConfig, FlexibleTimeWindow, FlexibleTimeWindowMode, Target},
};
use sentinel_durable::{
    Clock, Outgoing, Stage, SystemClock, Timer, TimerError, queue::MAX_DELAY_SECONDS, timer::check_timer,
};
use sentinel_model::{Timestamp, hash::hash_64, time::plus_seconds};
use sentinel_state::{Condition, Key, Put, Table, TableError, Write};
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use crate::sqs::{MAX_INLINE_BYTES, SqsQueue, travels};
use crate::{late::Late, sdk::CallError};

/// What [`ScheduledTimer`] calls of the scheduler; it also sends ([`crate::sqs::SEND`]) and uses the table.
/// `iam:PassRole` is for the role that the schedules send with.
pub const ACTIONS: &[&str] = &["scheduler:CreateSchedule", "scheduler:DeleteSchedule", "iam:PassRole"];

/// Days that an item outlives its due time: longer than a queue and its dead-letter queue keep a message
/// (14 days), so that a timer that fired while its stage was out of order still counts once it works again.
const KEPT_DAYS: i64 = 15;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Begins the message of a timer.
const MARK: &str = "timer:";

/// The message of a timer, as it stands in a queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TimerMessage {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) body: String,
}

impl TimerMessage {
    pub(crate) fn is_timer(body: &str) -> bool {
        body.starts_with(MARK)
    }

    /// Reads a message's body; `None` when it is not a timer's.
    pub(crate) fn parse(body: &str) -> Option<Result<Self, serde_json::Error>> {
        Some(serde_json::from_str(body.strip_prefix(MARK)?))
    }

    fn text(&self) -> Result<String, TimerError> {
        let json = serde_json::to_string(self).map_err(store)?;
        Ok(format!("{MARK}{json}"))
    }
}

/// What is set, as it lies in the table.
#[derive(Debug, Serialize, Deserialize)]
struct TimerItem {
    token: String,
    due: Timestamp,
    stage: Stage,
    /// Whether a schedule of the token's name brings it, and not a delayed message.
    scheduled: bool,
    /// Once that schedule is made: the hash of what it brings.
    #[serde(default)]
    made: Option<u64>,
}

impl TimerItem {
    /// Whether a schedule stands that will bring just this.
    fn stands_for(&self, due: Timestamp, stage: Stage, body: &str, now: Timestamp) -> bool {
        let same = self.due == due && self.stage == stage && self.made == Some(hash_64(body.as_bytes()));
        self.scheduled && same && now < due
    }
}

fn key(id: &str) -> Key {
    Key::new(format!("TIMER#{id}"), "TIMER")
}

/// Whether a timer's message is of its latest setting.
pub(crate) async fn is_current(table: &dyn Table, stage: Stage, message: &TimerMessage) -> Result<bool, TableError> {
    let Some(item) = table.get(&key(&message.id)).await? else { return Ok(false) };
    let item: TimerItem = item.decode()?;
    Ok(item.token == message.token && item.stage == stage)
}

/// Where schedules are made, and what they may send to.
#[derive(Debug, Clone)]
pub struct Schedules {
    /// The scheduler's client.
    pub client: Late<Client>,
    /// The schedule group.
    pub group: String,
    /// ARN of the role that schedules send with.
    pub role_arn: String,
    /// ARNs of the stages' queues.
    pub queue_arns: BTreeMap<Stage, String>,
    /// ARN of the queue that takes what could not be delivered for a day (EventBridge Scheduler User Guide,
    /// "Configuring a dead-letter queue").
    pub dead_arn: Option<String>,
}

/// A stage that schedules cannot send to.
#[derive(Debug, thiserror::Error)]
#[error("a timer for stage {} is due too late for a delayed message, and schedules are not configured for it", .0.as_str())]
struct NoSchedules(Stage);

/// A body that is too large to wait so long.
#[derive(Debug, thiserror::Error)]
#[error("a body of {0} bytes can wait at most {KEPT_DAYS} days")]
struct TooLongForItsSize(usize);

/// Timers on SQS and EventBridge Scheduler. Precise to a second up to 15 minutes, to a minute beyond
/// (EventBridge Scheduler User Guide, "Schedule types").
pub struct ScheduledTimer {
    queue: SqsQueue,
    table: Arc<dyn Table>,
    schedules: Option<Schedules>,
    longest_delay: u32,
}

impl ScheduledTimer {
    /// Timers whose messages go to `queue`; `table` is that of the queue. Without `schedules` none can be due
    /// later than 15 minutes from now.
    pub fn new(queue: SqsQueue, table: Arc<dyn Table>, schedules: Option<Schedules>) -> Self {
        Self { queue, table, schedules, longest_delay: MAX_DELAY_SECONDS }
    }

    /// Has a schedule bring what is due later than this, instead of than 15 minutes.
    #[must_use]
    pub fn schedule_beyond(mut self, seconds: u32) -> Self {
        self.longest_delay = seconds.min(MAX_DELAY_SECONDS);
        self
    }

    /// The text of a timer's message, with its body in a bucket where it cannot be in the message.
    async fn text(&self, id: &str, token: &str, body: &str, wait: i64) -> Result<String, TimerError> {
        let message = |body: String| TimerMessage { id: id.to_owned(), token: token.to_owned(), body }.text();
        if travels(body) {
            let text = message(body.to_owned())?;
            if text.len() <= MAX_INLINE_BYTES {
                return Ok(text);
            }
        }
        // The bucket keeps it for `claims::KEPT_DAYS`, of which the queues may need their part.
        if wait > KEPT_DAYS * DAY_SECONDS {
            return Err(store(TooLongForItsSize(body.len())));
        }
        message(self.queue.put_away(body).await.map_err(store)?)
    }

    async fn schedule(
        &self,
        schedules: &Schedules,
        arn: &str,
        item: &TimerItem,
        text: String,
    ) -> Result<(), CallError> {
        let built = |e: aws_sdk_scheduler::error::BuildError| CallError::answer(ACTIONS[0], None, e.to_string());
        let dead = schedules.dead_arn.as_ref().map(|dead| DeadLetterConfig::builder().arn(dead).build());
        let target = Target::builder().arn(arn).role_arn(&schedules.role_arn).input(text).set_dead_letter_config(dead);
        let target = target.build().map_err(built)?;
        let exactly = FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build().map_err(built)?;
        schedules
            .client
            .create_schedule()
            .group_name(&schedules.group)
            .name(&item.token)
            .schedule_expression(format!("at({})", up_to_second(item.due).strftime("%Y-%m-%dT%H:%M:%S")))
            .schedule_expression_timezone("UTC")
            .flexible_time_window(exactly)
            .action_after_completion(ActionAfterCompletion::Delete)
            .target(target)
            .send()
            .await
            .map_err(|e| CallError::new(ACTIONS[0], &e))?;
        Ok(())
    }

    /// Deletes the schedule of a setting, if it has one that has not fired.
    async fn unschedule(&self, item: &TimerItem) -> Result<(), CallError> {
        let Some(schedules) = self.schedules.as_ref().filter(|_| item.scheduled) else { return Ok(()) };
        let call = schedules.client.delete_schedule().group_name(&schedules.group).name(&item.token);
        match call.send().await.map_err(|e| CallError::new(ACTIONS[1], &e)) {
            Err(e) if e.is("ResourceNotFoundException") => Ok(()),
            done => done.map(drop),
        }
    }

    /// Notes that the schedule of a setting is made, unless the timer was set otherwise or cancelled meanwhile.
    async fn note_made(&self, id: &str, item: &TimerItem, expires: Timestamp) -> Result<(), TimerError> {
        let Some(stored) = self.table.get(&key(id)).await.map_err(store)? else { return Ok(()) };
        if stored.decode::<TimerItem>().map_err(store)?.token != item.token {
            return Ok(());
        }
        let put = Put::new(key(id), item).map_err(store)?.expiring(Some(expires));
        match self.table.write(vec![Write::Put(put.when(Condition::Version(stored.version)))]).await {
            Err(e) if e.is_condition() => Ok(()),
            done => done.map_err(store),
        }
    }

    async fn item(&self, id: &str) -> Result<Option<TimerItem>, TimerError> {
        let item = self.table.get(&key(id)).await.map_err(store)?;
        item.map(|item| item.decode().map_err(store)).transpose()
    }
}

#[async_trait]
impl Timer for ScheduledTimer {
    async fn set(&self, id: &str, due: Timestamp, stage: Stage, body: &str) -> Result<(), TimerError> {
        check_timer(id, body)?;
        let now = SystemClock.now();
        let wait = whole_seconds_until(due, now);
        let delay = u32::try_from(wait).ok().filter(|wait| *wait <= self.longest_delay);
        let schedule = match (delay, &self.schedules) {
            (Some(_), _) => None,
            (None, Some(s)) => Some((s, s.queue_arns.get(&stage).ok_or_else(|| store(NoSchedules(stage)))?)),
            (None, None) => return Err(store(NoSchedules(stage))),
        };
        // Only a schedule can be taken back, so only then is it worth a read to know of an earlier one.
        let earlier = if self.schedules.is_some() { self.item(id).await? } else { None };
        if earlier.as_ref().is_some_and(|earlier| earlier.stands_for(due, stage, body, now)) {
            return Ok(());
        }
        let token = Uuid::new_v4().to_string();
        let mut item = TimerItem { token, due, stage, scheduled: schedule.is_some(), made: None };
        let text = self.text(id, &item.token, body, wait).await?;
        let expires = plus_seconds(due.max(now), KEPT_DAYS * DAY_SECONDS);
        let put = Put::new(key(id), &item).map_err(store)?.expiring(Some(expires));
        self.table.write(vec![Write::Put(put)]).await.map_err(store)?;
        if let Some((schedules, arn)) = schedule {
            self.schedule(schedules, arn, &item, text).await.map_err(store)?;
            item.made = Some(hash_64(body.as_bytes()));
            self.note_made(id, &item, expires).await?;
        } else {
            let delay_seconds = delay.unwrap_or_default();
            self.queue.send_as_is(stage, Outgoing { body: text, delay_seconds }).await.map_err(store)?;
        }
        if let Some(earlier) = earlier
            && let Err(e) = self.unschedule(&earlier).await
        {
            warn!(timer = id, error = %e, "the schedule of an earlier setting stays; what it sends will be dropped");
        }
        Ok(())
    }

    async fn cancel(&self, id: &str) -> Result<(), TimerError> {
        let Some(item) = self.table.get(&key(id)).await.map_err(store)? else { return Ok(()) };
        self.unschedule(&item.decode().map_err(store)?).await.map_err(store)?;
        match self.table.write(vec![Write::Delete(key(id), Condition::Version(item.version))]).await {
            // Set again meanwhile: that setting was not meant, and deleting its item would have it never fire.
            Err(e) if e.is_condition() => Ok(()),
            done => done.map_err(store),
        }
    }

    /// Nothing: SQS and the scheduler fire by themselves.
    async fn fire_due(&self) -> Result<usize, TimerError> {
        Ok(0)
    }
}

/// Seconds from `now` until `due`, rounded up, so that nothing comes before its time; 0 when it has passed.
fn whole_seconds_until(due: Timestamp, now: Timestamp) -> i64 {
    let ms = due.as_millisecond().saturating_sub(now.as_millisecond()).max(0);
    ms.saturating_add(999) / 1000
}

fn up_to_second(time: Timestamp) -> Timestamp {
    let whole = Timestamp::from_second(time.as_second()).unwrap_or(time);
    if whole < time { plus_seconds(whole, 1) } else { whole }
}

fn store(e: impl std::error::Error + Send + Sync + 'static) -> TimerError {
    TimerError::Store(Box::new(e))
}

#[cfg(test)]
mod tests;
