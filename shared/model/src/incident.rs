//! Incidents: alerts that belong to one story.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Alert, Attack, Identity, Level, Timestamp, hash};

/// Alerts this far apart, in seconds, can still be one incident (chained).
pub const CHAIN_SECONDS: i64 = 24 * 3600;

/// An incident as it stands; also its NDJSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Identity; when two incidents merge, the older one's stays.
    pub incident_id: String,
    /// Time of the first event.
    pub time_first: Timestamp,
    /// Time of the last event.
    pub time_last: Timestamp,
    /// Highest level among its alerts.
    pub level: Level,
    /// Highest score among its alerts.
    pub score: f64,
    /// One line.
    pub title: String,
    /// Principals, in order of first appearance.
    pub principals: Vec<String>,
    /// Accounts.
    pub accounts: BTreeSet<String>,
    /// Source addresses.
    pub source_ips: BTreeSet<String>,
    /// Its alerts, in time order.
    pub alert_ids: Vec<String>,
    /// How many alerts.
    pub alert_count: u64,
    /// Events over its alerts; one event that raised two alerts counts for both.
    pub event_count: u64,
    /// ATT&CK labels over its alerts.
    pub attack: Attack,
    /// Readable sentences.
    pub summary: Vec<String>,
}

/// The identity of an incident, derived from that of its earliest alert.
pub fn incident_id(earliest_alert: &str) -> String {
    hash::derived_id("in-", &[earliest_alert])
}

/// What grouping needs to know of one alert: small, so that a neighbourhood of alerts is cheap to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertBrief {
    /// The alert.
    pub alert_id: String,
    /// Its account.
    pub account: String,
    /// Its principal as text.
    pub principal: String,
    /// Whether the principal stands for someone, so that sharing it means something.
    pub identifies_someone: bool,
    /// Time of its first event.
    pub time: Timestamp,
    /// Time of its last event.
    pub time_last: Timestamp,
    /// Its level.
    pub level: Level,
    /// Its score.
    pub score: f64,
    /// Its title.
    pub title: String,
    /// Its ATT&CK labels.
    pub attack: Attack,
    /// Access keys seen in it.
    pub keys: BTreeSet<String>,
    /// Source addresses (not host names) seen in it.
    pub source_ips: BTreeSet<String>,
    /// Events counted.
    pub event_count: u64,
    /// Whether that is a lower bound.
    pub at_least: bool,
    /// Whether later events showed it to be none: it stays in its incident and counts for nothing there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

impl AlertBrief {
    /// The brief of an alert.
    pub fn of(alert: &Alert) -> Self {
        let mut keys = alert.indicators.keys.clone();
        keys.extend(alert.key_uses.iter().map(|k| k.access_key_id.clone()));
        let is_ip = |a: &&String| a.parse::<std::net::IpAddr>().is_ok();
        Self {
            alert_id: alert.alert_id.clone(),
            account: alert.account.clone(),
            principal: alert.principal.id.clone(),
            identifies_someone: alert.principal.identifies_someone(),
            time: alert.time,
            time_last: alert.time_last,
            level: alert.level,
            score: alert.score,
            title: alert.title.clone(),
            attack: alert.attack.clone(),
            keys,
            source_ips: alert.indicators.addresses.iter().filter(is_ip).cloned().collect(),
            event_count: alert.event_count,
            at_least: alert.at_least,
            superseded: alert.superseded_by.is_some(),
        }
    }

    /// The identities by which lineage can reach this alert or start from it.
    pub fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        let principal = self.identifies_someone.then(|| Identity::Principal(self.principal.clone()));
        principal.into_iter().chain(self.keys.iter().cloned().map(Identity::AccessKey))
    }
}
