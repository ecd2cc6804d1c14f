//! A simulated account's IAM over the state table, so that it persists with the rest of the data: users
//! with paths, tags and several keys, and reads that lag behind writes when asked to.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use sentinel_durable::Clock;
use sentinel_model::{Timestamp, time};
use sentinel_state::{Condition, Key, Put, Table, TableError, Write};
use serde::{Deserialize, Serialize};

use super::{Iam, IamError, KeyOwner, KeyStatus};

/// Longest user name (IAM User Guide, "IAM and AWS STS quotas").
const USER_NAME_LENGTH: usize = 64;
/// Tries of a conditional write before it counts as a passing failure.
const TRIES: usize = 8;

/// A user to be put into a simulated account.
#[derive(Debug, Clone, Default)]
pub struct SimulatedUser {
    /// Name: 1 to 64 letters, digits and `+=,.@_-`.
    pub name: String,
    /// Path: `/` or `/division/team/`.
    pub path: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Access key ids; they start Active.
    pub keys: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredUser {
    owner: KeyOwner,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredKey {
    user_name: String,
    status: KeyStatus,
    /// What reads still see until the change has spread.
    before: KeyStatus,
    changed_at: Timestamp,
    /// Changes from one status to the other; setting the same again is none.
    changes: u32,
}

/// Simulated accounts.
#[derive(Clone)]
pub struct SimulatedIam {
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    lag_seconds: i64,
}

impl SimulatedIam {
    /// Over a table; reads are consistent at once.
    pub fn new(table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Self {
        Self { table, clock, lag_seconds: 0 }
    }

    /// With reads of a key's status that see a change only after so many seconds, as IAM's do.
    #[must_use]
    pub fn with_lag(mut self, seconds: i64) -> Self {
        self.lag_seconds = seconds;
        self
    }

    /// Puts a user with its keys into an account. What exists already is left as it is, so a restarted
    /// demonstration keeps its contained key.
    pub async fn add_user(&self, account: &str, user: &SimulatedUser) -> Result<(), IamError> {
        check_name(&user.name)?;
        let path = if user.path.is_empty() { "/" } else { &user.path };
        if !(path.starts_with('/') && path.ends_with('/')) {
            return Err(IamError::Denied(format!("path {path:?} must begin and end with a slash")));
        }
        let owner = KeyOwner {
            user_name: user.name.clone(),
            user_arn: format!("arn:aws:iam::{account}:user{path}{}", user.name),
            tags: user.tags.clone(),
        };
        self.put_new(user_key(account, &user.name), &StoredUser { owner }).await?;
        for key in &user.keys {
            let stored = StoredKey {
                user_name: user.name.clone(),
                status: KeyStatus::Active,
                before: KeyStatus::Active,
                changed_at: Timestamp::MIN,
                changes: 0,
            };
            self.put_new(key_key(account, key), &stored).await?;
        }
        Ok(())
    }

    /// Deletes a key, as somebody outside could.
    pub async fn delete_key(&self, account: &str, access_key_id: &str) -> Result<(), IamError> {
        let write = Write::Delete(key_key(account, access_key_id), Condition::None);
        self.table.write(vec![write]).await.map_err(|e| failed(&e))
    }

    /// How often a key's status really changed: 1 after one deactivation, however often it was asked for.
    pub async fn status_changes(&self, account: &str, access_key_id: &str) -> Result<u32, IamError> {
        Ok(self.stored_key(account, access_key_id).await?.map_or(0, |(key, _)| key.changes))
    }

    async fn put_new<T: Serialize + Sync>(&self, key: Key, body: &T) -> Result<(), IamError> {
        let put = Put::new(key, body).map_err(|e| failed(&e))?.when(Condition::Absent);
        match self.table.write(vec![Write::Put(put)]).await {
            Err(e) if !e.is_condition() => Err(failed(&e)),
            _ => Ok(()),
        }
    }

    async fn stored_key(&self, account: &str, access_key_id: &str) -> Result<Option<(StoredKey, u64)>, IamError> {
        let item = self.table.get(&key_key(account, access_key_id)).await.map_err(|e| failed(&e))?;
        item.map(|item| Ok((item.decode().map_err(|e| failed(&e))?, item.version))).transpose()
    }
}

#[async_trait]
impl Iam for SimulatedIam {
    async fn key_owner(&self, account: &str, access_key_id: &str) -> Result<Option<KeyOwner>, IamError> {
        let Some((key, _)) = self.stored_key(account, access_key_id).await? else { return Ok(None) };
        let item = self.table.get(&user_key(account, &key.user_name)).await.map_err(|e| failed(&e))?;
        let user: Option<StoredUser> = item.map(|item| item.decode()).transpose().map_err(|e| failed(&e))?;
        Ok(user.map(|user| user.owner))
    }

    async fn key_status(
        &self,
        account: &str,
        user_name: &str,
        access_key_id: &str,
    ) -> Result<Option<KeyStatus>, IamError> {
        let Some((key, _)) = self.stored_key(account, access_key_id).await? else { return Ok(None) };
        if key.user_name != user_name {
            return Ok(None);
        }
        let spread_at = time::plus_seconds(key.changed_at, self.lag_seconds);
        Ok(Some(if self.clock.now() < spread_at { key.before } else { key.status }))
    }

    async fn set_key_status(
        &self,
        account: &str,
        user_name: &str,
        access_key_id: &str,
        status: KeyStatus,
    ) -> Result<(), IamError> {
        for _ in 0..TRIES {
            let found = self.stored_key(account, access_key_id).await?;
            let Some((mut key, version)) = found.filter(|(key, _)| key.user_name == user_name) else {
                return Err(IamError::NotFound);
            };
            if key.status == status {
                return Ok(());
            }
            key.before = key.status;
            key.status = status;
            key.changed_at = self.clock.now();
            key.changes = key.changes.saturating_add(1);
            let put = Put::new(key_key(account, access_key_id), &key).map_err(|e| failed(&e))?;
            match self.table.write(vec![Write::Put(put.when(Condition::Version(version)))]).await {
                Ok(()) => return Ok(()),
                Err(e) if e.is_condition() => {}
                Err(e) => return Err(failed(&e)),
            }
        }
        Err(IamError::Other("the key kept changing".into()))
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// IAM's rule for user names (IAM API Reference, `CreateUser`).
fn check_name(name: &str) -> Result<(), IamError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if (1..=USER_NAME_LENGTH).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(IamError::Denied(format!("{name:?} is no user name: 1 to 64 letters, digits and +=,.@_-")))
}

fn failed(e: &TableError) -> IamError {
    IamError::Other(e.to_string())
}

fn user_key(account: &str, name: &str) -> Key {
    // IAM tells users apart without regard to case.
    Key::new(format!("{account}#SIMULATED-IAM"), format!("USER#{}", name.to_ascii_lowercase()))
}

fn key_key(account: &str, access_key_id: &str) -> Key {
    Key::new(format!("{account}#SIMULATED-IAM"), format!("KEY#{access_key_id}"))
}
