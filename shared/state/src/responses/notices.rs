//! Notices: what is to be told to whom, once. The item is both the outgoing text and the mark that it went.

use sentinel_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::Responses;
use crate::table::{Condition, Key, Put, TableError, Write};

/// How long a notice and its mark are kept, in seconds: longer than any message can come again.
const NOTICE_SECONDS: i64 = 90 * 24 * 3600;

/// One thing to be told through one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Identity of what is told; the same over all channels.
    pub notice_id: String,
    /// The channel's name.
    pub channel: String,
    /// What is told; the notifier's own form.
    pub content: serde_json::Value,
    /// When it was decided on.
    pub created_at: Timestamp,
    /// Deliveries tried.
    pub attempts: u32,
    /// When it was delivered.
    pub sent_at: Option<Timestamp>,
    /// Why it was given up.
    pub given_up: Option<String>,
}

/// A notice and the version it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredNotice {
    /// The notice.
    pub notice: Notice,
    /// What a change of it must still find.
    pub version: u64,
}

impl Responses {
    /// A notice of an account.
    pub async fn notice(
        &self,
        account: &str,
        notice_id: &str,
        channel: &str,
    ) -> Result<Option<StoredNotice>, TableError> {
        let Some(item) = self.table.get(&notice_key(account, notice_id, channel)).await? else { return Ok(None) };
        Ok(Some(StoredNotice { notice: item.decode()?, version: item.version }))
    }

    /// The write of a notice; fails when there is one of its id and channel already.
    pub fn put_notice(account: &str, notice: &Notice) -> Result<Write, TableError> {
        write_notice(account, notice, Condition::Absent)
    }

    /// The write of a notice that must still have the version it was read at.
    pub fn update_notice(account: &str, notice: &Notice, version: u64) -> Result<Write, TableError> {
        write_notice(account, notice, Condition::Version(version))
    }
}

fn write_notice(account: &str, notice: &Notice, condition: Condition) -> Result<Write, TableError> {
    let key = notice_key(account, &notice.notice_id, &notice.channel);
    let expires = sentinel_model::time::plus_seconds(notice.created_at, NOTICE_SECONDS);
    Ok(Write::Put(Put::new(key, notice)?.when(condition).expiring(Some(expires))))
}

fn notice_key(account: &str, notice_id: &str, channel: &str) -> Key {
    Key::new(format!("{account}#NOTICE#{notice_id}"), channel)
}
