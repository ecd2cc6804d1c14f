//! What a comparison says: the object that `sentinel backtest --format json` prints and the API gives.

use std::collections::BTreeMap;

use sentinel_detect::{LoadReport, Refused};
use sentinel_model::{Level, Timestamp};
use serde::Serialize;

/// Refusals and warnings of one set that are listed.
const REMARKS: usize = 100;

/// What changes when the candidate takes the baseline's place.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Events replayed; of files, copies included.
    pub events: u64,
    /// UTC days of which there are events: what "a day" divides by.
    pub days: u64,
    /// Time of the first event.
    pub first_event: Option<Timestamp>,
    /// Time of the last event.
    pub last_event: Option<Timestamp>,
    /// The rules as they are.
    pub baseline: Side,
    /// The rules that were tried.
    pub candidate: Side,
    /// Alerts that only the candidate raises.
    pub gained: u64,
    /// Alerts that only the baseline raises.
    pub lost: u64,
    /// Alerts that both raise, at different levels.
    pub level_changed: u64,
    /// Of the alerts gained, how many there are of each level.
    pub gained_by_level: BTreeMap<&'static str, u64>,
    /// Of the alerts lost, how many there were of each level.
    pub lost_by_level: BTreeMap<&'static str, u64>,
    /// The rules that are new, gone or changed, or whose alerts differ, those with the most differences first.
    pub rules: Vec<RuleDifference>,
    /// Rules that are none of that.
    pub rules_unchanged: u64,
    /// Rules that are not listed for want of room: those with the fewest differences.
    pub rules_omitted: u64,
    /// The principals whose alerts differ most, over all rules.
    pub principals: Vec<Affected>,
    /// What of the history could not be read.
    pub unreadable: Vec<String>,
}

/// What one set gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Side {
    /// Rules loaded, correlations left out.
    pub rules: usize,
    /// Correlations loaded.
    pub correlations: usize,
    /// Rules that were refused, the first hundred.
    pub refused: Vec<Refused>,
    /// How many were refused.
    pub refused_count: usize,
    /// What an author should know, the first hundred.
    pub warnings: Vec<String>,
    /// Alerts.
    pub alerts: u64,
    /// Alerts a day.
    pub alerts_per_day: f64,
    /// Alerts by level.
    pub by_level: BTreeMap<&'static str, u64>,
}

impl Side {
    pub(crate) fn of(report: &LoadReport, counts: &[u64], days: u64) -> Self {
        let alerts = counts.iter().sum();
        Self {
            rules: report.rules,
            correlations: report.correlations,
            refused: report.refused.iter().take(REMARKS).cloned().collect(),
            refused_count: report.refused.len(),
            warnings: report.warnings.iter().take(REMARKS).cloned().collect(),
            alerts,
            alerts_per_day: a_day(alerts, days),
            by_level: by_level(counts),
        }
    }
}

/// Whether a rule is in both sets, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only in the candidate.
    New,
    /// Only in the baseline.
    Gone,
    /// In both, written differently.
    Changed,
    /// In both, written the same. Its alerts can still differ: filters, placeholders, exceptions and the rules that a
    /// correlation refers to decide too.
    Same,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Single events.
    Rule,
    /// What several events say together.
    Correlation,
}

/// What changes about one rule's alerts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleDifference {
    /// Id, as alerts have it.
    pub id: String,
    /// Title.
    pub title: String,
    /// What it looks at.
    pub kind: Kind,
    /// Its level; where it is in both sets, the candidate's.
    pub level: Level,
    /// Its level in the baseline, where that is another one.
    pub baseline_level: Option<Level>,
    /// Where it stands; where it is in both sets, in the candidate.
    pub file: String,
    /// Whether it is in both sets.
    pub change: Change,
    /// Alerts in the baseline.
    pub baseline_alerts: u64,
    /// Alerts in the candidate.
    pub alerts: u64,
    /// Alerts a day in the baseline.
    pub baseline_alerts_per_day: f64,
    /// Alerts a day in the candidate.
    pub alerts_per_day: f64,
    /// Alerts that only the candidate raises.
    pub gained: u64,
    /// Alerts that only the baseline raises.
    pub lost: u64,
    /// Alerts that both raise, at different levels.
    pub level_changed: u64,
    /// The first alerts gained, of different principals.
    pub gained_samples: Vec<Sample>,
    /// The first alerts lost, of different principals.
    pub lost_samples: Vec<Sample>,
    /// The principals whose alerts differ most.
    pub principals: Vec<Affected>,
}

impl RuleDifference {
    /// Alerts gained and lost.
    pub fn differences(&self) -> u64 {
        self.gained + self.lost
    }
}

/// One alert as an example.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Sample {
    /// Time of its first event.
    pub time: Timestamp,
    /// Its id.
    pub alert_id: String,
    /// Its level.
    pub level: Level,
    /// Who.
    pub principal: String,
    /// In which account.
    pub account: String,
    /// Source of its first event.
    pub source_ip: Option<String>,
    /// Events counted.
    pub event_count: u64,
    /// The first events' ids.
    pub event_ids: Vec<String>,
}

/// A principal whose alerts differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// Who.
    pub principal: String,
    /// In which account.
    pub account: String,
    /// Alerts gained.
    pub gained: u64,
    /// Alerts lost.
    pub lost: u64,
}

impl Report {
    /// Leaves out the rules with the fewest differences until the report has at most so many bytes as JSON.
    pub fn fit(&mut self, bytes: usize) -> Result<(), serde_json::Error> {
        let sizes = self.rules.iter().map(|rule| Ok(serde_json::to_vec(rule)?.len() + 1));
        let sizes: Vec<usize> = sizes.collect::<Result<_, serde_json::Error>>()?;
        let whole = serde_json::to_vec(self)?.len();
        let room = bytes.saturating_sub(whole - sizes.iter().sum::<usize>());
        let mut used = 0;
        let fits = sizes.iter().take_while(|size| {
            used += **size;
            used <= room
        });
        let fits = fits.count();
        self.rules_omitted += (self.rules.len() - fits) as u64;
        self.rules.truncate(fits);
        Ok(())
    }
}

/// How many a day, to three places; without days as if it were one.
pub(crate) fn a_day(count: u64, days: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / days.max(1) as f64;
    (rate * 1000.0).round() / 1000.0
}

/// Counts under the names of their levels.
pub(crate) fn by_level(counts: &[u64]) -> BTreeMap<&'static str, u64> {
    Level::ALL.iter().zip(counts).map(|(level, count)| (level.as_str(), *count)).collect()
}
