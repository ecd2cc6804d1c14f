//! What takes too long to wait for, or cannot be had from an emulator: schedules, their replacement, failures.

use std::sync::Mutex;

use aws_sdk_scheduler::operation::{
    create_schedule::{CreateScheduleInput, CreateScheduleOutput},
    delete_schedule::{DeleteScheduleInput, DeleteScheduleOutput},
};
use aws_sdk_sqs::operation::send_message_batch::{SendMessageBatchInput, SendMessageBatchOutput};
use aws_smithy_mocks::{Rule, mock};
use sentinel_durable::{Message, Queue as _, queue::MAX_BODY_BYTES};

use super::*;
use crate::claims::Claims;
use crate::mocked;
use crate::sqs::Queues;

const STAGE: Stage = Stage::Respond;
const HOUR: i64 = 3600;

/// What was asked of SQS and of the scheduler, in order.
type Log = Arc<Mutex<Vec<String>>>;

struct Fixture {
    log: Log,
    sqs: Rule,
    create: Rule,
    delete: Rule,
    table: Arc<dyn Table>,
}

impl Fixture {
    fn new() -> Self {
        let log = Log::default();
        let (sent, created, deleted) = (Arc::clone(&log), Arc::clone(&log), Arc::clone(&log));
        let sqs =
            mock!(aws_sdk_sqs::Client::send_message_batch).then_compute_output(move |input: &SendMessageBatchInput| {
                for entry in input.entries() {
                    let delay = entry.delay_seconds().unwrap();
                    sent.lock().unwrap().push(format!("{} after {delay} s", entry.message_body()));
                }
                let none = SendMessageBatchOutput::builder().set_successful(Some(Vec::new()));
                none.set_failed(Some(Vec::new())).build().unwrap()
            });
        let create = mock!(Client::create_schedule).then_compute_output(move |input: &CreateScheduleInput| {
            let target = input.target().unwrap();
            assert_eq!(target.dead_letter_config().and_then(|dead| dead.arn()), Some("arn:dead"));
            let when = input.schedule_expression().unwrap();
            let text = format!("{} {when} {} {}", input.name().unwrap(), target.arn(), target.input().unwrap());
            created.lock().unwrap().push(text);
            CreateScheduleOutput::builder().schedule_arn("arn").build().unwrap()
        });
        let delete = mock!(Client::delete_schedule).then_compute_output(move |input: &DeleteScheduleInput| {
            deleted.lock().unwrap().push(format!("delete {}", input.name().unwrap()));
            DeleteScheduleOutput::builder().build()
        });
        let table = sentinel_embedded::Database::in_memory(Arc::new(SystemClock)).unwrap().table();
        Self { log, sqs, create, delete, table }
    }

    fn queue(&self) -> SqsQueue {
        let queues = Queues::default().with(STAGE, "http://sqs/respond");
        let claims = Claims::new(mocked::s3(&[]), "data");
        SqsQueue::new(mocked::sqs(&[&self.sqs]), queues, claims, Some(Arc::clone(&self.table)))
    }

    fn timer(&self) -> ScheduledTimer {
        self.timer_with(&[&self.create, &self.delete])
    }

    fn timer_with(&self, rules: &[&Rule]) -> ScheduledTimer {
        let schedules = Schedules {
            client: mocked::scheduler(rules).into(),
            group: "sentinel".into(),
            role_arn: "arn:aws:iam::123456789012:role/schedules".into(),
            queue_arns: BTreeMap::from([(STAGE, "arn:respond".to_owned())]),
            dead_arn: Some("arn:dead".to_owned()),
        };
        ScheduledTimer::new(self.queue(), Arc::clone(&self.table), Some(schedules))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// Whether a message that came as this text is let in, and its body then.
    async fn comes(&self, text: &str) -> Option<String> {
        let message = Message {
            id: "m".into(),
            receipt: "r".into(),
            body: text.into(),
            receives: 1,
            sent_at: Timestamp::UNIX_EPOCH,
        };
        self.queue().admit(STAGE, message).await.unwrap().map(|m| m.body)
    }
}

fn in_seconds(seconds: i64) -> Timestamp {
    plus_seconds(SystemClock.now(), seconds)
}

/// The message in a log's line.
fn text(line: &str) -> &str {
    let from = line.find("timer:").unwrap();
    line[from..].split(" after ").next().unwrap()
}

#[tokio::test]
async fn what_is_due_soon_is_a_delayed_message() {
    let fixture = Fixture::new();
    fixture.timer().set("undo-1", in_seconds(600), STAGE, r#"{"n":1}"#).await.unwrap();
    let asked = fixture.asked();
    assert_eq!(asked.len(), 1);
    let delay: u32 = asked[0].rsplit_once(" after ").unwrap().1.trim_end_matches(" s").parse().unwrap();
    assert!((599..=600).contains(&delay), "{asked:?}");
    assert_eq!(fixture.comes(text(&asked[0])).await.as_deref(), Some(r#"{"n":1}"#));
}

#[tokio::test]
async fn what_is_due_later_is_a_schedule() {
    let fixture = Fixture::new();
    let due = up_to_second(in_seconds(30 * 24 * HOUR));
    fixture.timer().set("undo-1", due, STAGE, "{}").await.unwrap();
    let asked = fixture.asked();
    let item = fixture.table.get(&key("undo-1")).await.unwrap().unwrap();
    let token = item.body["token"].as_str().unwrap();
    let at = due.strftime("%Y-%m-%dT%H:%M:%S");
    let expected = format!(r#"{token} at({at}) arn:respond timer:{{"id":"undo-1","token":"{token}","body":"{{}}"}}"#);
    assert_eq!(asked, [expected]);
    assert_eq!(item.expires_at.unwrap(), plus_seconds(due, 15 * 24 * HOUR));
    assert_eq!(fixture.comes(text(&asked[0])).await.as_deref(), Some("{}"));
}

#[tokio::test]
async fn set_again_the_earlier_schedule_goes_and_what_it_sent_is_dropped() {
    let fixture = Fixture::new();
    fixture.timer().set("a", in_seconds(HOUR), STAGE, "first").await.unwrap();
    fixture.timer().set("a", in_seconds(2 * HOUR), STAGE, "second").await.unwrap();
    fixture.timer().set("a", in_seconds(1), STAGE, "third").await.unwrap();
    let asked = fixture.asked();
    let name = |line: &str| line.split(' ').next().unwrap().to_owned();
    assert_eq!(asked[2], format!("delete {}", name(&asked[0])), "the new one first: {asked:?}");
    assert_eq!(asked[4], format!("delete {}", name(&asked[1])), "{asked:?}");
    assert_eq!(asked.len(), 5);
    for stale in [&asked[0], &asked[1]] {
        assert_eq!(fixture.comes(text(stale)).await, None);
    }
    assert_eq!(fixture.comes(text(&asked[3])).await.as_deref(), Some("third"));
}

#[tokio::test]
async fn who_sets_the_same_again_makes_no_other_schedule() {
    let fixture = Fixture::new();
    let due = in_seconds(HOUR);
    fixture.timer().set("a", due, STAGE, "a").await.unwrap();
    let made = fixture.asked();
    assert_eq!(made.len(), 1);
    fixture.timer().set("a", due, STAGE, "a").await.unwrap();
    assert!(fixture.asked().is_empty(), "another process knows that it stands");
    assert_eq!(fixture.comes(text(&made[0])).await.as_deref(), Some("a"));
    fixture.timer().set("a", due, STAGE, "b").await.unwrap();
    assert_eq!(fixture.asked().len(), 2, "it brings something else: made, and the earlier one deleted");
}

#[tokio::test]
async fn a_schedule_that_nobody_saw_made_is_made_again() {
    let fixture = Fixture::new();
    let due = in_seconds(HOUR);
    let failing = mock!(Client::create_schedule).sequence().http_status(500, None).repeatedly().build();
    fixture.timer_with(&[&failing]).set("a", due, STAGE, "a").await.unwrap_err();
    assert!(fixture.asked().is_empty());
    fixture.timer().set("a", due, STAGE, "a").await.unwrap();
    let asked = fixture.asked();
    assert!(asked[0].contains(" at("), "{asked:?}");
    // Items of the version before have no such note.
    let item = fixture.table.get(&key("a")).await.unwrap().unwrap();
    let mut old = item.body.clone();
    old.as_object_mut().unwrap().remove("made");
    fixture.table.write(vec![Write::Put(Put::new(key("a"), &old).unwrap())]).await.unwrap();
    fixture.timer().set("a", due, STAGE, "a").await.unwrap();
    assert_eq!(fixture.asked().len(), 2);
}

#[tokio::test]
async fn cancelled_the_schedule_goes() {
    let fixture = Fixture::new();
    fixture.timer().set("a", in_seconds(HOUR), STAGE, "a").await.unwrap();
    let set = fixture.asked();
    fixture.timer().cancel("a").await.unwrap();
    assert_eq!(fixture.asked(), [format!("delete {}", set[0].split(' ').next().unwrap())]);
    assert_eq!(fixture.comes(text(&set[0])).await, None);
    fixture.timer().cancel("a").await.unwrap();
    assert!(fixture.asked().is_empty(), "there is nothing to cancel any more");
}

/// A table in which the timer is set again between the look at it and its deletion.
struct SetMeanwhile {
    table: Arc<dyn Table>,
    item: TimerItem,
}

#[async_trait]
impl Table for SetMeanwhile {
    async fn get(&self, key: &Key) -> Result<Option<sentinel_state::Item>, TableError> {
        self.table.get(key).await
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<sentinel_state::Item>, TableError> {
        self.table.get_many(keys).await
    }
    async fn query(&self, query: sentinel_state::Query) -> Result<sentinel_state::Page, TableError> {
        self.table.query(query).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        self.table.write(vec![Write::Put(Put::new(key("a"), &self.item)?)]).await?;
        self.table.write(writes).await
    }
}

#[tokio::test]
async fn what_is_set_again_while_it_is_cancelled_stays_set() {
    let mut fixture = Fixture::new();
    fixture.timer().set("a", in_seconds(60), STAGE, "a").await.unwrap();
    let item = TimerItem { token: "another".into(), due: in_seconds(90), stage: STAGE, scheduled: false, made: None };
    let before = Arc::clone(&fixture.table);
    fixture.table = Arc::new(SetMeanwhile { table: Arc::clone(&before), item });
    fixture.timer().cancel("a").await.unwrap();
    assert_eq!(before.get(&key("a")).await.unwrap().unwrap().body["token"], "another");
}

#[tokio::test]
async fn a_schedule_that_fired_already_is_cancelled_all_the_same() {
    let fixture = Fixture::new();
    fixture.timer().set("a", in_seconds(HOUR), STAGE, "a").await.unwrap();
    let answer = |status, code: &str| {
        let body = format!(r#"{{"__type":"{code}","Message":"x"}}"#);
        mock!(Client::delete_schedule).sequence().http_status(status, Some(body)).build()
    };
    let denied = answer(403, "AccessDeniedException");
    let refused = fixture.timer_with(&[&denied]).cancel("a").await.unwrap_err();
    assert!(refused.to_string().contains("scheduler:DeleteSchedule"), "{refused}");
    assert!(fixture.table.get(&key("a")).await.unwrap().is_some(), "not cancelled, and said so");
    fixture.timer_with(&[&answer(404, "ResourceNotFoundException")]).cancel("a").await.unwrap();
    assert!(fixture.table.get(&key("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn the_item_is_written_before_the_message() {
    let fixture = Fixture::new();
    let failing = mock!(Client::create_schedule).sequence().http_status(500, None).repeatedly().build();
    let failed = fixture.timer_with(&[&failing]).set("a", in_seconds(HOUR), STAGE, "a").await.unwrap_err();
    assert!(failed.to_string().contains("scheduler:CreateSchedule"), "{failed}");
    let item = fixture.table.get(&key("a")).await.unwrap().unwrap();
    fixture.timer().set("a", in_seconds(HOUR), STAGE, "a").await.expect("the caller sets it again");
    assert_ne!(fixture.table.get(&key("a")).await.unwrap().unwrap().body["token"], item.body["token"]);
}

#[tokio::test]
async fn what_cannot_be_brought_is_refused_before_anything_is_written() {
    let fixture = Fixture::new();
    let bare = ScheduledTimer::new(fixture.queue(), Arc::clone(&fixture.table), None);
    let error = bare.set("a", in_seconds(HOUR), STAGE, "a").await.unwrap_err();
    assert!(error.to_string().contains("respond is due too late"), "{error}");
    let error = fixture.timer().set("a", in_seconds(HOUR), Stage::Detect, "a").await.unwrap_err();
    assert!(error.to_string().contains("detect is due too late"), "{error}");
    let large = "x".repeat(MAX_BODY_BYTES);
    let error = fixture.timer().set("a", in_seconds(16 * 24 * HOUR), STAGE, &large).await.unwrap_err();
    assert!(error.to_string().contains("can wait at most 15 days"), "{error}");
    assert!(fixture.table.get(&key("a")).await.unwrap().is_none());
    assert!(fixture.asked().is_empty());
}

#[tokio::test]
async fn a_message_for_another_stage_or_without_a_table_is_not_let_in() {
    let fixture = Fixture::new();
    fixture.timer().set("a", in_seconds(0), STAGE, "a").await.unwrap();
    let body = text(&fixture.asked()[0]).to_owned();
    let sent_at = Timestamp::UNIX_EPOCH;
    let message = Message { id: "m".into(), receipt: "r".into(), body, receives: 1, sent_at };
    assert_eq!(fixture.queue().admit(Stage::Detect, message.clone()).await.unwrap(), None);
    let claims = Claims::new(mocked::s3(&[]), "data");
    let without = SqsQueue::new(mocked::sqs(&[]), Queues::default(), claims, None);
    let error = without.admit(STAGE, message).await.unwrap_err();
    assert!(error.to_string().contains("no table"), "{error}");
    assert!(without.depth(STAGE).await.is_err());
}

#[test]
fn nothing_comes_before_its_time() {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap();
    for (due, now, seconds) in [(0, 0, 0), (1, 0, 1), (1000, 0, 1), (1001, 0, 2), (0, 5000, 0), (900_000, 0, 900)] {
        assert_eq!(whole_seconds_until(at(due), at(now)), seconds, "{due} {now}");
    }
    assert_eq!(up_to_second(at(1000)), at(1000));
    assert_eq!(up_to_second(at(1001)), at(2000));
}
