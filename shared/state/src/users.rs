//! Who may use the dashboard: users, API tokens, the keys that sign sessions, and failed logins.
//!
//! Passwords and API tokens are kept as hashes only. Failed logins are counted under the name that was
//! tried, whether or not such a user exists, so that an answer never tells which names do.

use std::sync::Arc;

use sentinel_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Condition, Index, IndexKey, Key, Put, Query, Table, TableError, Write};

/// What a user may do; each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Triages alerts.
    Analyst,
    /// Approves, denies and undoes responses, sends logs, manages users.
    Admin,
}

/// A user of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub username: String,
    /// Argon2id hash as a PHC string.
    pub password_hash: String,
    /// Role.
    pub role: Role,
    /// Whether the password must be changed before anything else.
    pub must_change_password: bool,
    /// When the user was made.
    pub created_at: Timestamp,
    /// A disabled user cannot log in, and running sessions end.
    pub disabled: bool,
    /// AWS principals (ARNs) that are this person: nobody decides about a response to their own.
    pub principals: Vec<String>,
    /// Sessions carry this number; raising it ends all of them.
    pub session_epoch: u64,
}

/// An API token as kept: the token itself is shown once and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Id, part of the token.
    pub id: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// What it may do, e.g. `logs:write`.
    pub scopes: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A secret that signs sessions, named by `kid` so that it can be rotated.
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

/// Failed logins under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLogins {
    /// In a row, since the last success.
    pub count: u32,
    /// No attempt is looked at before this.
    pub locked_until: Option<Timestamp>,
}

/// A value and the version of its item, for a conditional write back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The item's version.
    pub version: u64,
}

/// The store of users, tokens and signing keys.
#[derive(Clone)]
pub struct Users {
    table: Arc<dyn Table>,
}

const LISTING: &str = "USERS";
const TOKENS: &str = "TOKENS";
const SIGNING: &str = "SIGNING";
/// Most rows of a listing of users or tokens.
const LISTED: usize = 500;

fn user_key(username: &str) -> Key {
    Key::new(format!("USER#{username}"), "USER")
}

fn failed_key(username: &str) -> Key {
    Key::new(format!("LOGIN#{username}"), "FAILED")
}

fn token_key(id: &str) -> Key {
    Key::new(format!("TOKEN#{id}"), "TOKEN")
}

impl Users {
    /// A store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// A user by name.
    pub async fn get(&self, username: &str) -> Result<Option<Versioned<User>>, TableError> {
        let Some(item) = self.table.get(&user_key(username)).await? else { return Ok(None) };
        Ok(Some(Versioned { value: item.decode()?, version: item.version }))
    }

    /// Writes a user under a condition.
    pub async fn put(&self, user: &User, condition: Condition) -> Result<(), TableError> {
        let put = Put::new(user_key(&user.username), user)?
            .listed(Index::One, IndexKey::new(LISTING, &user.username))
            .when(condition);
        self.table.write(vec![Write::Put(put)]).await
    }

    /// All users by name.
    pub async fn list(&self) -> Result<Vec<User>, TableError> {
        let mut query = Query::listing(Index::One, LISTING, LISTED);
        query.descending = false;
        self.table.query(query).await?.items.iter().map(crate::Item::decode).collect()
    }

    /// Failed logins under a name.
    pub async fn failed_logins(&self, username: &str) -> Result<Versioned<FailedLogins>, TableError> {
        match self.table.get(&failed_key(username)).await? {
            Some(item) => Ok(Versioned { value: item.decode()?, version: item.version }),
            None => Ok(Versioned { value: FailedLogins::default(), version: 0 }),
        }
    }

    /// Writes failed logins; `version` 0 means there were none. They are forgotten at `expires_at`.
    pub async fn put_failed_logins(
        &self,
        username: &str,
        failed: &FailedLogins,
        version: u64,
        expires_at: Timestamp,
    ) -> Result<(), TableError> {
        let condition = if version == 0 { Condition::Absent } else { Condition::Version(version) };
        let put = Put::new(failed_key(username), failed)?.expiring(Some(expires_at)).when(condition);
        self.table.write(vec![Write::Put(put)]).await
    }

    /// Forgets failed logins after a success.
    pub async fn clear_failed_logins(&self, username: &str) -> Result<(), TableError> {
        self.table.write(vec![Write::Delete(failed_key(username), Condition::None)]).await
    }

    /// A token by id, unless it ended or was deleted.
    pub async fn token(&self, id: &str) -> Result<Option<ApiToken>, TableError> {
        self.table.get(&token_key(id)).await?.map(|item| item.decode()).transpose()
    }

    /// Keeps a new token until it ends.
    pub async fn put_token(&self, token: &ApiToken) -> Result<(), TableError> {
        let put = Put::new(token_key(&token.id), token)?
            .expiring(Some(token.expires_at))
            .listed(Index::One, IndexKey::new(TOKENS, format!("{}#{}", token.created_at, token.id)))
            .when(Condition::Absent);
        self.table.write(vec![Write::Put(put)]).await
    }

    /// All tokens, newest first.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>, TableError> {
        let page = self.table.query(Query::listing(Index::One, TOKENS, LISTED)).await?;
        page.items.iter().map(crate::Item::decode).collect()
    }

    /// Ends a token; one that is gone already is no error.
    pub async fn delete_token(&self, id: &str) -> Result<(), TableError> {
        self.table.write(vec![Write::Delete(token_key(id), Condition::None)]).await
    }

    /// The signing keys, newest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, TableError> {
        let mut query = Query::partition(SIGNING, 20);
        query.descending = true;
        self.table.query(query).await?.items.iter().map(crate::Item::decode).collect()
    }

    /// Adds a signing key, which signs from now on. Fails on the condition when another process added one at
    /// the same instant.
    pub async fn add_signing_key(&self, key: &SigningKey, expires_at: Option<Timestamp>) -> Result<(), TableError> {
        let put = Put::new(Key::new(SIGNING, format!("{}#{}", key.created_at, key.kid)), key)?
            .expiring(expires_at)
            .when(Condition::Absent);
        self.table.write(vec![Write::Put(put)]).await
    }
}
