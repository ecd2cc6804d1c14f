//! Alerts as stored: the alert, what an analyst made of it, and the events it counts.
//!
//! Three items under one partition, so that growth, triage and grouping never stand in each other's way:
//! `ALERT` is the alert (enrich writes it), `TRIAGE` the analyst's state (the dashboard writes it) and
//! `INCIDENT` names the incident it belongs to (enrich's grouping writes it). `BRIEF` is the alert's short form
//! for grouping, from level low on; `M#0` to `M#f` hold member keys once there are more than the alert itself shows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use sentinel_model::{
    Alert, AlertState, Level, Timestamp, Verdict,
    alert::{MEMBER_CAP, SHOWN_EVENTS, ScoreBasis},
    incident::AlertBrief,
};
use serde::{Deserialize, Serialize};

use crate::{Condition, Index, IndexKey, Item, Key, Put, Query, SkRange, Table, TableError, Write, sort_time};

/// Partition of the listing of all alerts by time.
const LISTING: &str = "ALERTS";
/// Items read in one go while filtering a listing.
const SCAN_PAGE: usize = 100;

/// An alert with what the store keeps beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAlert {
    /// The alert.
    pub alert: Alert,
    /// What its score and reasons rest on.
    pub basis: ScoreBasis,
    /// Level at which it was last handed to respond; `None` when it never was.
    pub raised: Option<Level>,
    /// The incident it belongs to, if any. A merged incident's id still finds the incident it went into.
    pub incident_id: Option<String>,
    /// Version of the alert's item: 0 when not stored yet.
    pub version: u64,
}

/// The form of the `ALERT` item.
#[derive(Serialize, Deserialize)]
struct AlertBody {
    alert: Alert,
    basis: ScoreBasis,
    raised: Option<Level>,
}

/// Names the incident of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IncidentPointer {
    /// Account in the incident's key.
    pub account: String,
    /// The incident.
    pub incident_id: String,
}

/// What an analyst made of an alert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triage {
    /// Where it stands.
    pub state: AlertState,
    /// What it was.
    pub verdict: Option<Verdict>,
    /// Free text.
    pub note: Option<String>,
    /// Who changed what, oldest first, the last hundred.
    pub history: Vec<TriageChange>,
    /// Version of the item: 0 when nobody has touched it. What [`Alerts::set_triage`] compares.
    #[serde(skip)]
    pub version: u64,
}

/// One line of an alert's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriageChange {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// A readable sentence.
    pub change: String,
}

/// A change that an analyst asks for; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriageUpdate {
    /// New state.
    pub state: Option<AlertState>,
    /// New verdict; `Some(None)` takes it back.
    pub verdict: Option<Option<Verdict>>,
    /// New note; `Some(None)` removes it.
    pub note: Option<Option<String>>,
    /// Who asks.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Which alerts to list, newest first. Filters that are `None` let everything pass.
#[derive(Debug, Clone, Default)]
pub struct ListAlerts {
    /// This level or above.
    pub min_level: Option<Level>,
    /// In this state.
    pub state: Option<AlertState>,
    /// In this account.
    pub account: Option<String>,
    /// By this principal.
    pub principal: Option<String>,
    /// Of this rule id.
    pub rule: Option<String>,
    /// First event at this time or later.
    pub from: Option<Timestamp>,
    /// First event at this time or earlier.
    pub to: Option<Timestamp>,
    /// Most alerts returned; 0 counts as 50, more than 1,000 as 1,000.
    pub limit: usize,
    /// Cursor of an earlier page.
    pub cursor: Option<String>,
}

/// The events that an alert counts, by [`sentinel_model::EventRef::member_key`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    keys: BTreeSet<u128>,
    /// Buckets that got a member since the read.
    changed: BTreeSet<u8>,
    /// Members counted at the read.
    read: usize,
}

impl Members {
    /// Counts a member: `true` when it is new and is remembered now, `false` when it was known or the alert is full.
    pub fn insert(&mut self, key: u128) -> bool {
        if self.keys.contains(&key) || self.is_full() {
            return false;
        }
        self.changed.insert(bucket_of(key));
        self.keys.insert(key)
    }

    /// Whether a member is counted.
    pub fn contains(&self, key: u128) -> bool {
        self.keys.contains(&key)
    }

    /// Whether no further member can be counted.
    pub fn is_full(&self) -> bool {
        self.keys.len() as u64 >= MEMBER_CAP
    }

    /// How many are counted.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is counted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Which of the sixteen buckets a member key lies in.
fn bucket_of(key: u128) -> u8 {
    u8::try_from(key >> 124).unwrap_or(0)
}

#[derive(Serialize, Deserialize)]
struct Bucket {
    /// Member keys, 32 hexadecimal digits each, in one text.
    keys: String,
}

/// The store of alerts.
#[derive(Clone)]
pub struct Alerts {
    table: Arc<dyn Table>,
}

impl Alerts {
    /// The store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The alert `id` of `account`.
    pub async fn get(&self, account: &str, id: &str) -> Result<Option<StoredAlert>, TableError> {
        // With what lies between the two; `DynamoDB` bills a query by what it finds, two keys as two reads at least.
        let range = SkRange::Between("ALERT".to_owned(), "INCIDENT".to_owned());
        let query = Query::partition(key(account, id, "ALERT").pk, SCAN_PAGE).range(range);
        let page = self.table.query(query).await?;
        let Some(item) = page.items.iter().find(|i| i.key.sk == "ALERT") else { return Ok(None) };
        let pointer = page.items.iter().find(|i| i.key.sk == "INCIDENT");
        decode(item, pointer).map(Some)
    }

    /// The alert `id` of `account` and what an analyst made of it.
    pub async fn get_with_triage(&self, account: &str, id: &str) -> Result<Option<(StoredAlert, Triage)>, TableError> {
        let keys = ["ALERT", "INCIDENT", "TRIAGE"].map(|sk| key(account, id, sk));
        let items = self.table.get_many(&keys).await?;
        let of = |sk: &str| items.iter().find(|i| i.key.sk == sk);
        let Some(item) = of("ALERT") else { return Ok(None) };
        let triage = of("TRIAGE").map(decode_triage).transpose()?;
        Ok(Some((decode(item, of("INCIDENT"))?, triage.unwrap_or_default())))
    }

    /// The alert with this id, in whatever account, and what an analyst made of it. Reads a listing index, which
    /// may lag behind by a moment.
    pub async fn find(&self, id: &str) -> Result<Option<(StoredAlert, Triage)>, TableError> {
        let page = self.table.query(Query::listing(Index::Two, format!("ALERT#{id}"), 1)).await?;
        let Some(item) = page.items.first() else { return Ok(None) };
        let account = account_of(&item.key.pk).to_owned();
        self.get_with_triage(&account, id).await
    }

    /// A page of alerts, newest first, and the cursor of the next one.
    pub async fn list(&self, wanted: &ListAlerts) -> Result<(Vec<(StoredAlert, Triage)>, Option<String>), TableError> {
        let limit = if wanted.limit == 0 { 50 } else { wanted.limit.min(1000) };
        let from = wanted.from.map_or_else(String::new, sort_time);
        let mut to = wanted.to.map_or_else(|| "~".to_owned(), |t| format!("{}#~", sort_time(t)));
        if let Some(cursor) = &wanted.cursor {
            if !cursor.contains('#') {
                return Err(TableError::BadRequest("bad cursor".into()));
            }
            to = to.min(cursor.clone());
        }
        let mut found = Vec::new();
        let mut after = None;
        if from > to {
            return Ok((found, None));
        }
        loop {
            let query = Query::listing(Index::One, LISTING, SCAN_PAGE)
                .range(SkRange::Between(from.clone(), to.clone()))
                .after(after);
            let page = self.table.query(query).await?;
            for (stored, triage) in self.complete(&page.items).await? {
                let place = listing_key(&stored.alert);
                if wanted.cursor.as_deref() == Some(place.as_str()) || !matches(wanted, &stored, &triage) {
                    continue;
                }
                if found.len() == limit {
                    let cursor = found.last().map(|(last, _): &(StoredAlert, Triage)| listing_key(&last.alert));
                    return Ok((found, cursor));
                }
                found.push((stored, triage));
            }
            after = page.next;
            if after.is_none() {
                return Ok((found, None));
            }
        }
    }

    /// Several alerts of known accounts, in the order asked; those that do not exist are left out.
    pub async fn get_all(&self, ids: &[(String, String)]) -> Result<Vec<(StoredAlert, Triage)>, TableError> {
        let mut all = Vec::new();
        for chunk in ids.chunks(100) {
            let keys: Vec<_> = chunk.iter().map(|(account, id)| key(account, id, "ALERT")).collect();
            let items = self.table.get_many(&keys).await?;
            let by_key: HashMap<_, _> = items.into_iter().map(|i| (i.key.clone(), i)).collect();
            let ordered: Vec<_> = keys.iter().filter_map(|k| by_key.get(k).cloned()).collect();
            all.extend(self.complete(&ordered).await?);
        }
        Ok(all)
    }

    /// Adds triage and incident to `ALERT` items.
    async fn complete(&self, items: &[Item]) -> Result<Vec<(StoredAlert, Triage)>, TableError> {
        let mut beside: HashMap<Key, Item> = HashMap::new();
        let keys: Vec<_> =
            items.iter().flat_map(|i| [Key::new(&i.key.pk, "INCIDENT"), Key::new(&i.key.pk, "TRIAGE")]).collect();
        for chunk in keys.chunks(100) {
            beside.extend(self.table.get_many(chunk).await?.into_iter().map(|i| (i.key.clone(), i)));
        }
        items
            .iter()
            .map(|item| {
                let pointer = beside.get(&Key::new(&item.key.pk, "INCIDENT"));
                let triage = beside.get(&Key::new(&item.key.pk, "TRIAGE")).map(decode_triage).transpose()?;
                Ok((decode(item, pointer)?, triage.unwrap_or_default()))
            })
            .collect()
    }

    /// What an analyst made of an alert; the default when nobody has touched it.
    pub async fn triage(&self, account: &str, id: &str) -> Result<Triage, TableError> {
        let item = self.table.get(&key(account, id, "TRIAGE")).await?;
        Ok(item.as_ref().map(decode_triage).transpose()?.unwrap_or_default())
    }

    /// Changes what an analyst made of an alert.
    ///
    /// # Errors
    /// [`TableError::ConditionFailed`] when the item's version is not `expected_version` any more (0: untouched)
    /// or the alert does not exist.
    pub async fn set_triage(
        &self,
        account: &str,
        id: &str,
        update: TriageUpdate,
        expected_version: u64,
    ) -> Result<Triage, TableError> {
        let mut triage = self.triage(account, id).await?;
        if triage.version != expected_version || self.table.get(&key(account, id, "ALERT")).await?.is_none() {
            return Err(TableError::ConditionFailed(vec![0]));
        }
        let changes = apply(&mut triage, update);
        if changes == 0 {
            return Ok(triage);
        }
        let condition = if expected_version == 0 { Condition::Absent } else { Condition::Version(expected_version) };
        let put = Put::new(key(account, id, "TRIAGE"), &triage)?.when(condition);
        self.table.write(vec![Write::Put(put)]).await?;
        triage.version += 1;
        Ok(triage)
    }

    /// The events that a stored alert counts. An alert that counts no more than it shows needs no further read.
    pub async fn members(&self, stored: &StoredAlert) -> Result<Members, TableError> {
        let alert = &stored.alert;
        let mut keys: BTreeSet<u128> = BTreeSet::new();
        if alert.event_count <= SHOWN_EVENTS as u64 {
            keys.extend(alert.first_events.iter().map(sentinel_model::EventRef::member_key));
            return Ok(Members { read: keys.len(), keys, changed: BTreeSet::new() });
        }
        let wanted: Vec<_> = (0..16_u8).map(|b| key(&alert.account, &alert.alert_id, &bucket_sk(b))).collect();
        for item in self.table.get_many(&wanted).await? {
            let bucket: Bucket = item.decode()?;
            for digits in bucket.keys.as_bytes().chunks(32) {
                let parsed = std::str::from_utf8(digits).ok().and_then(|d| u128::from_str_radix(d, 16).ok());
                keys.insert(parsed.ok_or_else(|| TableError::Malformed {
                    key: format!("{}/{}", item.key.pk, item.key.sk),
                    reason: "member keys are 32 hexadecimal digits each".into(),
                })?);
            }
        }
        Ok(Members { read: keys.len(), keys, changed: BTreeSet::new() })
    }

    /// The writes that store a grown alert with its brief and the buckets of members that changed: for one
    /// transaction, at most 18. The first fails when `stored.version` is not the alert's version any more.
    pub fn writes(&self, stored: &StoredAlert, members: &Members) -> Result<Vec<Write>, TableError> {
        let alert = &stored.alert;
        let (account, id) = (alert.account.as_str(), alert.alert_id.as_str());
        let condition = if stored.version == 0 { Condition::Absent } else { Condition::Version(stored.version) };
        let body = AlertBody { alert: alert.clone(), basis: stored.basis.clone(), raised: stored.raised };
        let put = Put::new(key(account, id, "ALERT"), &body)?
            .listed(Index::One, IndexKey::new(LISTING, listing_key(alert)))
            .listed(Index::Two, IndexKey::new(format!("ALERT#{id}"), account))
            .when(condition);
        let mut writes = vec![Write::Put(put)];
        // Informational alerts are in no incident; alone, the alert's write costs half of what a transaction's does.
        if alert.level >= Level::Low || stored.incident_id.is_some() {
            writes.push(Write::Put(Put::new(key(account, id, "BRIEF"), &AlertBrief::of(alert))?));
        }
        if members.len() <= SHOWN_EVENTS {
            return Ok(writes);
        }
        let mut buckets: BTreeMap<u8, String> = BTreeMap::new();
        for member in &members.keys {
            // Writing to a String cannot fail.
            let _ = write!(buckets.entry(bucket_of(*member)).or_default(), "{member:032x}");
        }
        // When the first bucket is written, none has been: the members so far were those that the alert shows.
        let first_time = members.read <= SHOWN_EVENTS;
        if first_time && stored.basis.revision.is_some() {
            // A correlation's alert may have counted others before: what they left is overwritten.
            for bucket in 0..16 {
                buckets.entry(bucket).or_default();
            }
        }
        for (bucket, keys) in buckets {
            if first_time || members.changed.contains(&bucket) {
                writes.push(Write::Put(Put::new(key(account, id, &bucket_sk(bucket)), &Bucket { keys })?));
            }
        }
        Ok(writes)
    }

    /// The briefs of alerts and the incidents they belong to; those without a brief are left out.
    pub async fn briefs(
        &self,
        ids: &[(String, String)],
    ) -> Result<Vec<(AlertBrief, Option<IncidentPointer>)>, TableError> {
        let mut briefs = Vec::new();
        for chunk in ids.chunks(50) {
            let keys: Vec<_> = chunk
                .iter()
                .flat_map(|(account, id)| [key(account, id, "BRIEF"), key(account, id, "INCIDENT")])
                .collect();
            let items = self.table.get_many(&keys).await?;
            let by_key: HashMap<_, _> = items.iter().map(|i| (&i.key, i)).collect();
            for pair in keys.chunks(2) {
                let Some(brief) = by_key.get(&pair[0]) else { continue };
                let pointer = by_key.get(&pair[1]).map(|i| i.decode()).transpose()?;
                briefs.push((brief.decode()?, pointer));
            }
        }
        Ok(briefs)
    }

    /// The briefs of alerts; those without one are left out.
    pub async fn only_briefs(&self, ids: &[(String, String)]) -> Result<Vec<AlertBrief>, TableError> {
        let mut briefs = Vec::new();
        for chunk in ids.chunks(100) {
            let keys: Vec<_> = chunk.iter().map(|(account, id)| key(account, id, "BRIEF")).collect();
            for item in self.table.get_many(&keys).await? {
                briefs.push(item.decode()?);
            }
        }
        Ok(briefs)
    }

    /// The check that an alert's brief is the one that was written first.
    pub fn check_first_brief(&self, account: &str, id: &str) -> Write {
        Write::Check(key(account, id, "BRIEF"), Condition::Version(1))
    }

    /// The write that names the incident of an alert that has none yet.
    pub fn point(&self, account: &str, id: &str, incident: &IncidentPointer) -> Result<Write, TableError> {
        Ok(Write::Put(Put::new(key(account, id, "INCIDENT"), incident)?.when(Condition::Absent)))
    }
}

fn key(account: &str, id: &str, sk: &str) -> Key {
    Key::new(format!("{account}#ALERT#{id}"), sk)
}

fn bucket_sk(bucket: u8) -> String {
    format!("M#{bucket:x}")
}

fn account_of(pk: &str) -> &str {
    pk.split('#').next().unwrap_or_default()
}

/// The cursor with which [`Alerts::list`] goes on after this alert.
pub fn cursor_after(alert: &Alert) -> String {
    listing_key(alert)
}

fn listing_key(alert: &Alert) -> String {
    format!("{}#{}", sort_time(alert.time), alert.alert_id)
}

fn decode(item: &Item, pointer: Option<&Item>) -> Result<StoredAlert, TableError> {
    let body: AlertBody = item.decode()?;
    let pointer: Option<IncidentPointer> = pointer.map(Item::decode).transpose()?;
    Ok(StoredAlert {
        alert: body.alert,
        basis: body.basis,
        raised: body.raised,
        incident_id: pointer.map(|p| p.incident_id),
        version: item.version,
    })
}

fn decode_triage(item: &Item) -> Result<Triage, TableError> {
    let mut triage: Triage = item.decode()?;
    triage.version = item.version;
    Ok(triage)
}

fn matches(wanted: &ListAlerts, stored: &StoredAlert, triage: &Triage) -> bool {
    let alert = &stored.alert;
    wanted.min_level.is_none_or(|l| alert.level >= l)
        && wanted.state.is_none_or(|s| triage.state == s)
        && wanted.account.as_ref().is_none_or(|a| alert.account == *a)
        && wanted.principal.as_ref().is_none_or(|p| alert.principal.id == *p)
        && wanted.rule.as_ref().is_none_or(|r| alert.rule.id == *r)
        && wanted.from.is_none_or(|t| alert.time >= t)
        && wanted.to.is_none_or(|t| alert.time <= t)
}

/// Applies an update and writes its history; returns how many things changed.
fn apply(triage: &mut Triage, update: TriageUpdate) -> usize {
    const HISTORY: usize = 100;
    let mut said = Vec::new();
    if let Some(state) = update.state.filter(|s| *s != triage.state) {
        said.push(format!("State changed from {} to {}.", state_word(triage.state), state_word(state)));
        triage.state = state;
    }
    if let Some(verdict) = update.verdict.filter(|v| *v != triage.verdict) {
        said.push(match verdict {
            Some(Verdict::TruePositive) => "Judged a true positive.".to_owned(),
            Some(Verdict::FalsePositive) => "Judged a false positive.".to_owned(),
            None => "Verdict taken back.".to_owned(),
        });
        triage.verdict = verdict;
    }
    if let Some(note) = update.note.filter(|n| *n != triage.note) {
        said.push(if note.is_some() { "Note changed.".to_owned() } else { "Note removed.".to_owned() });
        triage.note = note;
    }
    let changes = said.len();
    for change in said {
        triage.history.push(TriageChange { at: update.at, by: update.by.clone(), change });
    }
    let excess = triage.history.len().saturating_sub(HISTORY);
    triage.history.drain(..excess);
    changes
}

fn state_word(state: AlertState) -> &'static str {
    match state {
        AlertState::New => "new",
        AlertState::Acknowledged => "acknowledged",
        AlertState::Closed => "closed",
    }
}
