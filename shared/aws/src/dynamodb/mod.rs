//! The table port over one `DynamoDB` table.
//!
//! # The item
//! | attribute | type | what |
//! | --- | --- | --- |
//! | `pk`, `sk` | S | the key |
//! | `gsi1pk`, `gsi1sk`, `gsi2pk`, `gsi2sk` | S | its places in the listing indexes `gsi1` and `gsi2`, where it has them |
//! | `body` or `zbody` | S or B | its body as JSON, compressed beyond 512 bytes where that makes it smaller |
//! | `version` | N | counts its writes |
//! | `expires_at` | N | when it ceases to exist in Unix seconds, rounded up: the table's TTL attribute |
//! | `expires_ms` | N | the same, exact, in milliseconds: what reads and conditions compare |
//! | `nonce` | B | names the last conditional write, so that a repeated one is told from another's |
//!
//! `DynamoDB` deletes expired items within days, not at once (Developer Guide, "Using time to live"), so every
//! read leaves them out and every condition takes them for absent.
//!
//! # Access patterns
//! | pattern | request | cost |
//! | --- | --- | --- |
//! | an item, several items | `GetItem`, `BatchGetItem`, consistent | 1 read unit for each 4 KB |
//! | one write | `UpdateItem`, `DeleteItem` | 1 write unit for each KB; half of a transaction's |
//! | several writes | `TransactWriteItems` | 2 write units for each KB |
//! | a single check | `GetItem` | no write at all |
//! | part of a partition | `Query`, consistent | 1 read unit for each 4 KB read |
//! | a listing | `Query` of the index, then `BatchGetItem`, consistent | half a read unit for each 4 KB of keys, and the items |
//!
//! # Where writes gather
//! A partition takes 1,000 write units a second (Developer Guide, "Partition key design").
//!
//! - Items of the stages spread by themselves: each alert, incident, response, link, lineage step and baseline is
//!   a partition of its own, and no event costs a write. What correlations remember is an item for each principal and
//!   window, with those hits of all rules in it that share the two; what does not fit lies in items of its own.
//! - The listings (`ALERTS`, `INCIDENTS`, `RESPONSES`, `USERS`, `TOKENS`) are single partitions of an index. The
//!   indexes hold keys only, so a write that leaves an item in its place costs the index nothing: an alert is
//!   written there once in its life, an incident when its last time moves. That bounds *new* alerts at 1,000 a
//!   second, three orders of magnitude above what anybody could read.
//! - `OUTBOX` takes three units for each message (two for the put within its transaction, one for the deletion),
//!   so 330 messages a second: one is written when an alert is raised or a person decides, never for an event.
//!   Beyond that `DynamoDB` throttles, the calls are tried again, and their messages come back to their queue.
//! - A lease or a counter is one item, written by those who compete for it.
//!
//! Indexes lag behind the table by a moment. A listing reads each item as it is now: one that is gone, expired
//! or has moved to another partition or out of the range asked for is left out; one that moved within it is
//! shown, where it stood.

mod compress;
mod create;
mod expression;
mod failure;
mod gate;
mod item;
mod query;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use sentinel_durable::Clock;
use sentinel_state::{Item, Key, Page, Query, Table, TableError, Write};

pub use create::create_table;
use gate::Gate;

/// The IAM actions that these calls need, on the table and its indexes. `TransactWriteItems` is allowed by
/// those of its parts (`DynamoDB` Developer Guide, "Using IAM with transactions").
pub const ACTIONS: &[&str] = &[
    "dynamodb:BatchGetItem",
    "dynamodb:ConditionCheckItem",
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
];

/// The table port over a `DynamoDB` table.
#[derive(Clone)]
pub struct DynamoTable {
    client: Client,
    name: String,
    clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
}

impl std::fmt::Debug for DynamoTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl DynamoTable {
    /// The table of this name (or ARN), made as [`create_table`] does. The clock says what has expired.
    pub fn new(client: Client, table: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self { client, name: table.into(), clock, gate: Arc::default() }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

#[async_trait]
impl Table for DynamoTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        let _place = self.gate.enter().await;
        self.read_one(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        let _place = self.gate.enter().await;
        self.read_many(keys).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let _place = self.gate.enter().await;
        self.write_all(writes).await
    }

    async fn query(&self, query: Query) -> Result<Page, TableError> {
        let _place = self.gate.enter().await;
        self.read_page(query).await
    }
}
