//! Telling an incident: what a person reads of a set of alerts that belong together.
//!
//! In: the alerts' briefs and the steps of lineage. Out: the [`Incident`] with a title and a summary of
//! sentences: who, from where, what happened in the order of the ATT&CK tactics, which identities were made or
//! assumed, how much. The same for the same set of alerts, whatever their order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sentinel_model::{
    Attack, Identity, Incident, Level, LineageEdge, Timestamp,
    incident::{self, AlertBrief, CHAIN_SECONDS},
    lineage::LineageKind,
    time,
};

use crate::attack;

/// Principals whose steps are told.
pub const TOLD_PRINCIPALS: usize = 20;
/// Principals listed, in order of first appearance, and addresses listed, the first in their order: so that an
/// incident of a thousand alerts is still of readable size.
pub const LISTED: usize = 1000;
/// Steps told.
const TOLD_STEPS: usize = 10;
/// Titles told of each tactic.
const TOLD_TITLES: usize = 5;
/// Addresses told.
const TOLD_ADDRESSES: usize = 5;

/// Steps by the principal that took them.
#[derive(Debug, Default)]
pub struct Lineage<'a>(HashMap<&'a str, Vec<&'a LineageEdge>>);

impl<'a> Lineage<'a> {
    /// Steps to tell of; they must be condensed.
    pub fn new(edges: &'a [LineageEdge]) -> Self {
        let mut by: HashMap<&str, Vec<&LineageEdge>> = HashMap::new();
        for edge in edges {
            if let Identity::Principal(maker) = &edge.maker {
                by.entry(maker).or_default().push(edge);
            }
        }
        Self(by)
    }
}

/// The times within which steps belong to an incident: from 24 hours before its first event to its last.
pub fn told_times(first: Timestamp, last: Timestamp) -> (Timestamp, Timestamp) {
    (time::plus_seconds(first, -CHAIN_SECONDS), last)
}

/// The principals of alerts in order of first appearance. Alerts must be sorted by time and id.
pub fn principals(alerts: &[&AlertBrief]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    alerts.iter().filter(|a| seen.insert(a.principal.as_str())).map(|a| a.principal.clone()).collect()
}

fn addresses(alerts: &[&AlertBrief]) -> BTreeSet<String> {
    let all: BTreeSet<&String> = alerts.iter().flat_map(|a| &a.source_ips).collect();
    all.into_iter().take(LISTED).cloned().collect()
}

/// The incident that these alerts are. They may come in any order, but not none: without alerts the result has
/// neither id nor times worth anything. Those that later events showed to be none are listed and count for nothing; where
/// all are such, what is told of who and when is theirs, and the counts are zero.
pub fn tell(alerts: &[&AlertBrief], lineage: &Lineage<'_>) -> Incident {
    let mut all = alerts.to_vec();
    all.sort_by(|a, b| (a.time, &a.alert_id).cmp(&(b.time, &b.alert_id)));
    let standing: Vec<&AlertBrief> = all.iter().copied().filter(|a| !a.superseded).collect();
    let withdrawn = all.len() - standing.len();
    let mut told = tell_of(&all, if standing.is_empty() { &all } else { &standing }, lineage);
    if standing.is_empty() && withdrawn > 0 {
        (told.level, told.score, told.alert_count, told.event_count) = (Level::Informational, 0.0, 0, 0);
        told.summary.truncate(1);
    }
    if withdrawn > 0 {
        told.summary.push(say_withdrawn(withdrawn, standing.is_empty()));
    }
    told
}

fn say_withdrawn(withdrawn: usize, whole: bool) -> String {
    match (whole, withdrawn) {
        (true, _) => "Later events showed that there was no alert: what is listed counts for nothing.".to_owned(),
        (false, 1) => "One more alert is listed that later events showed to be none.".to_owned(),
        (false, n) => format!("{n} more alerts are listed that later events showed to be none."),
    }
}

/// The story of some of an incident's alerts, sorted by time and id; all of them give it its name and are listed.
fn tell_of(all: &[&AlertBrief], alerts: &[&AlertBrief], lineage: &Lineage<'_>) -> Incident {
    let mut labels = Attack::default();
    for alert in alerts {
        labels.merge(&alert.attack);
    }
    let time_first = alerts.first().map_or(Timestamp::UNIX_EPOCH, |a| a.time);
    let time_last = alerts.iter().map(|a| a.time_last).max().unwrap_or(time_first);
    let mut told = Incident {
        incident_id: incident::incident_id(all.first().map_or("", |a| a.alert_id.as_str())),
        time_first,
        time_last,
        level: alerts.iter().map(|a| a.level).max().unwrap_or(Level::Low),
        score: alerts.iter().map(|a| a.score).fold(0.0, f64::max),
        title: String::new(),
        principals: principals(alerts).into_iter().take(LISTED).collect(),
        accounts: alerts.iter().map(|a| a.account.clone()).collect(),
        source_ips: addresses(alerts),
        alert_ids: all.iter().map(|a| a.alert_id.clone()).collect(),
        alert_count: alerts.len() as u64,
        event_count: alerts.iter().map(|a| a.event_count).sum(),
        attack: labels,
        summary: Vec::new(),
    };
    let Some(gravest) = alerts.iter().min_by(|a, b| b.score.total_cmp(&a.score).then(a.time.cmp(&b.time))) else {
        return told;
    };
    told.title = title(&told, gravest);
    told.summary = vec![who(&told)];
    told.summary.extend(what(alerts));
    told.summary.extend(steps(&told, lineage));
    told.summary.push(how_much(&told, gravest, alerts.iter().any(|a| a.at_least)));
    told
}

/// A principal's name as people say it: `user alice`, `role Admin (session bob)`, `root of 111122223333`.
pub fn short_name(principal: &str) -> String {
    let parts: Vec<&str> = principal.splitn(6, ':').collect();
    let [_, _, _, _, account, resource] = parts.as_slice() else { return principal.to_owned() };
    let path: Vec<&str> = resource.split('/').collect();
    match path.as_slice() {
        ["root"] => format!("root of {account}"),
        ["assumed-role", .., role, session] => format!("role {role} (session {session})"),
        ["user", .., name] => format!("user {name}"),
        [kind, .., name] => format!("{kind} {name}"),
        _ => (*resource).to_owned(),
    }
}

fn title(told: &Incident, gravest: &AlertBrief) -> String {
    let who = told.principals.first().map_or_else(String::new, |p| short_name(p));
    let others = match told.principals.len() {
        0 | 1 => String::new(),
        2 => " and 1 other identity".to_owned(),
        n => format!(" and {} other identities", n - 1),
    };
    let more = match told.alert_count {
        0 | 1 => String::new(),
        2 => " and 1 more alert".to_owned(),
        n => format!(" and {} more alerts", n - 1),
    };
    format!("{who}{others}: {}{more}", gravest.title)
}

fn who(told: &Incident) -> String {
    let names: Vec<String> = told.principals.iter().take(TOLD_PRINCIPALS).map(|p| short_name(p)).collect();
    let accounts: Vec<String> = told.accounts.iter().cloned().collect();
    let mut from: Vec<String> = told.source_ips.iter().take(TOLD_ADDRESSES).cloned().collect();
    if told.source_ips.len() > TOLD_ADDRESSES {
        from.push(format!("{} more addresses", told.source_ips.len() - TOLD_ADDRESSES));
    }
    let from = if from.is_empty() { String::new() } else { format!(" from {}", list(&from)) };
    let account = if accounts.len() == 1 { "account" } else { "accounts" };
    let when = if told.time_first == told.time_last {
        format!("at {}", minute(told.time_first))
    } else {
        format!("between {} and {}", minute(told.time_first), minute(told.time_last))
    };
    format!("{} acted in {account} {}{from}, {when}.", capital(&list(&names)), list(&accounts))
}

/// Alerts of one title: the title, their events, and whether that is a lower bound.
type Told<'a> = (&'a str, u64, bool);

/// One sentence a tactic, in the order of the matrix.
fn what(alerts: &[&AlertBrief]) -> Vec<String> {
    let mut tactics: BTreeMap<(usize, &str), Vec<Told<'_>>> = BTreeMap::new();
    for alert in alerts {
        let tactic = alert.attack.tactics.first().map_or("", String::as_str);
        let order = if tactic.is_empty() { usize::MAX } else { attack::tactic_order(tactic) };
        let titles = tactics.entry((order, tactic)).or_default();
        match titles.iter_mut().find(|(title, ..)| *title == alert.title) {
            Some((_, events, at_least)) => {
                *events += alert.event_count;
                *at_least |= alert.at_least;
            }
            None => titles.push((&alert.title, alert.event_count, alert.at_least)),
        }
    }
    tactics
        .into_iter()
        .map(|((_, tactic), titles)| {
            let name = match tactic {
                "" => "Unusual behaviour",
                known => attack::name_of(known).unwrap_or(known),
            };
            let more = titles.len().saturating_sub(TOLD_TITLES);
            let mut said: Vec<String> = titles
                .into_iter()
                .take(TOLD_TITLES)
                .map(|(title, events, at_least)| format!("{title} ({})", count(events, at_least, "event")))
                .collect();
            if more > 0 {
                said.push(format!("{more} more"));
            }
            format!("{name}: {}.", list(&said))
        })
        .collect()
}

/// One sentence for each identity that a principal of the incident made, changed or assumed.
fn steps(told: &Incident, lineage: &Lineage<'_>) -> Vec<String> {
    let (from, to) = told_times(told.time_first, told.time_last);
    let mut firsts: BTreeMap<(&str, &Identity), &LineageEdge> = BTreeMap::new();
    for principal in told.principals.iter().take(TOLD_PRINCIPALS) {
        for edge in lineage.0.get(principal.as_str()).into_iter().flatten() {
            if edge.time < from || edge.time > to || edge.maker == edge.made {
                continue;
            }
            let first = firsts.entry((principal, &edge.made)).or_insert(edge);
            if edge.precedes(first) {
                *first = edge;
            }
        }
    }
    let mut ordered: Vec<_> = firsts.into_iter().collect();
    ordered.sort_by_key(|((who, made), edge)| (edge.time, *who, (*made).clone()));
    let more = ordered.len().saturating_sub(TOLD_STEPS);
    let mut said: Vec<String> = ordered
        .into_iter()
        .take(TOLD_STEPS)
        .map(|((who, made), edge)| {
            let did = match edge.how {
                LineageKind::Made => "created",
                LineageKind::Changed => "changed",
                LineageKind::Assumed => "took on",
            };
            let made = match made {
                Identity::Principal(arn) => short_name(arn),
                Identity::AccessKey(id) => format!("access key {id}"),
            };
            format!("{} {did} {made} at {}.", capital(&short_name(who)), minute(edge.time))
        })
        .collect();
    if more > 0 {
        said.push(format!("They created, changed or took on {more} more identities."));
    }
    said
}

fn how_much(told: &Incident, gravest: &AlertBrief, at_least: bool) -> String {
    format!(
        "{} over {}; the gravest is {} ({}).",
        capital(&count(told.alert_count, false, "alert")),
        count(told.event_count, at_least, "event"),
        gravest.title,
        gravest.level
    )
}

fn count(n: u64, at_least: bool, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{}{n} {noun}{s}", if at_least { "at least " } else { "" })
}

fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn minute(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
