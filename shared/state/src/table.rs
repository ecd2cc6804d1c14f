//! The table port.
//!
//! Shaped for DynamoDB (Amazon `DynamoDB` Developer Guide, "Working with transactions", "Time to Live"): a write
//! is all or nothing over at most 100 items; expired items are absent at once, though the store may
//! delete them later; indexes may lag behind by a moment on AWS, so nothing that must be exact reads them.

use std::collections::HashSet;

use async_trait::async_trait;
use sentinel_model::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Most items one [`Table::write`] takes (`TransactWriteItems`' limit).
pub const MAX_WRITES: usize = 100;
/// Largest body of an item in bytes: `DynamoDB`'s 400 KB less room for keys and attributes.
pub const MAX_BODY_BYTES: usize = 380 * 1024;

/// Most bytes of one [`Table::write`]'s bodies together (`TransactWriteItems` takes 4 MB, keys included).
pub const MAX_WRITE_BYTES: usize = 3_800_000;
/// Most keys one [`Table::get_many`] takes (`BatchGetItem`'s limit).
pub const MAX_KEYS: usize = 100;
/// Longest partition key in bytes, of the table or an index (`DynamoDB` Developer Guide, "Quotas").
pub const MAX_PK_BYTES: usize = 2048;
/// Longest sort key in bytes, of the table or an index.
pub const MAX_SK_BYTES: usize = 1024;

/// The key of an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Partition key; starts with the account where there is one.
    pub pk: String,
    /// Sort key, ordered by its UTF-8 bytes.
    pub sk: String,
}

impl Key {
    /// A key from its two parts.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }
}

/// A listing index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Index {
    /// `gsi1`.
    One,
    /// `gsi2`.
    Two,
}

/// Where an item stands in a listing index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexKey {
    /// Partition of the index.
    pub pk: String,
    /// Order within it.
    pub sk: String,
}

impl IndexKey {
    /// An index key from its two parts.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }
}

/// An item as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its key.
    pub key: Key,
    /// Its body, a JSON object.
    pub body: Value,
    /// Counts the writes of this item: 1 when new, or greater where an expired item stood in its place.
    /// What [`Condition::Version`] compares.
    pub version: u64,
    /// When it ceases to exist, to the millisecond.
    pub expires_at: Option<Timestamp>,
}

impl Item {
    /// The body as a type; an error names the key.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, TableError> {
        serde_json::from_value(self.body.clone()).map_err(|e| TableError::Malformed {
            key: format!("{}/{}", self.key.pk, self.key.sk),
            reason: e.to_string(),
        })
    }
}

/// What must hold of the item now for a write to happen. An expired item counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// There is no such item.
    Absent,
    /// There is one, with this version.
    Version(u64),
}

/// An item to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    /// Its key.
    pub key: Key,
    /// Its body, a JSON object.
    pub body: Value,
    /// When it ceases to exist.
    pub expires_at: Option<Timestamp>,
    /// Its place in [`Index::One`].
    pub index_one: Option<IndexKey>,
    /// Its place in [`Index::Two`].
    pub index_two: Option<IndexKey>,
    /// What must hold.
    pub condition: Condition,
}

impl Put {
    /// A put of `body` under `key`, without expiry, index or condition.
    pub fn new<T: Serialize>(key: Key, body: &T) -> Result<Self, TableError> {
        let body = serde_json::to_value(body)
            .map_err(|e| TableError::Malformed { key: format!("{}/{}", key.pk, key.sk), reason: e.to_string() })?;
        Ok(Self { key, body, expires_at: None, index_one: None, index_two: None, condition: Condition::None })
    }

    /// With a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// With an expiry.
    #[must_use]
    pub fn expiring(mut self, at: Option<Timestamp>) -> Self {
        self.expires_at = at;
        self
    }

    /// With a place in an index.
    #[must_use]
    pub fn listed(mut self, index: Index, key: IndexKey) -> Self {
        match index {
            Index::One => self.index_one = Some(key),
            Index::Two => self.index_two = Some(key),
        }
        self
    }
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Put an item.
    Put(Put),
    /// Delete an item, if the condition holds; deleting what is absent is no error under [`Condition::None`].
    Delete(Key, Condition),
    /// Write nothing, but fail the transaction unless the condition holds.
    Check(Key, Condition),
}

impl Write {
    /// The key of the item that it writes or checks.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(put) => &put.key,
            Self::Delete(key, _) | Self::Check(key, _) => key,
        }
    }
}

/// Bounds on the sort key, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkRange {
    /// All.
    All,
    /// Those that begin with this.
    Prefix(String),
    /// Those between these, ends included; none when they are the wrong way round.
    Between(String, String),
}

/// A query of one partition.
#[derive(Debug, Clone)]
pub struct Query {
    /// In an index; `None`: in the table itself.
    pub index: Option<Index>,
    /// The partition.
    pub pk: String,
    /// Which sort keys.
    pub sk: SkRange,
    /// Descending instead of ascending.
    pub descending: bool,
    /// Most items returned (at least 1).
    pub limit: usize,
    /// Cursor of an earlier page.
    pub after: Option<String>,
}

impl Query {
    /// All of a partition of the table, ascending, up to `limit`.
    pub fn partition(pk: impl Into<String>, limit: usize) -> Self {
        Self { index: None, pk: pk.into(), sk: SkRange::All, descending: false, limit, after: None }
    }

    /// All of a partition of an index, newest (greatest sort key) first, up to `limit`.
    pub fn listing(index: Index, pk: impl Into<String>, limit: usize) -> Self {
        Self { index: Some(index), pk: pk.into(), sk: SkRange::All, descending: true, limit, after: None }
    }

    /// Within a range of sort keys.
    #[must_use]
    pub fn range(mut self, sk: SkRange) -> Self {
        self.sk = sk;
        self
    }

    /// After an earlier page.
    #[must_use]
    pub fn after(mut self, cursor: Option<String>) -> Self {
        self.after = cursor;
        self
    }
}

/// A page of items.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The items, in order.
    pub items: Vec<Item>,
    /// Cursor of the next page; `None` at the end. Opaque; only for the same query.
    pub next: Option<String>,
}

/// What can go wrong with the table.
///
/// Policy: [`ConditionFailed`](Self::ConditionFailed) is for the caller to resolve (read again and retry);
/// everything else goes up, and the message that caused it is delivered again.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Conditions of these writes (by position) did not hold; nothing was written.
    #[error("condition of write {0:?} did not hold")]
    ConditionFailed(Vec<usize>),
    /// A caller's mistake: too many writes, one key twice, a body that is no object or too large, a bad cursor.
    #[error("bad request to the table: {0}")]
    BadRequest(String),
    /// A stored body is not of the wanted type.
    #[error("item {key} does not have the expected form: {reason}")]
    Malformed {
        /// `pk/sk`.
        key: String,
        /// What was expected.
        reason: String,
    },
    /// The store itself failed.
    #[error("the store failed: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TableError {
    /// Wraps an adapter's own error.
    pub fn store(e: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Store(Box::new(e))
    }

    /// Whether a condition did not hold.
    pub fn is_condition(&self) -> bool {
        matches!(self, Self::ConditionFailed(_))
    }
}

/// Checks a transaction against the limits that every table has, and gives the JSON text of each put's body
/// by position (`None` for other writes). Adapters call it first.
pub fn check_writes(writes: &[Write]) -> Result<Vec<Option<String>>, TableError> {
    if writes.len() > MAX_WRITES {
        return Err(TableError::BadRequest(format!("{} writes, over the limit of {MAX_WRITES}", writes.len())));
    }
    let mut seen = HashSet::with_capacity(writes.len());
    let mut bodies = Vec::with_capacity(writes.len());
    let mut bytes = 0;
    for write in writes {
        let key = write.key();
        check_key(&key.pk, &key.sk)?;
        if !seen.insert(key) {
            return Err(TableError::BadRequest(format!("item {}/{} twice in one transaction", key.pk, key.sk)));
        }
        let body = match write {
            Write::Put(put) => Some(check_put(put)?),
            Write::Delete(..) | Write::Check(..) => None,
        };
        bytes += body.as_ref().map_or(0, String::len);
        bodies.push(body);
    }
    if bytes > MAX_WRITE_BYTES {
        return Err(TableError::BadRequest(format!("transaction of {bytes} bytes, over {MAX_WRITE_BYTES}")));
    }
    Ok(bodies)
}

fn check_put(put: &Put) -> Result<String, TableError> {
    let name = || format!("{}/{}", put.key.pk, put.key.sk);
    for index in [&put.index_one, &put.index_two].into_iter().flatten() {
        check_key(&index.pk, &index.sk)?;
    }
    if !put.body.is_object() {
        return Err(TableError::BadRequest(format!("the body of {} is no object", name())));
    }
    let text = put.body.to_string();
    if text.len() > MAX_BODY_BYTES {
        let bytes = text.len();
        return Err(TableError::BadRequest(format!("{} has {bytes} bytes, over {MAX_BODY_BYTES}", name())));
    }
    Ok(text)
}

fn check_key(pk: &str, sk: &str) -> Result<(), TableError> {
    if (1..=MAX_PK_BYTES).contains(&pk.len()) && (1..=MAX_SK_BYTES).contains(&sk.len()) {
        return Ok(());
    }
    Err(TableError::BadRequest(format!(
        "keys have 1 to {MAX_PK_BYTES} and 1 to {MAX_SK_BYTES} bytes, not {} and {}",
        pk.len(),
        sk.len()
    )))
}

/// A table of items.
#[async_trait]
pub trait Table: Send + Sync {
    /// The item under a key, unless absent or expired. Strongly consistent.
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError>;

    /// The items under these keys (at most [`MAX_KEYS`]), in no order, each once, absent and expired ones left out.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError>;

    /// Carries out all writes or none. At most [`MAX_WRITES`], each key once;
    /// no writes are no error.
    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError>;

    /// Items of one partition in order of their sort key.
    async fn query(&self, query: Query) -> Result<Page, TableError>;
}
