//! Alerts: the matches of one rule for one principal in one account within one window.
//!
//! [`Detection`] is what one batch adds to an alert; [`Alert`] is the alert as it stands. Merging is
//! commutative, associative and idempotent up to the member cap, so late, repeated and reordered events
//! end in the same alert.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use serde::{Deserialize, Serialize};

use crate::{Attack, Level, Principal, Provenance, Timestamp, hash, time};

/// Members that an alert remembers; beyond it the alert says "at least".
pub const MEMBER_CAP: u64 = 10_000;
/// Event ids shown on an alert.
pub const SHOWN_EVENTS: usize = 100;
/// Addresses, keys or agents kept as indicators, each.
pub const INDICATOR_CAP: usize = 100;
/// Access keys of which an alert remembers uses: long-term keys (`AKIA`) sort before temporary ones (`ASIA`),
/// and the smallest are kept.
pub const KEY_CAP: usize = 20;
/// Latest uses remembered of each key.
pub const USES_PER_KEY: usize = 10;
/// Copies remembered of each use, those that the account itself recorded first.
pub const COPIES_PER_USE: usize = 4;
/// Window of a rule that names none, in minutes.
pub const DEFAULT_WINDOW_MINUTES: u32 = 60;

/// The rule that an alert comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// Sigma id, or `model:NAME`, or `sentinel:NAME` for what the product itself watches.
    pub id: String,
    /// Title.
    pub title: String,
    /// The rule's own level; a rule without one counts as medium.
    pub level: Level,
    /// Author, as the Detection Rule License asks.
    pub author: Option<String>,
}

/// The window an alert belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First instant, on the UTC clock.
    pub start: Timestamp,
    /// Width in minutes.
    pub minutes: u32,
}

impl Window {
    /// The window of `minutes` around `t`.
    pub fn around(t: Timestamp, minutes: u32) -> Self {
        Self { start: time::window_start(t, minutes), minutes }
    }
}

/// The identity of a correlation's alert: derived from rule, account, group values and window. A group value that
/// the events lack counts as empty.
pub fn correlation_alert_id(rule_id: &str, account: &str, group: &[Option<String>], window: Window) -> String {
    let (start, minutes) = (window.start.to_string(), window.minutes.to_string());
    let group = group.iter().map(|value| value.as_deref().unwrap_or_default());
    let parts: Vec<&str> =
        [rule_id, account].into_iter().chain(group).chain([start.as_str(), minutes.as_str()]).collect();
    hash::derived_id("al-", &parts)
}

/// The identity of an alert: derived from rule, principal, account and window.
pub fn alert_id(rule_id: &str, principal: &str, account: &str, window: Window) -> String {
    // One piece of memory for both numbers: a scan makes an id for every alert.
    let mut numbers = String::with_capacity(48);
    // Writing to a text cannot fail.
    let _ = write!(numbers, "{}", window.start);
    let at = numbers.len();
    let _ = write!(numbers, "{}", window.minutes);
    let (start, minutes) = numbers.split_at(at);
    hash::derived_id("al-", &[rule_id, principal, account, start, minutes])
}

/// An event as a member of an alert: ordered by time, then id, so "the first" is the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventRef {
    /// Event time.
    pub time: Timestamp,
    /// Event id.
    pub id: String,
    /// Content hash: two contents of one id are two members.
    pub content: u64,
}

impl EventRef {
    /// Id of the event's document in the search index: with its content, so that a forged record under the
    /// same id cannot take the place of the one that raised an alert.
    pub fn document_id(&self) -> String {
        format!("{}#{:016x}", self.id, self.content)
    }

    /// A short key for membership sets.
    pub fn member_key(&self) -> u128 {
        hash::hash_128(format!("{}\u{0}{}", self.id, self.content).as_bytes())
    }
}

/// What an alert needs to know of one matching event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The event.
    #[serde(flatten)]
    pub event: EventRef,
    /// `awsRegion`.
    pub region: Option<String>,
    /// Source address or host as text.
    pub source_ip: Option<String>,
    /// User agent.
    pub user_agent: Option<String>,
    /// Access key that signed the call.
    pub access_key_id: Option<String>,
    /// Service host name of the action.
    pub service: String,
    /// Operation.
    pub action: String,
    /// Whether it only read, where the record says.
    pub read_only: Option<bool>,
    /// Whether it succeeded.
    pub success: bool,
    /// ARN of the role behind the principal, to tell our own actions' events.
    pub issuer: Option<String>,
    /// Calibrated score of a model (0 to 1), for a model's alert.
    pub model_score: Option<f64>,
    /// Copies seen.
    pub provenance: Vec<Provenance>,
}

/// What tells a correlation's detection from others: it says the whole of what its alert rests on, and a newer
/// version replaces an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correlated {
    /// Version: of two, the greater rests on more.
    pub revision: u64,
    /// Whether events had to be left out, so that there are at least so many.
    pub at_least: bool,
    /// What later events showed to be no alert: the id of the alert that has its events now, empty when none has.
    /// Then there are no members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
}

/// What one batch adds to one alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The alert this belongs to.
    pub alert_id: String,
    /// The rule.
    pub rule: RuleRef,
    /// Its ATT&CK labels.
    pub attack: Attack,
    /// The window.
    pub window: Window,
    /// Who.
    pub principal: Principal,
    /// In which account.
    pub account: String,
    /// The matching events of this batch, each once.
    pub members: Vec<Member>,
    /// Readable sentences on why this was raised.
    pub reasons: Vec<String>,
    /// For the alert of a correlation: the members are all there are, not an addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlated: Option<Correlated>,
}

/// What one event says to every rule that it matched. With a [`MatchedRule`] it is what a [`Detection`] of that
/// one event is, for those who collect the matches of many events in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Matched {
    /// Who.
    pub principal: Principal,
    /// In which account.
    pub account: String,
    /// The event.
    pub member: Member,
    /// A readable sentence on what was done.
    pub call: String,
}

/// A readable sentence that is made when somebody asks for it: of most rules nobody does.
pub trait Sentence: fmt::Debug + Sync {
    /// The sentence.
    fn text(&self) -> &str;
}

impl Sentence for String {
    fn text(&self) -> &str {
        self
    }
}

/// A rule that an event matched.
#[derive(Debug, Clone, Copy)]
pub struct MatchedRule<'a> {
    /// The rule.
    pub rule: &'a RuleRef,
    /// Its ATT&CK labels.
    pub attack: &'a Attack,
    /// Width of its alerts' windows in minutes.
    pub window_minutes: u32,
    /// Why it counts.
    pub why: &'a dyn Sentence,
}

/// Addresses, keys and agents seen in an alert's events, sorted, each list capped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indicators {
    /// Source addresses.
    pub addresses: BTreeSet<String>,
    /// Access key ids.
    pub keys: BTreeSet<String>,
    /// User agents.
    pub agents: BTreeSet<String>,
}

/// How one access key was used in an alert, and whether the account itself attests it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The key.
    pub access_key_id: String,
    /// The alert's events that were signed with it, latest first, at most ten, each with the copies seen.
    pub uses: Vec<AttestedUse>,
}

/// One use of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestedUse {
    /// The event.
    pub event_id: String,
    /// Its time.
    pub time: Timestamp,
    /// The copies seen: their channels say whether the account itself recorded it, and how old it was when it came.
    pub provenance: Vec<Provenance>,
}

/// What kind of action an event was, for the event-type multiplier of the score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionClass {
    /// A read that was refused or failed.
    FailedRead,
    /// A change that was refused or failed.
    FailedChange,
    /// A read.
    Read,
    /// A sign-in or a session taken on.
    SignIn,
    /// A change of a resource.
    ResourceChange,
    /// A change of credentials or privileges.
    CredentialChange,
    /// A change that hides what is done: logging, monitoring, detection.
    DefenceEvasion,
    /// Data destroyed, locked away or given out of the account.
    DataLoss,
}

/// What threat intelligence says of an indicator, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reputation {
    /// Seen in doubtful company.
    Suspicious,
    /// Belongs to attackers.
    KnownBad,
}

/// One thing that threat intelligence says about an alert's indicators.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IntelFinding {
    /// What it says.
    pub reputation: Reputation,
    /// The indicator's kind in words: `address`, `access key`, `user agent`, `principal`.
    pub kind: String,
    /// The indicator as it was seen.
    pub indicator: String,
    /// Who says so.
    pub source: String,
}

/// What an alert's score and reasons rest on, kept beside it so that it can grow in any order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreBasis {
    /// Highest calibrated score of a model among the members.
    pub model_score: Option<f64>,
    /// The gravest kind of action among the members, with the operation (the first by name of that kind).
    pub gravest: Option<(ActionClass, String)>,
    /// What threat intelligence says, the worst first.
    pub findings: Vec<IntelFinding>,
    /// Whether the last lookup failed, so that findings may be missing.
    pub lookup_failed: bool,
    /// Sentences that detections gave.
    pub reasons: BTreeSet<String>,
    /// Version of what a correlation's alert rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Where an analyst stands with an alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Nobody has looked at it.
    #[default]
    New,
    /// Somebody looks at it.
    Acknowledged,
    /// It is done.
    Closed,
}

/// What an analyst decided an alert was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was an attack.
    TruePositive,
    /// It was not.
    FalsePositive,
}

/// An alert as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Identity, see [`alert_id`].
    pub alert_id: String,
    /// Time of its first event.
    pub time: Timestamp,
    /// Time of its last event.
    pub time_last: Timestamp,
    /// The rule.
    pub rule: RuleRef,
    /// Title shown.
    pub title: String,
    /// First tactic, or `anomaly`.
    pub category: String,
    /// Final level.
    pub level: Level,
    /// Final score, 0 to 1.
    pub score: f64,
    /// Who.
    pub principal: Principal,
    /// In which account.
    pub account: String,
    /// Region of its first event.
    pub region: Option<String>,
    /// Source of its first event.
    pub source_ip: Option<String>,
    /// Events counted; a lower bound when `at_least`.
    pub event_count: u64,
    /// Whether the member cap was reached.
    pub at_least: bool,
    /// The first events, at most [`SHOWN_EVENTS`].
    pub first_events: BTreeSet<EventRef>,
    /// Indicators.
    pub indicators: Indicators,
    /// ATT&CK labels.
    pub attack: Attack,
    /// Readable sentences.
    pub reasons: Vec<String>,
    /// The window.
    pub window: Window,
    /// How access keys were used in it.
    pub key_uses: Vec<KeyUse>,
    /// Copies of its events seen, one a channel, at most [`INDICATOR_CAP`].
    pub provenance: Vec<Provenance>,
    /// Correlation id of the batch that raised it, so logs can be followed from event to action.
    pub correlation_id: String,
    /// What later events showed to be no alert: the id of the alert that has its events now, empty when none has.
    /// Such an alert is kept as it was and nothing is done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
}

impl Alert {
    /// The alert as NDJSON and the API show it: every key always there, null when unknown.
    pub fn to_view(&self) -> AlertView<'_> {
        AlertView {
            alert_id: &self.alert_id,
            time: self.time,
            rule: &self.rule,
            title: &self.title,
            category: &self.category,
            level: self.level,
            score: self.score,
            principal: &self.principal.id,
            account: &self.account,
            region: self.region.as_deref(),
            source_ip: self.source_ip.as_deref(),
            event_count: self.event_count,
            at_least: self.at_least,
            event_ids: self.first_events.iter().map(|e| e.id.as_str()).collect(),
            indicators: &self.indicators,
            attack: &self.attack,
            reasons: &self.reasons,
            superseded_by: self.superseded_by.as_deref(),
        }
    }
}

/// The shown form of an alert.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are Alert's, under the names users see")]
pub struct AlertView<'a> {
    pub alert_id: &'a str,
    pub time: Timestamp,
    pub rule: &'a RuleRef,
    pub title: &'a str,
    pub category: &'a str,
    pub level: Level,
    pub score: f64,
    pub principal: &'a str,
    pub account: &'a str,
    pub region: Option<&'a str>,
    pub source_ip: Option<&'a str>,
    pub event_count: u64,
    pub at_least: bool,
    pub event_ids: Vec<&'a str>,
    pub indicators: &'a Indicators,
    pub attack: &'a Attack,
    pub reasons: &'a [String],
    pub superseded_by: Option<&'a str>,
}
