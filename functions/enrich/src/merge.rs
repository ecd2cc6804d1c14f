//! Growing an alert: what a batch's detection adds to what is there.
//!
//! Pure, and the same whatever the order, repetition and batching of detections: counts come from a set of
//! members, everything else is a union, a minimum, a maximum, or the smallest few of a union. In: the alert
//! as it stands, a detection, how many of its members are new. Out: the alert as it stands now.

use std::{collections::BTreeSet, fmt::Write as _};

use sentinel_model::{
    Alert, Attack, Detection, EventRef, Indicators, KeyUse, Level, Member, Principal, Provenance, RuleRef, Window,
    alert::{
        ActionClass, AttestedUse, COPIES_PER_USE, INDICATOR_CAP, IntelFinding, KEY_CAP, MEMBER_CAP, SHOWN_EVENTS,
        ScoreBasis, USES_PER_KEY,
    },
    provenance,
};

use crate::{attack, intel::FINDING_CAP, score};

/// Sentences kept of detections.
pub(crate) const REASON_CAP: usize = 10;
/// Characters kept of a text that a caller can choose freely (user agents).
pub(crate) const TEXT_CAP: usize = 256;

/// An alert on its way: the alert, what its score rests on, and whether it was changed since it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Growing {
    /// The alert; score, level and reasons are settled by [`settle`].
    pub alert: Alert,
    /// What its score and reasons rest on.
    pub basis: ScoreBasis,
}

/// What the lookup of indicators gave for one detection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Intel {
    /// What is said.
    pub findings: Vec<IntelFinding>,
    /// Whether a source failed to answer.
    pub failed: bool,
}

/// Grows an alert by a detection. `fresh` is how many of its members the alert did not count before and counts
/// now; `overflow` whether one could not be counted because the alert is full. Returns `None` when there is
/// neither an alert nor a member.
pub fn grow(
    before: Option<Growing>,
    detection: &Detection,
    fresh: u64,
    overflow: bool,
    intel: &Intel,
    correlation_id: &str,
) -> Option<Growing> {
    let mut growing = match before {
        Some(growing) => growing,
        None => begin(detection, correlation_id)?,
    };
    absorb(&mut growing, detection, fresh, overflow, intel);
    settle(&mut growing);
    Some(growing)
}

/// An alert of which nothing but its identity and first event is known yet.
fn begin(detection: &Detection, correlation_id: &str) -> Option<Growing> {
    let first = detection.members.iter().min_by(|a, b| a.event.cmp(&b.event))?;
    let last = detection.members.iter().map(|m| m.event.time).max()?;
    let whose = Whose {
        alert_id: detection.alert_id.clone(),
        rule: &detection.rule,
        attack: &detection.attack,
        window: detection.window,
        principal: &detection.principal,
        account: &detection.account,
    };
    let mut growing = begin_with(whose, first, correlation_id);
    growing.alert.time_last = last;
    Some(growing)
}

/// What an alert is about, whatever its events are.
struct Whose<'a> {
    alert_id: String,
    rule: &'a RuleRef,
    attack: &'a Attack,
    window: Window,
    principal: &'a Principal,
    account: &'a str,
}

fn begin_with(whose: Whose<'_>, first: &Member, correlation_id: &str) -> Growing {
    let alert = Alert {
        alert_id: whose.alert_id,
        time: first.event.time,
        time_last: first.event.time,
        rule: whose.rule.clone(),
        // Settling copies it from the rule.
        title: String::new(),
        category: String::new(),
        level: Level::Informational,
        score: 0.0,
        principal: whose.principal.clone(),
        account: whose.account.to_owned(),
        region: first.region.clone(),
        source_ip: first.source_ip.clone(),
        event_count: 0,
        at_least: false,
        first_events: BTreeSet::new(),
        indicators: Indicators::default(),
        attack: whose.attack.clone(),
        reasons: Vec::new(),
        window: whose.window,
        key_uses: Vec::new(),
        provenance: Vec::new(),
        correlation_id: correlation_id.to_owned(),
        superseded_by: None,
    };
    Growing { alert, basis: ScoreBasis::default() }
}

/// What counting a detection's members gave.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    /// Members that the alert did not count before and counts now.
    pub(crate) fresh: u64,
    /// Whether one could not be counted because the alert is full.
    pub(crate) overflow: bool,
}

/// Adds a detection without settling score and reasons.
pub fn absorb(growing: &mut Growing, detection: &Detection, fresh: u64, overflow: bool, intel: &Intel) {
    let mut counted = Counted { fresh, overflow };
    if let Some(correlated) = &detection.correlated {
        counted.overflow |= correlated.at_least;
        growing.basis.revision = growing.basis.revision.max(Some(correlated.revision));
    }
    absorb_labels(&mut growing.alert, &detection.rule, &detection.principal, &detection.attack, counted);
    for member in &detection.members {
        absorb_member(&mut growing.alert, &mut growing.basis, member, score::classify(member));
    }
    absorb_reasons(&mut growing.basis, &detection.reasons, intel);
}

fn absorb_labels(alert: &mut Alert, rule: &RuleRef, principal: &Principal, attack: &Attack, counted: Counted) {
    alert.event_count = (alert.event_count + counted.fresh).min(MEMBER_CAP);
    alert.at_least |= counted.overflow;
    merge_rule(&mut alert.rule, rule);
    merge_principal(&mut alert.principal, principal);
    merge_attack(&mut alert.attack, attack);
}

fn absorb_reasons(basis: &mut ScoreBasis, reasons: &[impl AsRef<str>], intel: &Intel) {
    for reason in reasons {
        add_text(&mut basis.reasons, reason.as_ref(), REASON_CAP);
    }
    basis.lookup_failed = intel.failed;
    merge_findings(&mut basis.findings, &intel.findings);
}

fn absorb_member(alert: &mut Alert, basis: &mut ScoreBasis, member: &Member, class: ActionClass) {
    if alert.first_events.first().is_none_or(|first| member.event < *first) {
        alert.time = member.event.time;
        alert.region.clone_from(&member.region);
        alert.source_ip.clone_from(&member.source_ip);
    }
    alert.time_last = alert.time_last.max(member.event.time);
    add_first(&mut alert.first_events, &member.event);

    let indicators = &mut alert.indicators;
    add_indicator(&mut indicators.addresses, member.source_ip.as_deref());
    add_indicator(&mut indicators.keys, member.access_key_id.as_deref());
    add_indicator(&mut indicators.agents, member.user_agent.as_deref());

    provenance::merge_from(&mut alert.provenance, &member.provenance);
    keep_copies(&mut alert.provenance, INDICATOR_CAP);
    if let Some(key) = &member.access_key_id {
        add_use(&mut alert.key_uses, key, member);
    }

    if let Some(score) = member.model_score {
        basis.model_score = Some(basis.model_score.map_or(score, |s| s.max(score)));
    }
    let graver = match &basis.gravest {
        None => true,
        Some((known, action)) => class > *known || (class == *known && member.action < *action),
    };
    if graver {
        basis.gravest = Some((class, member.action.clone()));
    }
}

fn add_first(events: &mut BTreeSet<EventRef>, event: &EventRef) {
    let full = events.len() >= SHOWN_EVENTS;
    if full && events.last().is_some_and(|last| event >= last) {
        return;
    }
    events.insert(event.clone());
    if events.len() > SHOWN_EVENTS {
        events.pop_last();
    }
}

fn add_indicator(set: &mut BTreeSet<String>, value: Option<&str>) {
    let Some(value) = value.filter(|v| !v.is_empty()) else { return };
    add_text(set, cut(value), INDICATOR_CAP);
}

/// A text that a caller can choose freely, cut to a bearable length.
pub(crate) fn cut(text: &str) -> &str {
    // Nearly all are short: no need to count characters.
    if text.len() <= TEXT_CAP {
        return text;
    }
    text.char_indices().nth(TEXT_CAP).map_or(text, |(at, _)| &text[..at])
}

/// Adds a text to a set that keeps its first `most`, without allocating for one that is there or would not stay.
fn add_text(set: &mut BTreeSet<String>, text: &str, most: usize) {
    let beyond = set.len() >= most && set.last().is_some_and(|last| text > last.as_str());
    if beyond || set.contains(text) {
        return;
    }
    set.insert(text.to_owned());
    keep_first(set, most);
}

fn keep_first<T: Ord>(set: &mut BTreeSet<T>, most: usize) {
    while set.len() > most {
        set.pop_last();
    }
}

/// Keeps the first copies, those that the account itself recorded before all others, sorted by channel.
fn keep_copies(copies: &mut Vec<Provenance>, most: usize) {
    if copies.len() <= most {
        return;
    }
    copies.sort_by_key(|p| (!p.channel.is_accounts_own(true), p.channel.clone()));
    copies.truncate(most);
    copies.sort_by(|a, b| a.channel.cmp(&b.channel));
}

/// Adds a use of a key: the smallest keys, of each the latest uses, of each use its copies.
fn add_use(uses: &mut Vec<KeyUse>, key: &str, member: &Member) {
    let at = match uses.binary_search_by(|k| k.access_key_id.as_str().cmp(key)) {
        Ok(at) => at,
        Err(at) if at >= KEY_CAP => return,
        Err(at) => {
            uses.insert(at, KeyUse { access_key_id: key.to_owned(), uses: Vec::new() });
            uses.truncate(KEY_CAP);
            at
        }
    };
    let list = &mut uses[at].uses;
    let place = list.binary_search_by(|u| (member.event.time, &member.event.id).cmp(&(u.time, &u.event_id)));
    match place {
        Ok(i) => {
            provenance::merge_from(&mut list[i].provenance, &member.provenance);
            keep_copies(&mut list[i].provenance, COPIES_PER_USE);
        }
        Err(i) if i >= USES_PER_KEY => {}
        Err(i) => {
            let mut copies = Vec::new();
            provenance::merge_from(&mut copies, &member.provenance);
            keep_copies(&mut copies, COPIES_PER_USE);
            let (event_id, time) = (member.event.id.clone(), member.event.time);
            list.insert(i, AttestedUse { event_id, time, provenance: copies });
            list.truncate(USES_PER_KEY);
        }
    }
}

/// A rule that was changed while its alert grew: the higher level counts, then the smaller title.
fn merge_rule(rule: &mut RuleRef, other: &RuleRef) {
    if rule == other {
        return;
    }
    let place = |r: &RuleRef| (std::cmp::Reverse(r.level), r.title.clone(), r.author.clone());
    if place(other) < place(rule) {
        rule.clone_from(other);
    }
}

/// One principal described in two ways: `inferred` sticks, since it forbids acting; the rest is the smaller.
fn merge_principal(principal: &mut Principal, other: &Principal) {
    if principal == other {
        return;
    }
    let inferred = principal.inferred || other.inferred;
    let place = |p: &Principal| (p.kind as u8, p.role.clone(), p.name.clone(), p.account.clone(), p.actor.clone());
    if place(other) < place(principal) {
        principal.clone_from(other);
    }
    principal.inferred = inferred;
}

/// Labels keep the order in which the rule names them as long as all detections name the same; otherwise their
/// union in the order of the ATT&CK matrix, which does not depend on who came first.
fn merge_attack(labels: &mut Attack, other: &Attack) {
    if labels == other {
        return;
    }
    let tactics: BTreeSet<_> =
        labels.tactics.iter().chain(&other.tactics).map(|t| (attack::tactic_order(t), t.clone())).collect();
    let techniques: BTreeSet<_> = labels.techniques.iter().chain(&other.techniques).cloned().collect();
    labels.tactics = tactics.into_iter().map(|(_, t)| t).collect();
    labels.techniques = techniques.into_iter().collect();
}

pub(crate) fn merge_findings(findings: &mut Vec<IntelFinding>, said: &[IntelFinding]) {
    if said.is_empty() {
        return;
    }
    let all: BTreeSet<(std::cmp::Reverse<sentinel_model::alert::Reputation>, IntelFinding)> =
        findings.drain(..).chain(said.iter().cloned()).map(|f| (std::cmp::Reverse(f.reputation), f)).collect();
    findings.extend(all.into_iter().take(FINDING_CAP).map(|(_, f)| f));
}

/// Works out score, level, category and reasons from what the alert rests on.
pub fn settle(growing: &mut Growing) {
    let (alert, basis) = (&mut growing.alert, &growing.basis);
    (alert.score, alert.level) = score::score(&alert.rule, basis);
    alert.title.clone_from(&alert.rule.title);
    alert.category = category(&alert.rule, &alert.attack);
    alert.reasons = reasons(alert, basis);
}

/// Cuts an alert's lists until it is no larger than `most` bytes as JSON: copies of uses first, then uses, then
/// agents. Only hostile or broken input (very long names, paths and agents) comes here; the caps are far
/// below for anything that CloudTrail writes. Returns whether anything was cut.
pub fn shrink(alert: &mut Alert, most: usize) -> Result<bool, serde_json::Error> {
    let steps: [fn(&mut Alert); 5] = [
        |alert| alert.key_uses.iter_mut().flat_map(|k| &mut k.uses).for_each(|u| keep_copies(&mut u.provenance, 1)),
        |alert| alert.key_uses.iter_mut().for_each(|k| k.uses.truncate(3)),
        |alert| keep_copies(&mut alert.provenance, 5),
        |alert| keep_first(&mut alert.indicators.agents, 10),
        |alert| alert.key_uses.truncate(3),
    ];
    let mut cut = false;
    for step in steps {
        if serde_json::to_string(alert)?.len() <= most {
            break;
        }
        step(alert);
        cut = true;
    }
    Ok(cut)
}

/// The first tactic, or `anomaly`.
pub(crate) fn category(rule: &RuleRef, labels: &Attack) -> String {
    match labels.tactics.first() {
        Some(tactic) if !rule.id.starts_with(score::MODEL_PREFIX) => tactic.clone(),
        _ => "anomaly".to_owned(),
    }
}

fn reasons(alert: &Alert, basis: &ScoreBasis) -> Vec<String> {
    let mut said: Vec<String> = basis.reasons.iter().cloned().collect();
    if let Some((class, action)) = &basis.gravest {
        let mut gravest = String::new();
        say_gravest(alert.event_count, alert.at_least, *class, action, &mut gravest);
        said.push(gravest);
    }
    said.extend(basis.findings.iter().map(say_finding));
    if basis.lookup_failed {
        said.push("The threat-intelligence lookup failed, so what it would have said is missing.".to_owned());
    }
    said.extend(say_techniques(&alert.attack));
    said
}

/// Appends how many events, and which was the gravest.
pub(crate) fn say_gravest(count: u64, at_least: bool, class: ActionClass, action: &str, said: &mut String) {
    if !at_least && count == 1 {
        said.push_str("One event");
    } else {
        said.push_str(if at_least { "At least " } else { "" });
        // Writing to a text cannot fail.
        let _ = write!(said, "{count} events");
    }
    // Put together, not formatted: a scan says this of every alert.
    for part in ["; the gravest, ", action, ", ", class_words(class), "."] {
        said.push_str(part);
    }
}

/// What threat intelligence says.
pub(crate) fn say_finding(finding: &IntelFinding) -> String {
    let verdict = match finding.reputation {
        sentinel_model::alert::Reputation::Suspicious => "suspicious",
        sentinel_model::alert::Reputation::KnownBad => "known bad",
    };
    let (kind, indicator, source) = (&finding.kind, &finding.indicator, &finding.source);
    format!("The {kind} {indicator} is {verdict} according to {source}.")
}

/// The techniques by name.
pub(crate) fn say_techniques(labels: &Attack) -> Option<String> {
    let techniques: Vec<String> = labels
        .techniques
        .iter()
        .map(|id| attack::technique(id).map_or_else(|| id.clone(), |t| format!("{id} {}", t.name)))
        .collect();
    (!techniques.is_empty()).then(|| format!("MITRE ATT&CK: {}.", techniques.join(", ")))
}

const fn class_words(class: ActionClass) -> &'static str {
    match class {
        ActionClass::FailedRead => "is a read that was refused or failed",
        ActionClass::FailedChange => "is a change that was refused or failed",
        ActionClass::Read => "is a read",
        ActionClass::SignIn => "is a sign-in or takes on a session",
        ActionClass::ResourceChange => "changes a resource",
        ActionClass::CredentialChange => "touches credentials or privileges",
        ActionClass::DefenceEvasion => "weakens logging or detection",
        ActionClass::DataLoss => "destroys data, locks it away or gives it out",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{detection, member};
    use sentinel_model::Channel;

    #[test]
    fn an_alert_of_hostile_size_is_cut_to_what_the_store_takes() {
        let most = sentinel_state::table::MAX_BODY_BYTES - 60_000;
        let members: Vec<Member> = (0..400)
            .map(|n| {
                let mut m = member(&format!("e{n}"), "2024-05-01T10:00:00Z");
                m.access_key_id = Some(format!("AKIA{:014}", n % 20));
                m.user_agent = Some(format!("{n}{}", "\u{1F980}".repeat(2000)));
                m.provenance = (0..6)
                    .map(|p| Provenance {
                        channel: Channel::Folder { path: format!("{p}{}", "x".repeat(900)) },
                        received_at: m.event.time,
                    })
                    .collect();
                m
            })
            .collect();
        let detection = detection("r", Level::High, "alice", members);
        let mut alert = grow(None, &detection, 400, false, &Intel::default(), "c").unwrap().alert;
        assert!(serde_json::to_string(&alert).unwrap().len() > most);
        assert!(shrink(&mut alert, most).unwrap());
        assert!(serde_json::to_string(&alert).unwrap().len() <= most);
        assert!(!alert.key_uses.is_empty() && alert.event_count == 400);
        assert!(!shrink(&mut alert, most).unwrap(), "what fits is left alone");
    }
}
