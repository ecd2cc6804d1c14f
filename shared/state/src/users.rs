//! Who may use the dashboard: users, API tokens and failed logins.
//!
//! Passwords are kept as hashes only, and of an API token only what it may do: the token itself proves by its
//! signature that we issued it. Failed logins are counted under the name that was
//! tried, whether or not such a user exists, so that an answer never tells which names do.

use std::sync::Arc;

use sentinel_model::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Condition, Index, IndexKey, Item, Key, Put, Query, Table, TableError, Write, sort_time};

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

impl Role {
    /// All roles, the weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Analyst, Self::Admin];

    /// The role's name as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Analyst => "analyst",
            Self::Admin => "admin",
        }
    }
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

/// Failed logins under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLogins {
    /// In a row, since the last success.
    pub count: u32,
    /// No attempt is looked at before this.
    pub locked_until: Option<Timestamp>,
}

/// Which version of the first administrator's secret was used last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialVersion {
    /// The secret's version id.
    pub version_id: String,
    /// When it was used.
    pub used_at: Timestamp,
}

/// A value and the version of its item, for a conditional write back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The item's version.
    pub version: u64,
}

/// The store of users and tokens.
#[derive(Clone)]
pub struct Users {
    table: Arc<dyn Table>,
}

const LISTING: &str = "USERS";
const TOKENS: &str = "TOKENS";
/// Items read in one go of a listing that is wanted whole.
const PAGE: usize = 200;

fn user_key(username: &str) -> Key {
    Key::new(format!("USER#{username}"), "USER")
}

fn failed_key(username: &str) -> Key {
    Key::new(format!("LOGIN#{username}"), "FAILED")
}

fn initial_key() -> Key {
    Key::new("INITIAL", "ADMINISTRATOR")
}

fn token_key(id: &str) -> Key {
    Key::new(format!("TOKEN#{id}"), "TOKEN")
}

fn versioned<T: DeserializeOwned>(item: &Item) -> Result<Versioned<T>, TableError> {
    Ok(Versioned { value: item.decode()?, version: item.version })
}

fn put_user(user: &User, condition: Condition) -> Result<Write, TableError> {
    let put = Put::new(user_key(&user.username), user)?
        .listed(Index::One, IndexKey::new(LISTING, &user.username))
        .when(condition);
    Ok(Write::Put(put))
}

impl Users {
    /// A store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// A user by name.
    pub async fn get(&self, username: &str) -> Result<Option<Versioned<User>>, TableError> {
        self.table.get(&user_key(username)).await?.as_ref().map(versioned).transpose()
    }

    /// Writes a user under a condition.
    pub async fn put(&self, user: &User, condition: Condition) -> Result<(), TableError> {
        self.table.write(vec![put_user(user, condition)?]).await
    }

    /// Writes a user under a condition, and only while the administrator who asks for it is unchanged since
    /// `admin` was read. Two administrators who demote each other at the same time thus cannot both succeed, and
    /// the one who succeeds is left.
    pub async fn put_as(&self, admin: &Versioned<User>, user: &User, condition: Condition) -> Result<(), TableError> {
        let mut writes = vec![put_user(user, condition)?];
        if admin.value.username != user.username {
            writes.push(Write::Check(user_key(&admin.value.username), Condition::Version(admin.version)));
        }
        self.table.write(writes).await
    }

    /// Which version of the secret that holds the first administrator's password was used last.
    pub async fn initial_version(&self) -> Result<Option<Versioned<InitialVersion>>, TableError> {
        self.table.get(&initial_key()).await?.as_ref().map(versioned).transpose()
    }

    /// Notes which version was used, together with the user whose password was set by it, if one was.
    /// `before` is the version of the note as it was read; 0 means there was none.
    pub async fn put_initial_version(
        &self,
        noted: &InitialVersion,
        before: u64,
        user: Option<(&User, Condition)>,
    ) -> Result<(), TableError> {
        let condition = if before == 0 { Condition::Absent } else { Condition::Version(before) };
        let mut writes = vec![Write::Put(Put::new(initial_key(), noted)?.when(condition))];
        if let Some((user, condition)) = user {
            writes.push(put_user(user, condition)?);
        }
        self.table.write(writes).await
    }

    /// All users by name.
    pub async fn list(&self) -> Result<Vec<User>, TableError> {
        let mut query = Query::listing(Index::One, LISTING, PAGE);
        query.descending = false;
        self.all(query).await
    }

    /// Everything a query finds, page by page.
    async fn all<T: DeserializeOwned>(&self, mut query: Query) -> Result<Vec<T>, TableError> {
        let mut found = Vec::new();
        loop {
            let page = self.table.query(query.clone()).await?;
            for item in &page.items {
                found.push(item.decode()?);
            }
            if page.next.is_none() {
                return Ok(found);
            }
            query.after = page.next;
        }
    }

    /// Failed logins under a name.
    pub async fn failed_logins(&self, username: &str) -> Result<Versioned<FailedLogins>, TableError> {
        match self.table.get(&failed_key(username)).await? {
            Some(item) => versioned(&item),
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
            .listed(Index::One, IndexKey::new(TOKENS, format!("{}#{}", sort_time(token.created_at), token.id)))
            .when(Condition::Absent);
        self.table.write(vec![Write::Put(put)]).await
    }

    /// All tokens, newest first.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>, TableError> {
        self.all(Query::listing(Index::One, TOKENS, PAGE)).await
    }

    /// Ends a token; `false` when there is none.
    pub async fn delete_token(&self, id: &str) -> Result<bool, TableError> {
        let Some(item) = self.table.get(&token_key(id)).await? else { return Ok(false) };
        self.table.write(vec![Write::Delete(item.key, Condition::None)]).await?;
        Ok(true)
    }
}
