//! Baselines: what models remember of each person or workload.
//!
//! One small item a principal, under its account: pk `{account}#BASELINE#{actor}`, sk `{model}`. A batch
//! reads it once and writes it once, on the condition that nobody wrote in between. What it holds is the
//! model's business; here it is any JSON object.

use std::sync::Arc;

use sentinel_model::{Timestamp, time};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Condition, Key, Put, Table, TableError, Write};

/// Days for which the baseline of a silent principal is kept.
pub const KEPT_DAYS: i64 = 90;

/// A baseline as read.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBaseline<T> {
    /// What is remembered.
    pub state: T,
    /// Counts the writes; what [`Baselines::put`] compares.
    pub version: u64,
}

/// The baselines of all principals.
#[derive(Clone)]
pub struct Baselines {
    table: Arc<dyn Table>,
}

fn key(account: &str, actor: &str, model: &str) -> Key {
    Key::new(format!("{account}#BASELINE#{actor}"), model)
}

impl Baselines {
    /// Baselines in a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The baseline of one actor for one model.
    pub async fn get<T: DeserializeOwned>(
        &self,
        account: &str,
        actor: &str,
        model: &str,
    ) -> Result<Option<StoredBaseline<T>>, TableError> {
        let Some(item) = self.table.get(&key(account, actor, model)).await? else { return Ok(None) };
        Ok(Some(StoredBaseline { state: item.decode()?, version: item.version }))
    }

    /// Writes a baseline in place of the version read (`None`: there was none), kept for [`KEPT_DAYS`] from
    /// `now`. [`TableError::ConditionFailed`]: somebody wrote in between; read again and start over.
    pub async fn put<T: Serialize + Sync>(
        &self,
        account: &str,
        actor: &str,
        model: &str,
        state: &T,
        read_version: Option<u64>,
        now: Timestamp,
    ) -> Result<(), TableError> {
        let condition = read_version.map_or(Condition::Absent, Condition::Version);
        let expires = time::plus_seconds(now, KEPT_DAYS * 86_400);
        let put = Put::new(key(account, actor, model), state)?.when(condition).expiring(Some(expires));
        self.table.write(vec![Write::Put(put)]).await
    }
}
