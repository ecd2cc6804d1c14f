//! What respond remembers: responses, how often a key's action was undone, how many actions an account has
//! seen in an hour, the kill switch, notices that were sent, and our own calls.
//!
//! In: respond's decisions, as [`Write`]s that the caller puts into one transaction with its outbox
//! messages. Out: responses for the handler, the API and the command line. Every change is conditional on
//! the version that was read, so of two workers that hold the same response only one gets on.
//!
//! Keys: `ACCOUNT#RESPONSE#ID` / `RESPONSE` (listed in [`Index::One`] under `RESPONSES` by time, found by id
//! alone in [`Index::Two`]); `ACCOUNT#ANSWERS#ALERT` / `KIND#KEY#LEVEL` (an alert's question and the response
//! that answers it); `ACCOUNT#TRACK#KEY` / kind; `ACCOUNT#ACTIONS` / hour; `ACCOUNT#NOTICE#ID` / channel;
//! `ACCOUNT#OWN` / time; `CONTROL` / `KILL_SWITCH`; `OPEN-RESPONSES` / id, while there is something left to do.

use std::sync::Arc;

use sentinel_model::response::{ActionKind, Response, ResponseState, response_id};
use sentinel_model::{Level, Timestamp};
use serde::{Deserialize, Serialize};

use crate::table::{Condition, Index, IndexKey, Item, Key, Put, Query, Table, TableError, Write};

mod notices;
mod own;

pub use notices::{Notice, StoredNotice};
pub use own::{OwnActivity, OwnCall};

/// Pages read at most to fill one page of a filtered list.
const LIST_PAGES: usize = 20;
/// Partition of the marks of responses that are not at their end.
const OPEN: &str = "OPEN-RESPONSES";
/// How long the count of an hour's actions is kept, in seconds.
const COUNTER_SECONDS: i64 = 7 * 24 * 3600;

/// A response and the version it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResponse {
    /// The response.
    pub response: Response,
    /// What a change of it must still find.
    pub version: u64,
}

/// Which responses to list.
#[derive(Debug, Clone, Default)]
pub struct ListResponses {
    /// Only in this state.
    pub state: Option<ResponseState>,
    /// Only in this account.
    pub account: Option<String>,
    /// Most returned; 0 counts as 50, more than 500 as 500.
    pub limit: usize,
    /// Cursor of an earlier page.
    pub cursor: Option<String>,
}

/// How often actions of one kind on one key were undone; an undone key is only touched with approval.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// Undos so far.
    pub undo_count: u32,
    /// Version of the stored item; 0 when there is none.
    #[serde(skip)]
    pub version: u64,
}

/// Actions that an account saw in one hour of the UTC clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourCount {
    /// Actions approved, by whomever.
    pub actions: u32,
    /// Version of the stored item; 0 when there is none.
    #[serde(skip)]
    pub version: u64,
}

/// The switch that stops every action at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// Whether it is on.
    pub on: bool,
    /// Who set it last.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// How it was set before, the latest first and at most [`KEPT_SETTINGS`] of them.
    #[serde(default)]
    pub earlier: Vec<KillSwitchSetting>,
}

/// How the kill switch was set once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitchSetting {
    /// Whether it was turned on.
    pub on: bool,
    /// Who set it.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// Earlier settings of the kill switch that its item keeps.
pub const KEPT_SETTINGS: usize = 50;

impl KillSwitch {
    /// What follows this one by another setting: this one is the latest of its earlier ones.
    #[must_use]
    pub fn then(self, next: KillSwitchSetting) -> Self {
        let mut earlier = self.earlier;
        // One that was never set has nobody who set it.
        if self.at.is_some() {
            earlier.insert(0, KillSwitchSetting { on: self.on, by: self.by, at: self.at, reason: self.reason });
            earlier.truncate(KEPT_SETTINGS);
        }
        Self { on: next.on, by: next.by, at: next.at, reason: next.reason, earlier }
    }
}

/// The response that answers an alert's question about one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The response.
    pub response_id: String,
}

/// What a plan for a key is made from, read at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The response that answers, when the question was put before.
    pub answer: Option<Answer>,
    /// How often the key's action was undone.
    pub track: Track,
    /// The id of the response that there is or will be.
    pub response_id: String,
    /// That response, when there is one.
    pub response: Option<StoredResponse>,
    /// Actions of the account in the hour of `at`.
    pub count: HourCount,
    /// Whether the kill switch is on.
    pub kill_switch: bool,
    /// When it was read.
    pub at: Timestamp,
}

/// Marks a response that is not at its end.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    account: String,
}

/// The typed store.
#[derive(Clone)]
pub struct Responses {
    table: Arc<dyn Table>,
}

impl Responses {
    /// Over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The table below, for transactions that also carry messages.
    pub fn table(&self) -> &Arc<dyn Table> {
        &self.table
    }

    /// A response of an account.
    pub async fn get(&self, account: &str, response_id: &str) -> Result<Option<StoredResponse>, TableError> {
        self.table.get(&response_key(account, response_id)).await?.map(|item| stored(&item)).transpose()
    }

    /// A response by its id alone.
    pub async fn find(&self, response_id: &str) -> Result<Option<StoredResponse>, TableError> {
        let page = self.table.query(Query::listing(Index::Two, format!("RESPONSE#{response_id}"), 1)).await?;
        let Some(item) = page.items.first() else { return Ok(None) };
        // The index may lag behind: what it found is read again where reads are exact.
        self.table.get(&item.key).await?.map(|item| stored(&item)).transpose()
    }

    /// Responses, newest first, and the next page's cursor.
    pub async fn list(&self, wanted: &ListResponses) -> Result<(Vec<StoredResponse>, Option<String>), TableError> {
        let limit = if wanted.limit == 0 { 50 } else { wanted.limit.min(500) };
        let mut found = Vec::new();
        let mut cursor = wanted.cursor.clone();
        for _ in 0..LIST_PAGES {
            let query = Query::listing(Index::One, "RESPONSES", limit - found.len()).after(cursor.take());
            let page = self.table.query(query).await?;
            for item in &page.items {
                let candidate = stored(item)?;
                let in_state = wanted.state.is_none_or(|state| candidate.response.state == state);
                let in_account = wanted.account.as_ref().is_none_or(|a| *a == candidate.response.account);
                if in_state && in_account {
                    found.push(candidate);
                }
            }
            cursor = page.next;
            if cursor.is_none() || found.len() >= limit {
                break;
            }
        }
        Ok((found, cursor))
    }

    /// The responses that answer an alert (at most 300).
    pub async fn of_alert(&self, account: &str, alert_id: &str) -> Result<Vec<StoredResponse>, TableError> {
        let page = self.table.query(Query::partition(answers_pk(account, alert_id), 300)).await?;
        let mut found: Vec<StoredResponse> = Vec::new();
        for item in &page.items {
            let answer: Answer = item.decode()?;
            if found.iter().any(|f| f.response.response_id == answer.response_id) {
                continue;
            }
            found.extend(self.get(account, &answer.response_id).await?);
        }
        Ok(found)
    }

    /// The writes of a response that must not exist yet.
    pub fn create(response: &Response) -> Result<Vec<Write>, TableError> {
        put_response(response, Condition::Absent)
    }

    /// The writes of a response that must still have the version it was read at.
    pub fn update(response: &Response, version: u64) -> Result<Vec<Write>, TableError> {
        put_response(response, Condition::Version(version))
    }

    /// Account and id of every response that is under way or waits for a person. Exact: kept in the same
    /// transactions as the responses.
    pub async fn open(&self) -> Result<Vec<(String, String)>, TableError> {
        let mut found = Vec::new();
        let mut query = Query::partition(OPEN, 100);
        loop {
            let page = self.table.query(query.clone()).await?;
            for item in page.items {
                let open: Open = item.decode()?;
                found.push((open.account, item.key.sk));
            }
            if page.next.is_none() {
                return Ok(found);
            }
            query = query.after(page.next);
        }
    }

    /// What a plan for an alert of this level and a key is made from.
    pub async fn asked(
        &self,
        account: &str,
        (alert_id, level): (&str, Level),
        (kind, access_key_id): (ActionKind, &str),
        at: Timestamp,
    ) -> Result<Asked, TableError> {
        let id = |undo_count| response_id(account, access_key_id, kind, undo_count);
        let keys = [
            answer_key(account, alert_id, level, kind, access_key_id),
            track_key(account, access_key_id, kind),
            // Few keys' actions are ever undone.
            response_key(account, &id(0)),
            hour_key(account, at),
            kill_switch_key(),
        ];
        let items = self.table.get_many(&keys).await?;
        let of = |at: usize| items.iter().find(|item| item.key == keys[at]);
        let track = of(1).map(track_of).transpose()?.unwrap_or_default();
        let response_id = id(track.undo_count);
        let response = match track.undo_count {
            0 => of(2).map(stored).transpose()?,
            _ => self.get(account, &response_id).await?,
        };
        Ok(Asked {
            answer: of(0).map(Item::decode).transpose()?,
            track,
            response_id,
            response,
            count: of(3).map(count_of).transpose()?.unwrap_or_default(),
            kill_switch: of(4).map(Item::decode::<KillSwitch>).transpose()?.unwrap_or_default().on,
            at,
        })
    }

    /// The write that records which response answers; fails when the question was put before.
    pub fn put_answer(response: &Response, alert_id: &str, level: Level) -> Result<Write, TableError> {
        let key = answer_key(&response.account, alert_id, level, response.kind, &response.access_key_id);
        let answer = Answer { response_id: response.response_id.clone() };
        Ok(Write::Put(Put::new(key, &answer)?.when(Condition::Absent)))
    }

    /// How often a key's action was undone.
    pub async fn track(&self, account: &str, access_key_id: &str, kind: ActionKind) -> Result<Track, TableError> {
        let item = self.table.get(&track_key(account, access_key_id, kind)).await?;
        Ok(item.as_ref().map(track_of).transpose()?.unwrap_or_default())
    }

    /// The check that no undo came between reading `track` and the transaction.
    pub fn check_track(account: &str, access_key_id: &str, kind: ActionKind, track: &Track) -> Write {
        Write::Check(track_key(account, access_key_id, kind), at_version(track.version))
    }

    /// The write that counts one more undo.
    pub fn count_undo(
        account: &str,
        access_key_id: &str,
        kind: ActionKind,
        track: &Track,
    ) -> Result<Write, TableError> {
        let next = Track { undo_count: track.undo_count.saturating_add(1), version: 0 };
        let put = Put::new(track_key(account, access_key_id, kind), &next)?.when(at_version(track.version));
        Ok(Write::Put(put))
    }

    /// Actions of an account in the hour of `now`.
    pub async fn hour_count(&self, account: &str, now: Timestamp) -> Result<HourCount, TableError> {
        let item = self.table.get(&hour_key(account, now)).await?;
        Ok(item.as_ref().map(count_of).transpose()?.unwrap_or_default())
    }

    /// The write that counts one more action; fails when another was counted since `count` was read.
    pub fn count_action(account: &str, now: Timestamp, count: &HourCount) -> Result<Write, TableError> {
        let next = HourCount { actions: count.actions.saturating_add(1), version: 0 };
        let put = Put::new(hour_key(account, now), &next)?
            .when(at_version(count.version))
            .expiring(Some(sentinel_model::time::plus_seconds(now, COUNTER_SECONDS)));
        Ok(Write::Put(put))
    }

    /// The kill switch as it stands; off when it was never set.
    pub async fn kill_switch(&self) -> Result<KillSwitch, TableError> {
        let item = self.table.get(&kill_switch_key()).await?;
        Ok(item.map(|item| item.decode()).transpose()?.unwrap_or_default())
    }

    /// Sets the kill switch. Unconditional: stopping must never lose a race.
    pub async fn set_kill_switch(&self, switch: &KillSwitch) -> Result<(), TableError> {
        self.table.write(vec![Write::Put(Put::new(kill_switch_key(), switch)?)]).await
    }
}

fn track_of(item: &Item) -> Result<Track, TableError> {
    Ok(Track { version: item.version, ..item.decode()? })
}

fn count_of(item: &Item) -> Result<HourCount, TableError> {
    Ok(HourCount { version: item.version, ..item.decode()? })
}

fn stored(item: &Item) -> Result<StoredResponse, TableError> {
    Ok(StoredResponse { response: item.decode()?, version: item.version })
}

fn put_response(response: &Response, condition: Condition) -> Result<Vec<Write>, TableError> {
    let listed = format!("{}#{}", sortable(response.requested_at), response.response_id);
    let put = Put::new(response_key(&response.account, &response.response_id), response)?
        .when(condition)
        .listed(Index::One, IndexKey::new("RESPONSES", listed))
        .listed(Index::Two, IndexKey::new(format!("RESPONSE#{}", response.response_id), "RESPONSE"));
    let open_key = Key::new(OPEN, &response.response_id);
    let open = if response.state.is_under_way() || response.state == ResponseState::AwaitingApproval {
        Write::Put(Put::new(open_key, &Open { account: response.account.clone() })?)
    } else {
        Write::Delete(open_key, Condition::None)
    };
    Ok(vec![Write::Put(put), open])
}

/// A time whose text sorts as the time does.
fn sortable(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// The condition that an item still has a version; 0 stands for its absence.
fn at_version(version: u64) -> Condition {
    if version == 0 { Condition::Absent } else { Condition::Version(version) }
}

fn response_key(account: &str, response_id: &str) -> Key {
    Key::new(format!("{account}#RESPONSE#{response_id}"), "RESPONSE")
}

fn answers_pk(account: &str, alert_id: &str) -> String {
    format!("{account}#ANSWERS#{alert_id}")
}

fn answer_key(account: &str, alert_id: &str, level: Level, kind: ActionKind, access_key_id: &str) -> Key {
    Key::new(answers_pk(account, alert_id), format!("{}#{access_key_id}#{level}", kind.as_str()))
}

fn track_key(account: &str, access_key_id: &str, kind: ActionKind) -> Key {
    Key::new(format!("{account}#TRACK#{access_key_id}"), kind.as_str())
}

fn hour_key(account: &str, now: Timestamp) -> Key {
    let hour = sentinel_model::time::window_start(now, 60);
    Key::new(format!("{account}#ACTIONS"), hour.to_string())
}

fn kill_switch_key() -> Key {
    Key::new("CONTROL", "KILL_SWITCH")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(on: bool, second: i64) -> KillSwitchSetting {
        let at = Timestamp::from_second(second).ok();
        KillSwitchSetting { on, by: Some("ada".into()), at, reason: Some(format!("reason {second}")) }
    }

    #[test]
    fn the_kill_switch_remembers_its_latest_settings() {
        let first = KillSwitch::default().then(setting(true, 1));
        assert_eq!((first.on, first.earlier.as_slice()), (true, [].as_slice()), "it was never set before");
        let second = first.then(setting(false, 2));
        assert_eq!((second.on, second.earlier.as_slice()), (false, [setting(true, 1)].as_slice()));
        let many = (3..200).fold(second, |switch, i| switch.then(setting(i % 2 == 1, i)));
        assert_eq!((many.at, many.earlier.len()), (setting(true, 199).at, KEPT_SETTINGS));
        assert_eq!(many.earlier[0], setting(false, 198));
    }

    #[test]
    fn a_kill_switch_without_earlier_settings_is_read() {
        let stored = r#"{"on":true,"by":"ada","at":"2024-05-06T08:00:00Z","reason":null}"#;
        let read: KillSwitch = serde_json::from_str(stored).unwrap();
        assert!(read.on && read.earlier.is_empty());
    }
}
