//! Incidents as stored, and the links by which alerts of one story find each other.
//!
//! An incident's item holds its shown form and the alerts in it; an incident that went into an older one
//! leaves a tombstone that names it. A link says "this identity was seen in that alert on that day": grouping
//! reads the links of an alert's identities instead of looking through all alerts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sentinel_model::{Identity, Incident, Level, Timestamp, Window, time};
use serde::{Deserialize, Serialize};

use crate::{
    Condition, Index, IndexKey, Item, Key, Put, Query, SkRange, Table, TableError, Write, alerts::IncidentPointer,
    sort_time,
};

/// Most alerts of one stored incident, so that its item stays within the store's limit. A full incident takes
/// no more: the alerts after it begin the next one.
pub const INCIDENT_CAP: usize = 1500;

/// Partition of the listing of all incidents by the time of their last event.
const LISTING: &str = "INCIDENTS";
/// Days for which a link is kept after it was last written: well beyond the 24 hours that it must bridge, so
/// that late deliveries and replays still find it.
const LINK_DAYS: i64 = 30;
/// Most days of a long window that are linked.
const WINDOW_DAYS: i64 = 8;
/// Merges followed before giving up: more means a broken store.
const MERGES_FOLLOWED: usize = 1000;

/// An incident with what the store keeps beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredIncident {
    /// The incident.
    pub incident: Incident,
    /// Account in its key: that of its earliest alert.
    pub account: String,
    /// Its alerts: ids by account.
    pub members: BTreeMap<String, BTreeSet<String>>,
    /// Version of its item.
    pub version: u64,
}

impl StoredIncident {
    /// Its alerts as pairs of account and id.
    pub fn alerts(&self) -> Vec<(String, String)> {
        self.members.iter().flat_map(|(a, ids)| ids.iter().map(move |id| (a.clone(), id.clone()))).collect()
    }

    /// Its own name.
    pub fn pointer(&self) -> IncidentPointer {
        IncidentPointer { account: self.account.clone(), incident_id: self.incident.incident_id.clone() }
    }
}

/// The form of the `INCIDENT` item.
#[derive(Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
enum Body {
    Live { incident: Box<Incident>, members: BTreeMap<String, BTreeSet<String>> },
    Merged { into: IncidentPointer },
}

/// Which incidents to list, newest last event first.
#[derive(Debug, Clone, Default)]
pub struct ListIncidents {
    /// This level or above.
    pub min_level: Option<Level>,
    /// Touching this account.
    pub account: Option<String>,
    /// Most incidents returned; 0 counts as 50, more than 1,000 as 1,000.
    pub limit: usize,
    /// Cursor of an earlier page.
    pub cursor: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Link {
    account: String,
    alert_id: String,
}

/// The store of incidents.
#[derive(Clone)]
pub struct Incidents {
    table: Arc<dyn Table>,
}

impl Incidents {
    /// The store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The incident of this name, or the one it went into.
    pub async fn get(&self, account: &str, id: &str) -> Result<Option<StoredIncident>, TableError> {
        let named = IncidentPointer { account: account.into(), incident_id: id.into() };
        Ok(self.follow(&named).await?.0)
    }

    /// Like [`get`](Self::get), for those who merge: where several merges lie between, the tombstones are made
    /// to name the last incident, so that the way never grows long.
    pub async fn resolve(&self, named: &IncidentPointer) -> Result<Option<StoredIncident>, TableError> {
        let (found, mut passed) = self.follow(named).await?;
        let Some(stored) = &found else { return Ok(None) };
        passed.pop();
        for (tombstone, version) in passed {
            match self.table.write(vec![bury(&tombstone, version, &stored.pointer())?]).await {
                // Somebody else changed it meanwhile: it is only a shortcut, and theirs is as good.
                Err(e) if !e.is_condition() => return Err(e),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Follows merges; returns what is at the end and the tombstones passed, with their versions.
    async fn follow(
        &self,
        named: &IncidentPointer,
    ) -> Result<(Option<StoredIncident>, Vec<(IncidentPointer, u64)>), TableError> {
        let mut at = named.clone();
        let mut passed = Vec::new();
        for _ in 0..MERGES_FOLLOWED {
            let Some(item) = self.table.get(&key(&at)).await? else { return Ok((None, passed)) };
            match item.decode()? {
                Body::Live { incident, members } => {
                    let (account, version) = (at.account, item.version);
                    let stored = StoredIncident { incident: *incident, account, members, version };
                    return Ok((Some(stored), passed));
                }
                Body::Merged { into } => passed.push((std::mem::replace(&mut at, into), item.version)),
            }
        }
        Err(TableError::Malformed {
            key: format!("{}#INCIDENT#{}", named.account, named.incident_id),
            reason: "its merges lead nowhere".into(),
        })
    }

    /// The item of this very name: its version, and whether it is live (not a tombstone); `None` without one.
    pub async fn item_of(&self, pointer: &IncidentPointer) -> Result<Option<(u64, bool)>, TableError> {
        let Some(item) = self.table.get(&key(pointer)).await? else { return Ok(None) };
        let live = matches!(item.decode()?, Body::Live { .. });
        Ok(Some((item.version, live)))
    }

    /// The incident with this id, in whatever account, or the one it went into. Reads a listing index, which may
    /// lag behind by a moment.
    pub async fn find(&self, id: &str) -> Result<Option<StoredIncident>, TableError> {
        let page = self.table.query(Query::listing(Index::Two, format!("INCIDENT#{id}"), 1)).await?;
        let Some(item) = page.items.first() else { return Ok(None) };
        let account = item.key.pk.split('#').next().unwrap_or_default().to_owned();
        self.get(&account, id).await
    }

    /// A page of incidents, newest last event first, and the cursor of the next one.
    pub async fn list(&self, wanted: &ListIncidents) -> Result<(Vec<StoredIncident>, Option<String>), TableError> {
        let limit = if wanted.limit == 0 { 50 } else { wanted.limit.min(1000) };
        let to = wanted.cursor.clone().unwrap_or_else(|| "~".into());
        if wanted.cursor.is_some() && !to.contains('#') {
            return Err(TableError::BadRequest("bad cursor".into()));
        }
        let mut found: Vec<StoredIncident> = Vec::new();
        let mut after = None;
        loop {
            let query = Query::listing(Index::One, LISTING, 100)
                .range(SkRange::Between(String::new(), to.clone()))
                .after(after);
            let page = self.table.query(query).await?;
            for item in &page.items {
                let Some(stored) = live(item)? else { continue };
                let passed = wanted.cursor.as_deref() == Some(listing_key(&stored.incident).as_str());
                let wrong_level = wanted.min_level.is_some_and(|l| stored.incident.level < l);
                let wrong_account = wanted.account.as_ref().is_some_and(|a| !stored.incident.accounts.contains(a));
                if passed || wrong_level || wrong_account {
                    continue;
                }
                if found.len() == limit {
                    let cursor = found.last().map(|s| listing_key(&s.incident));
                    return Ok((found, cursor));
                }
                found.push(stored);
            }
            after = page.next;
            if after.is_none() {
                return Ok((found, None));
            }
        }
    }

    /// The write that stores an incident; `condition` is on the item of its name.
    pub fn put(&self, stored: &StoredIncident, condition: Condition) -> Result<Write, TableError> {
        let body = Body::Live { incident: Box::new(stored.incident.clone()), members: stored.members.clone() };
        let id = &stored.incident.incident_id;
        let put = Put::new(key(&stored.pointer()), &body)?
            .listed(Index::One, IndexKey::new(LISTING, listing_key(&stored.incident)))
            .listed(Index::Two, IndexKey::new(format!("INCIDENT#{id}"), stored.account.as_str()))
            .when(condition);
        Ok(Write::Put(put))
    }

    /// The write that turns an incident into a tombstone that names the one it went into.
    pub fn bury(&self, merged: &StoredIncident, into: &IncidentPointer) -> Result<Write, TableError> {
        bury(&merged.pointer(), merged.version, into)
    }

    /// The writes that link an alert to identities seen in it, on every day that its window touches. Writing a link
    /// again changes nothing but its expiry.
    pub fn links(
        &self,
        identities: &[Identity],
        window: Window,
        account: &str,
        alert_id: &str,
        now: Timestamp,
    ) -> Result<Vec<Write>, TableError> {
        let expires = time::plus_seconds(now, LINK_DAYS * 86_400);
        let last = time::plus_seconds(window.start, i64::from(window.minutes.max(1)) * 60 - 1);
        let body = Link { account: account.into(), alert_id: alert_id.into() };
        let mut writes = Vec::new();
        for identity in identities {
            for day in days(window.start, last) {
                let key = Key::new(link_pk(identity), format!("{day}#{alert_id}"));
                writes.push(Write::Put(Put::new(key, &body)?.expiring(Some(expires))));
            }
        }
        Ok(writes)
    }

    /// Alerts (account and id) in which an identity was seen on the days from `from` to `to`, at most `limit`.
    pub async fn linked(
        &self,
        identity: &Identity,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<(String, String)>, TableError> {
        let range = SkRange::Between(time::utc_day(from), format!("{}#~", time::utc_day(to)));
        let mut found = BTreeSet::new();
        let mut after = None;
        loop {
            let query = Query::partition(link_pk(identity), 200).range(range.clone()).after(after);
            let page = self.table.query(query).await?;
            for item in &page.items {
                let link: Link = item.decode()?;
                found.insert((link.account, link.alert_id));
            }
            after = page.next;
            if after.is_none() || found.len() >= limit {
                return Ok(found.into_iter().take(limit).collect());
            }
        }
    }
}

fn bury(merged: &IncidentPointer, version: u64, into: &IncidentPointer) -> Result<Write, TableError> {
    let put = Put::new(key(merged), &Body::Merged { into: into.clone() })?
        .listed(Index::Two, IndexKey::new(format!("INCIDENT#{}", merged.incident_id), merged.account.as_str()))
        .when(Condition::Version(version));
    Ok(Write::Put(put))
}

fn key(pointer: &IncidentPointer) -> Key {
    Key::new(format!("{}#INCIDENT#{}", pointer.account, pointer.incident_id), "INCIDENT")
}

fn link_pk(identity: &Identity) -> String {
    format!("LINK#{}", identity.as_key())
}

fn listing_key(incident: &Incident) -> String {
    format!("{}#{}", sort_time(incident.time_last), incident.incident_id)
}

fn live(item: &Item) -> Result<Option<StoredIncident>, TableError> {
    let Body::Live { incident, members } = item.decode()? else { return Ok(None) };
    let account = item.key.pk.split('#').next().unwrap_or_default().to_owned();
    Ok(Some(StoredIncident { incident: *incident, account, members, version: item.version }))
}

/// The UTC days from `first` to `last`, at most [`WINDOW_DAYS`].
fn days(first: Timestamp, last: Timestamp) -> Vec<String> {
    let mut all = Vec::new();
    for n in 0..WINDOW_DAYS {
        let t = time::plus_seconds(first, n * 86_400);
        if time::utc_day(t) > time::utc_day(last) {
            break;
        }
        all.push(time::utc_day(t));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_linked_on_every_day_it_touches() {
        let t = |s: &str| s.parse::<Timestamp>().unwrap();
        assert_eq!(days(t("2024-02-28T23:00:00Z"), t("2024-02-28T23:59:59Z")), ["2024-02-28"]);
        assert_eq!(
            days(t("2024-02-28T23:00:00Z"), t("2024-03-01T00:00:00Z")),
            ["2024-02-28", "2024-02-29", "2024-03-01"]
        );
    }
}
