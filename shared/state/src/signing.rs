//! The port of the keys that sign sessions and API tokens.
//!
//! The newest key signs; older ones go on checking until the last token that they can have signed has ended.
//! On one machine the state table keeps them ([`TableSigningKeys`]), on AWS a secret of Secrets Manager does; both pass
//! [`conformance`](crate::conformance::signing).

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_model::{Timestamp, time::plus_seconds};
use serde::{Deserialize, Serialize};

use crate::{Condition, Key, Put, Query, Table, TableError, Write, sort_time};

/// Age in days from which a key signs no more and a new one is made.
pub const SIGNING_DAYS: i64 = 90;
/// Longest life of a token, in days.
pub const LONGEST_TOKEN_DAYS: i64 = 365;
const DAY_SECONDS: i64 = 86_400;
const SIGNING: &str = "SIGNING";
/// Keys read in one go.
const PAGE: usize = 200;

/// A secret that signs tokens, named by `kid` so that it can be rotated.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Key id.
    pub kid: String,
    /// 32 random bytes, hexadecimal.
    pub secret: String,
    /// When it was made; the newest one signs, older ones still check.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// When the key may no longer sign.
    pub fn signs_until(&self) -> Timestamp {
        plus_seconds(self.created_at, SIGNING_DAYS * DAY_SECONDS)
    }

    /// When the last token that it can have signed has ended: a day more than it signs for (a process may
    /// sign a little later with a key that it read before) and a token lives.
    pub fn ends_at(&self) -> Timestamp {
        plus_seconds(self.created_at, (SIGNING_DAYS + LONGEST_TOKEN_DAYS + 1) * DAY_SECONDS)
    }
}

/// Keeps signing keys.
#[async_trait]
pub trait SigningKeys: Send + Sync {
    /// The keys that have not ended, newest first. May lag behind [`add`](Self::add) in another process by
    /// minutes; a key added here is among them at once.
    async fn list(&self) -> Result<Vec<SigningKey>, TableError>;

    /// The key of this id. One that another process added is found within seconds.
    async fn find(&self, kid: &str) -> Result<Option<SigningKey>, TableError>;

    /// Adds a key and forgets those that have ended. When it returns, the key is kept: none that was added at
    /// the same time is lost by it, nor it by them.
    async fn add(&self, key: &SigningKey) -> Result<(), TableError>;
}

/// Signing keys in the state table.
#[derive(Clone)]
pub struct TableSigningKeys {
    table: Arc<dyn Table>,
}

impl TableSigningKeys {
    /// Keys in a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }
}

#[async_trait]
impl SigningKeys for TableSigningKeys {
    async fn list(&self) -> Result<Vec<SigningKey>, TableError> {
        let mut query = Query::partition(SIGNING, PAGE);
        query.descending = true;
        let mut keys = Vec::new();
        loop {
            let page = self.table.query(query.clone()).await?;
            for item in &page.items {
                keys.push(item.decode()?);
            }
            if page.next.is_none() {
                return Ok(keys);
            }
            query = query.after(page.next);
        }
    }

    async fn find(&self, kid: &str) -> Result<Option<SigningKey>, TableError> {
        Ok(self.list().await?.into_iter().find(|key| key.kid == kid))
    }

    async fn add(&self, key: &SigningKey) -> Result<(), TableError> {
        let put = Put::new(Key::new(SIGNING, format!("{}#{}", sort_time(key.created_at), key.kid)), key)?
            .expiring(Some(key.ends_at()))
            .when(Condition::Absent);
        self.table.write(vec![Write::Put(put)]).await
    }
}
