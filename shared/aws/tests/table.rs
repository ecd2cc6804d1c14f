//! The table on real stores: the emulator, and Amazon's own DynamoDB Local.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests: a panic is their way to report")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{AttributeValue, TimeToLiveStatus};
use common::{Fixture, dynamodb_local, emulator};
use sentinel_durable::{Clock, ManualClock, Queue, Timer, conformance as durable};
use sentinel_embedded::Database;
use sentinel_model::time::plus_seconds;
use sentinel_state::{Condition, Index, IndexKey, Key, Put, Query, Table, Write, conformance};
use serde_json::json;

#[tokio::test]
async fn the_table_on_the_emulator() {
    let Some(config) = emulator().await else { return };
    conformance::table(async || Fixture::new(&config).await).await;
}

#[tokio::test]
async fn the_table_on_dynamodb_local() {
    let Some(config) = dynamodb_local().await else { return };
    conformance::table(async || Fixture::new(&config).await).await;
}

#[tokio::test]
async fn leases_and_outbox_on_the_emulator() {
    let Some(config) = emulator().await else { return };
    leases_and_outbox(&config).await;
}

#[tokio::test]
async fn leases_and_outbox_on_dynamodb_local() {
    let Some(config) = dynamodb_local().await else { return };
    leases_and_outbox(&config).await;
}

#[tokio::test]
async fn what_is_stored_on_the_emulator() {
    let Some(config) = emulator().await else { return };
    what_is_stored(&config).await;
}

#[tokio::test]
async fn what_is_stored_on_dynamodb_local() {
    let Some(config) = dynamodb_local().await else { return };
    what_is_stored(&config).await;
}

/// A table of DynamoDB beside queues of the embedded store.
struct Beside {
    table: Fixture,
    embedded: Database,
    clock: Arc<ManualClock>,
}

impl Beside {
    async fn new(config: &SdkConfig) -> Self {
        let table = Fixture::new(config).await;
        let clock = table.clock.clone();
        let shared: Arc<dyn Clock> = clock.clone();
        Self { table, embedded: Database::in_memory(shared).unwrap(), clock }
    }
}

#[async_trait]
impl durable::Setup for Beside {
    fn queue(&self) -> Arc<dyn Queue> {
        self.embedded.queue()
    }
    fn timer(&self) -> Arc<dyn Timer> {
        self.embedded.timer()
    }
    fn table(&self) -> Arc<dyn Table> {
        Arc::new(self.table.adapter())
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }
    async fn pass(&self, seconds: u32) {
        self.clock.advance(i64::from(seconds));
    }
    async fn restart(&self) {}
}

async fn leases_and_outbox(config: &SdkConfig) {
    durable::lease::suite(&async || Beside::new(config).await).await;
    durable::outbox::suite(&async || Beside::new(config).await).await;
}

async fn what_is_stored(config: &SdkConfig) {
    let fixture = Fixture::new(config).await;
    let table = fixture.adapter();
    let attributes = async |sk: &str| {
        let request = fixture.client.get_item().table_name(&fixture.name).consistent_read(true);
        let key = request.key("pk", AttributeValue::S("pk".into())).key("sk", AttributeValue::S(sk.into()));
        key.send().await.unwrap().item.expect("it is stored")
    };

    // A long body takes less room than its text, and is still the same body.
    let long = json!({ "t": "words that come again and again ".repeat(1_000) });
    let put = Put::new(Key::new("pk", "long"), &long).unwrap();
    table.write(vec![Write::Put(put)]).await.unwrap();
    let stored = attributes("long").await;
    assert!(!stored.contains_key("body"));
    let packed = stored["zbody"].as_b().unwrap().as_ref();
    // zlib's header, with the bit that tells of a preset dictionary (RFC 1950, section 2.2).
    assert!(packed[0] & 0x0f == 8 && packed[1] & 0x20 != 0 && packed.len() < 1_000, "{} bytes of zlib", packed.len());
    assert_eq!(table.get(&Key::new("pk", "long")).await.unwrap().unwrap().body, long);

    // It shrinks: nothing of the long form stays.
    let short = Put::new(Key::new("pk", "long"), &json!({})).unwrap();
    let expires_at = "2026-03-01T12:00:10.500Z".parse().unwrap();
    let listed = short.listed(Index::One, IndexKey::new("LIST", "a")).expiring(Some(expires_at));
    table.write(vec![Write::Put(listed)]).await.unwrap();
    let stored = attributes("long").await;
    assert_eq!(stored["body"], AttributeValue::S("{}".into()));
    assert!(!stored.contains_key("zbody"));
    let ms = expires_at.as_millisecond();
    assert_eq!(stored["expires_ms"], AttributeValue::N(ms.to_string()));
    assert_eq!(stored["expires_at"], AttributeValue::N((ms / 1_000 + 1).to_string()), "rounded up");

    // Expired but not yet deleted, it is replaced as if it were absent, and leaves its listing.
    fixture.clock.advance(11);
    let fresh = Put::new(Key::new("pk", "long"), &json!({"n": 1})).unwrap().when(Condition::Absent);
    table.write(vec![Write::Put(fresh)]).await.unwrap();
    let item = table.get(&Key::new("pk", "long")).await.unwrap().unwrap();
    assert_eq!((&item.body, item.expires_at), (&json!({"n": 1}), None));
    assert!(item.version > 2, "an expired version is never given again: {}", item.version);
    let stored = attributes("long").await;
    assert!(["expires_at", "expires_ms", "gsi1pk", "gsi1sk"].iter().all(|name| !stored.contains_key(*name)));
    assert!(table.query(Query::listing(Index::One, "LIST", 10)).await.unwrap().items.is_empty());

    // The same within a transaction, and an expired item deleted on the condition that there is none.
    let soon = Some(plus_seconds(fixture.clock.now(), 1));
    for sk in ["a", "b"] {
        let put = Put::new(Key::new("pk", sk), &json!({})).unwrap().expiring(soon);
        table.write(vec![Write::Put(put)]).await.unwrap();
    }
    fixture.clock.advance(2);
    let again = Put::new(Key::new("pk", "a"), &json!({"n": 2})).unwrap().when(Condition::Absent);
    let writes = vec![Write::Put(again), Write::Delete(Key::new("pk", "b"), Condition::Absent)];
    table.write(writes).await.unwrap();
    assert_eq!(table.get(&Key::new("pk", "a")).await.unwrap().unwrap().body, json!({"n": 2}));

    // The store itself is told what expires.
    let described = fixture.client.describe_time_to_live().table_name(&fixture.name).send().await.unwrap();
    let expiry = described.time_to_live_description().unwrap();
    assert_eq!(expiry.attribute_name(), Some("expires_at"));
    let on = [TimeToLiveStatus::Enabled, TimeToLiveStatus::Enabling];
    assert!(expiry.time_to_live_status().is_some_and(|status| on.contains(status)), "{expiry:?}");
}
