//! What the outbox promises over a table and a queue.

use async_trait::async_trait;
use sentinel_state::{Condition, Item, Key, Page, Put, Query, Table, TableError, Write};
use serde_json::json;

use super::{Setup, bodies, receive};
use crate::outbox::{Fresh, Noted, OutboxError, put, relay, send_fresh};
use crate::{Message, Outgoing, Queue, QueueDepth, QueueError, Stage};

/// Runs the outbox's suite.
pub async fn suite<S: Setup>(make: &impl AsyncFn() -> S) {
    sent_with_its_transaction(&make().await).await;
    a_failed_transaction_sends_nothing(&make().await).await;
    a_crash_before_deletion_sends_it_again(&make().await).await;
    a_failed_queue_keeps_it(&make().await).await;
    the_same_id_is_one_message(&make().await).await;
    many_and_large_ones_are_batched(&make().await).await;
    a_broken_item_stops_no_other(&make().await).await;
    what_was_just_put_is_sent_without_a_look(&make().await).await;
    what_lay_there_before_does_not_stay(&make().await).await;
    what_was_written_is_noted_and_nothing_else(&make().await).await;
    a_crash_after_sending_what_was_just_put_sends_it_again(&make().await).await;
}

const STAGE: Stage = Stage::Respond;

async fn sent_with_its_transaction(setup: &impl Setup) {
    let alert = Write::Put(Put::new(Key::new("alert", "1"), &json!({})).unwrap());
    let transaction = vec![alert, put("1", STAGE, "raised").unwrap(), put("2", Stage::Detect, "replayed").unwrap()];
    setup.table().write(transaction).await.unwrap();
    assert!(receive(&*setup.queue(), STAGE, 600).await.is_empty(), "not before it is relayed");
    setup.restart().await;
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 2);
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["raised"]);
    assert_eq!(bodies(&receive(&*setup.queue(), Stage::Detect, 600).await), ["replayed"]);
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 0, "once is enough");
}

async fn a_failed_transaction_sends_nothing(setup: &impl Setup) {
    let unmet = Write::Check(Key::new("alert", "1"), Condition::Version(9));
    let result = setup.table().write(vec![put("1", STAGE, "raised").unwrap(), unmet]).await;
    assert!(result.unwrap_err().is_condition());
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 0);
}

async fn a_crash_before_deletion_sends_it_again(setup: &impl Setup) {
    setup.table().write(vec![put("1", STAGE, "raised").unwrap()]).await.unwrap();
    let table = setup.table();
    let result = relay(&ReadOnly(&*table), &*setup.queue()).await;
    assert!(matches!(result, Err(OutboxError::Table(TableError::Store(_)))), "{result:?}");
    drop(table);
    setup.restart().await;
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 1);
    let messages = receive(&*setup.queue(), STAGE, 600).await;
    assert_eq!(bodies(&messages), ["raised", "raised"], "sent again, with the same content");
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 0);
}

async fn a_failed_queue_keeps_it(setup: &impl Setup) {
    setup.table().write(vec![put("1", STAGE, "raised").unwrap()]).await.unwrap();
    let result = relay(&*setup.table(), &Full).await;
    assert!(matches!(result, Err(OutboxError::Queue(_))), "{result:?}");
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 1);
}

async fn the_same_id_is_one_message(setup: &impl Setup) {
    for _ in 0..2 {
        setup.table().write(vec![put("1", STAGE, "raised").unwrap()]).await.unwrap();
    }
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 1);
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["raised"]);
}

async fn many_and_large_ones_are_batched(setup: &impl Setup) {
    for i in 0..60 {
        let body = if i % 10 == 0 { "x".repeat(350_000) } else { format!("{i:02}") };
        setup.table().write(vec![put(&i.to_string(), STAGE, &body).unwrap()]).await.unwrap();
    }
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 60);
    assert_eq!(receive(&*setup.queue(), STAGE, 600).await.len(), 60);
}

async fn a_broken_item_stops_no_other(setup: &impl Setup) {
    let Write::Put(mut broken) = put("0", STAGE, "x").unwrap() else { panic!("a put") };
    broken.body = json!({"stage": "unheard of"});
    let writes = vec![Write::Put(broken), put("1", STAGE, "raised").unwrap()];
    setup.table().write(writes).await.unwrap();
    let result = relay(&*setup.table(), &*setup.queue()).await;
    assert!(matches!(result, Err(OutboxError::Table(TableError::Malformed { .. }))), "{result:?}");
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["raised"]);
}

fn fresh(id: &str, stage: Stage, body: &str) -> Fresh {
    Fresh { id: id.into(), stage, body: body.into() }
}

async fn what_was_just_put_is_sent_without_a_look(setup: &impl Setup) {
    let all = vec![put("1", STAGE, "raised").unwrap(), put("2", Stage::Detect, "replayed").unwrap()];
    setup.table().write(all).await.unwrap();
    setup.table().write(vec![put("others", STAGE, "theirs").unwrap()]).await.unwrap();
    let mine = vec![fresh("1", STAGE, "raised"), fresh("2", Stage::Detect, "replayed")];
    send_fresh(&*setup.table(), &*setup.queue(), mine).await.unwrap();
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["raised"]);
    assert_eq!(bodies(&receive(&*setup.queue(), Stage::Detect, 600).await), ["replayed"]);
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 1, "what others put is left to them");
}

async fn what_was_written_is_noted_and_nothing_else(setup: &impl Setup) {
    let noted = Noted::new(setup.table());
    let unmet = Write::Check(Key::new("alert", "1"), Condition::Version(9));
    let failed = noted.write(vec![put("0", STAGE, "never").unwrap(), unmet]).await;
    assert!(failed.unwrap_err().is_condition());
    let alert = Write::Put(Put::new(Key::new("alert", "1"), &json!({})).unwrap());
    noted.write(vec![alert, put("1", STAGE, "raised").unwrap()]).await.unwrap();
    noted.write(vec![Write::Delete(Key::new("alert", "1"), Condition::None)]).await.unwrap();
    let fresh_ones = noted.take();
    assert_eq!(fresh_ones, [fresh("1", STAGE, "raised")]);
    assert!(noted.take().is_empty(), "whoever took them sends them");
    send_fresh(&noted, &*setup.queue(), fresh_ones).await.unwrap();
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["raised"]);
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 0);
}

async fn what_lay_there_before_does_not_stay(setup: &impl Setup) {
    for _ in 0..2 {
        setup.table().write(vec![put("1", STAGE, "raised").unwrap()]).await.unwrap();
    }
    send_fresh(&*setup.table(), &*setup.queue(), vec![fresh("1", STAGE, "raised")]).await.unwrap();
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 0);
    let sent = receive(&*setup.queue(), STAGE, 600).await;
    assert!(!sent.is_empty() && bodies(&sent).iter().all(|body| *body == "raised"), "{sent:?}");
}

async fn a_crash_after_sending_what_was_just_put_sends_it_again(setup: &impl Setup) {
    setup.table().write(vec![put("1", STAGE, "raised").unwrap()]).await.unwrap();
    let failed = send_fresh(&*setup.table(), &Full, vec![fresh("1", STAGE, "raised")]).await;
    assert!(matches!(failed, Err(OutboxError::Queue(_))), "{failed:?}");
    let table = setup.table();
    let died = send_fresh(&ReadOnly(&*table), &*setup.queue(), vec![fresh("1", STAGE, "raised")]).await;
    assert!(matches!(died, Err(OutboxError::Table(TableError::Store(_)))), "{died:?}");
    drop(table);
    setup.restart().await;
    assert_eq!(relay(&*setup.table(), &*setup.queue()).await.unwrap(), 1);
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["raised", "raised"]);
}

/// A table that dies where something is to be written.
struct ReadOnly<'a>(&'a dyn Table);

#[async_trait]
impl Table for ReadOnly<'_> {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        self.0.get(key).await
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        self.0.get_many(keys).await
    }
    async fn write(&self, _: Vec<Write>) -> Result<(), TableError> {
        Err(TableError::store(std::io::Error::other("the process died here")))
    }
    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.0.query(query).await
    }
}

/// A queue that takes and gives nothing.
struct Full;

fn full() -> QueueError {
    QueueError::store(std::io::Error::other("the queue is full"))
}

#[async_trait]
impl Queue for Full {
    async fn send(&self, _: Stage, _: Vec<Outgoing>) -> Result<(), QueueError> {
        Err(full())
    }
    async fn receive(&self, _: Stage, _: usize, _: u32) -> Result<Vec<Message>, QueueError> {
        Err(full())
    }
    async fn delete(&self, _: Stage, _: &str) -> Result<(), QueueError> {
        Err(full())
    }
    async fn release(&self, _: Stage, _: &str, _: u32) -> Result<(), QueueError> {
        Err(full())
    }
    async fn depth(&self, _: Stage) -> Result<QueueDepth, QueueError> {
        Err(full())
    }
    async fn dead(&self, _: Stage, _: usize) -> Result<Vec<Message>, QueueError> {
        Err(full())
    }
}
