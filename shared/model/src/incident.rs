//! Incidents: alerts that belong to one story.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Attack, Level, Timestamp};

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
