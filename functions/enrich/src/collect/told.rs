//! One alert as it is told: what its events add up to, gathered in one pass over them, and how it is printed.
//!
//! In: the events of one alert, each once, in order of time and id. Out: the alert as one line of JSON, the same as
//! [`sentinel_model::alert::AlertView`] gives, or what a table or the grouping into incidents needs of it. What is held
//! is bounded whatever the number of events, and used again for the next alert.

use std::{io, sync::OnceLock};

use sentinel_correlation::Calls;
use sentinel_model::{
    Alert, Level, PrincipalKind, Timestamp, Window,
    alert::{self, ActionClass, INDICATOR_CAP, KEY_CAP, MEMBER_CAP, MatchedRule, SHOWN_EVENTS, ScoreBasis},
    incident::AlertBrief,
};
use serde::{Deserialize, Serialize};

use super::{
    Found, Say,
    fact::{self, Fact, Reader},
};
use crate::{
    indicator_list::IndicatorList,
    intel::Indicator,
    merge::{self, REASON_CAP},
    score,
};

/// Sessions whose events of one alert came lately, to be told again from others: a power of two.
const SESSIONS: usize = 64;

/// How alerts are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line of JSON each, by time.
    Line,
    /// A [`Row`] each, as JSON, the gravest level first, then by time.
    Row,
    /// An [`AlertBrief`] each, as JSON, by time.
    Brief,
}

/// What a table shows of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Level.
    pub level: Level,
    /// Score.
    pub score: f64,
    /// Time of its first event.
    pub time: Timestamp,
    /// Title.
    pub title: String,
    /// Who.
    pub principal: String,
    /// In which account.
    pub account: String,
    /// Source of its first event.
    pub source_ip: Option<String>,
    /// Events counted.
    pub event_count: u64,
    /// Whether there may be more.
    pub at_least: bool,
}

/// A rule, and what all of its alerts say.
#[derive(Debug)]
pub(super) struct RuleTexts<'r> {
    pub(super) rule: MatchedRule<'r>,
    /// Made for the first alert: most rules have none.
    json: OnceLock<RuleJson>,
}

/// What all alerts of a rule say, as JSON.
#[derive(Debug)]
struct RuleJson {
    /// Rule, title and category, with the names of these members.
    names: Vec<u8>,
    attack: Vec<u8>,
    techniques: Option<Vec<u8>>,
    why: Vec<u8>,
}

impl RuleJson {
    fn new(rule: &MatchedRule<'_>) -> io::Result<Self> {
        let mut names = Vec::new();
        names.extend_from_slice(b",\"rule\":");
        json(&mut names, rule.rule)?;
        names.extend_from_slice(b",\"title\":");
        json(&mut names, &rule.rule.title)?;
        names.extend_from_slice(b",\"category\":");
        json(&mut names, &merge::category(rule.rule, rule.attack))?;
        Ok(Self {
            names,
            attack: serde_json::to_vec(rule.attack)?,
            techniques: merge::say_techniques(rule.attack).map(|said| serde_json::to_vec(&said)).transpose()?,
            why: serde_json::to_vec(rule.why.text())?,
        })
    }
}

impl<'r> RuleTexts<'r> {
    pub(super) fn new(rule: MatchedRule<'r>) -> Self {
        Self { rule, json: OnceLock::new() }
    }

    fn json(&self) -> io::Result<&RuleJson> {
        if let Some(json) = self.json.get() {
            return Ok(json);
        }
        let made = RuleJson::new(&self.rule)?;
        Ok(self.json.get_or_init(|| made))
    }

    pub(super) fn window(&self, time: Timestamp) -> Window {
        Window::around(time, self.rule.window_minutes)
    }
}

/// The first few of many texts, in order, without taking new memory for each.
#[derive(Debug, Default)]
struct Few {
    texts: Vec<String>,
    spare: Vec<String>,
}

impl Few {
    fn clear(&mut self) {
        self.spare.append(&mut self.texts);
    }

    fn add(&mut self, text: &str, most: usize) {
        let Err(at) = self.texts.binary_search_by(|known| known.as_str().cmp(text)) else { return };
        if at < most {
            self.insert(at, text);
            self.spare.extend(self.texts.drain(most.min(self.texts.len())..));
        }
    }

    fn insert(&mut self, at: usize, text: &str) {
        let mut owned = self.spare.pop().unwrap_or_default();
        // A text of a megabyte must not stay for ever.
        if owned.capacity() > 4096 {
            owned = String::new();
        }
        owned.clear();
        owned.push_str(text);
        self.texts.insert(at, owned);
    }
}

/// An alert that is being told.
#[derive(Debug)]
pub(super) struct Told {
    first: First,
    time_last: Timestamp,
    members: u64,
    kind: Option<PrincipalKind>,
    ids: Few,
    addresses: Few,
    keys: Few,
    agents: Few,
    /// The first keys, uncut.
    used: Few,
    /// Memory of an action's name.
    spare: String,
    /// Sentences on what was done.
    calls: Few,
    /// What the events of a correlation's alert called.
    called: Calls,
    said: String,
    /// What is printed of the first event and of what was gathered, as JSON, once it was printed.
    printed: Vec<u8>,
    time: Vec<u8>,
    /// Whether events had to be left out.
    at_least: bool,
    basis: ScoreBasis,
    level: Level,
    score: f64,
}

/// The first event.
#[derive(Debug, Default)]
struct First {
    time: Timestamp,
    principal: String,
    account: String,
    region: Option<String>,
    source: Option<String>,
}

impl Told {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            first: First::default(),
            time_last: Timestamp::UNIX_EPOCH,
            members: 0,
            kind: None,
            ids: Few::default(),
            addresses: Few::default(),
            keys: Few::default(),
            agents: Few::default(),
            used: Few::default(),
            spare: String::new(),
            calls: Few::default(),
            called: Calls::default(),
            said: String::new(),
            printed: Vec::new(),
            time: Vec::new(),
            at_least: false,
            basis: ScoreBasis::default(),
            level: Level::Informational,
            score: 0.0,
        }
    }

    /// Begins anew.
    pub(super) fn begin(&mut self) {
        self.members = 0;
        self.kind = None;
        self.at_least = false;
        let all =
            [&mut self.ids, &mut self.addresses, &mut self.keys, &mut self.agents, &mut self.used, &mut self.calls];
        all.into_iter().for_each(Few::clear);
        if let Some((_, action)) = self.basis.gravest.take() {
            self.spare = action;
        }
        self.basis.findings.clear();
        self.printed.clear();
        self.time.clear();
    }

    /// Adds the next event.
    pub(super) fn add(&mut self, fact: &Fact<'_>, rule: &RuleTexts<'_>, say: Say, list: &IndicatorList) {
        if self.kind.is_none_or(|kind| (fact.kind as u8) < kind as u8) {
            self.kind = Some(fact.kind);
        }
        self.said.clear();
        say(fact, &mut self.said);
        self.calls.add(&self.said, REASON_CAP);
        self.gather(fact);
        self.grave(fact.class, Some(fact.action));
        if !list.is_empty() {
            self.find(list, &indicators(fact, true), rule.window(fact.time).start);
        }
    }

    /// Adds all events of a correlation's alert; `whole` says whether it is to be printed, too.
    pub(super) fn add_found(
        &mut self,
        found: &Found<'_>,
        events: impl Iterator<Item = u64>,
        reader: &mut Reader<'_>,
        list: &IndicatorList,
        whole: bool,
    ) -> io::Result<()> {
        let mut sessions = [u64::MAX; SESSIONS];
        self.called.clear();
        for at in events {
            let own = reader.own(at)?;
            let slot = &mut sessions[usize::try_from(own.session).unwrap_or_default() % SESSIONS];
            let known = std::mem::replace(slot, own.session) == own.session;
            if whole {
                let done = !matches!(own.class, ActionClass::FailedRead | ActionClass::FailedChange);
                match own.call {
                    Some(call) => self.called.add_named(&call.said, call.hash, done),
                    None => self.called.add(own.service, own.action, done),
                }
            }
            self.grave(own.class, Some(own.action));
            if known && list.is_empty() {
                // What its session says is known.
                self.members += 1;
                if whole {
                    self.own(own.time, own.id);
                }
                continue;
            }
            let fact = reader.get(at)?;
            if whole {
                self.gather(&fact);
            } else {
                self.count_in(&fact);
            }
            if !list.is_empty() {
                self.find(list, &indicators(&fact, false), found.window);
            }
        }
        if whole {
            self.calls.add(found.finding, REASON_CAP);
            self.calls.add(&self.called.said(), REASON_CAP);
        }
        let completing = reader.get(found.completing)?;
        self.kind = Some(completing.kind);
        self.at_least = found.at_least;
        self.first.principal.clear();
        self.first.principal.push_str(completing.principal);
        if !list.is_empty() {
            let who = of_someone(&completing).into_iter().collect::<Vec<_>>();
            self.find(list, &who, found.window);
        }
        Ok(())
    }

    /// What an event does not have in common with its session.
    fn own(&mut self, time: Timestamp, id: &str) {
        self.time_last = time;
        if self.ids.texts.len() < SHOWN_EVENTS {
            self.ids.insert(self.ids.texts.len(), id);
        }
    }

    fn gather(&mut self, fact: &Fact<'_>) {
        self.count_in(fact);
        self.own(fact.time, fact.id);
        for (set, text) in
            [(&mut self.addresses, fact.source), (&mut self.keys, fact.access_key), (&mut self.agents, fact.user_agent)]
        {
            if let Some(text) = text.filter(|t| !t.is_empty()) {
                set.add(merge::cut(text), INDICATOR_CAP);
            }
        }
        if let Some(key) = fact.access_key {
            self.used.add(key, KEY_CAP);
        }
    }

    /// Adds the next event for score and place alone: what is printed is not gathered.
    pub(super) fn weigh(&mut self, fact: &Fact<'_>, rule: &RuleTexts<'_>, list: &IndicatorList) {
        self.count_in(fact);
        self.grave(fact.class, Some(fact.action));
        if !list.is_empty() {
            self.find(list, &indicators(fact, true), rule.window(fact.time).start);
        }
    }

    /// Adds the next event for the level alone, by the number of its kind.
    pub(super) fn weigh_class(&mut self, class: u8) -> Option<()> {
        self.members += 1;
        self.grave(fact::class_of(class)?, None);
        Some(())
    }

    fn count_in(&mut self, fact: &Fact<'_>) {
        if self.members == 0 {
            self.first(fact);
        }
        self.members += 1;
    }

    fn grave(&mut self, class: ActionClass, action: Option<&str>) {
        let action = action.unwrap_or_default();
        match &mut self.basis.gravest {
            Some((known, named)) => {
                if class > *known || (class == *known && action < named.as_str()) {
                    *known = class;
                    named.clear();
                    named.push_str(action);
                }
            }
            none => {
                let mut named = std::mem::take(&mut self.spare);
                named.clear();
                named.push_str(action);
                *none = Some((class, named));
            }
        }
    }

    fn find(&mut self, list: &IndicatorList, indicators: &[Indicator], at: Timestamp) {
        merge::merge_findings(&mut self.basis.findings, &list.check_all(indicators, at));
    }

    fn first(&mut self, fact: &Fact<'_>) {
        let first = &mut self.first;
        first.time = fact.time;
        for (into, text) in [(&mut first.principal, fact.principal), (&mut first.account, fact.account)] {
            into.clear();
            into.push_str(text);
        }
        for (into, text) in [(&mut first.region, fact.region), (&mut first.source, fact.source)] {
            match (into.as_mut(), text) {
                (Some(into), Some(text)) => {
                    into.clear();
                    into.push_str(text);
                }
                _ => *into = text.map(str::to_owned),
            }
        }
    }

    /// Ends it: score and level are known.
    pub(super) fn end(&mut self, rule: &RuleTexts<'_>) -> Level {
        (self.score, self.level) = score::score(rule.rule.rule, &self.basis);
        self.level
    }

    /// What [`Self::end`] found.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Time of the first event.
    pub(super) fn time(&self) -> Timestamp {
        self.first.time
    }

    pub(super) fn alert_id(&self, rule: &RuleTexts<'_>) -> String {
        let window = rule.window(self.first.time);
        alert::alert_id(&rule.rule.rule.id, &self.first.principal, &self.first.account, window)
    }

    fn count(&self) -> (u64, bool) {
        (self.members.min(MEMBER_CAP), self.at_least || self.members > MEMBER_CAP)
    }

    /// Appends the alert in the form that is wanted, as one line.
    pub(super) fn write(&mut self, form: Form, id: &str, rule: &RuleTexts<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        match form {
            Form::Line => self.line(id, rule, out)?,
            Form::Row => serde_json::to_writer(&mut *out, &self.row(rule))?,
            Form::Brief => serde_json::to_writer(&mut *out, &self.brief(id, rule))?,
        }
        out.push(b'\n');
        Ok(())
    }

    fn line(&mut self, id: &str, rule: &RuleTexts<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        if self.printed.is_empty() {
            self.print()?;
        }
        let of_rule = rule.json()?;
        out.extend_from_slice(b"{\"alert_id\":");
        text(out, id)?;
        out.extend_from_slice(b",\"time\":");
        out.extend_from_slice(&self.time);
        out.extend_from_slice(&of_rule.names);
        out.extend_from_slice(b",\"level\":");
        text(out, self.level.as_str())?;
        out.extend_from_slice(b",\"score\":");
        json(out, &self.score)?;
        out.extend_from_slice(&self.printed);
        out.extend_from_slice(b",\"attack\":");
        out.extend_from_slice(&of_rule.attack);
        out.extend_from_slice(b",\"reasons\":[");
        let mut said = std::mem::take(&mut self.said);
        self.reasons(rule.rule.why.text(), of_rule, &mut said, out)?;
        self.said = said;
        out.extend_from_slice(b"],\"superseded_by\":null}");
        Ok(())
    }

    /// Prints what does not depend on the rule.
    fn print(&mut self) -> io::Result<()> {
        let (event_count, at_least) = self.count();
        json(&mut self.time, &self.first.time)?;
        let out = &mut self.printed;
        out.extend_from_slice(b",\"principal\":");
        text(out, &self.first.principal)?;
        out.extend_from_slice(b",\"account\":");
        text(out, &self.first.account)?;
        out.extend_from_slice(b",\"region\":");
        text_or_null(out, self.first.region.as_deref())?;
        out.extend_from_slice(b",\"source_ip\":");
        text_or_null(out, self.first.source.as_deref())?;
        out.extend_from_slice(b",\"event_count\":");
        json(out, &event_count)?;
        out.extend_from_slice(b",\"at_least\":");
        json(out, &at_least)?;
        out.extend_from_slice(b",\"event_ids\":");
        texts(out, self.ids.texts.iter())?;
        out.extend_from_slice(b",\"indicators\":{\"addresses\":");
        texts(out, self.addresses.texts.iter())?;
        out.extend_from_slice(b",\"keys\":");
        texts(out, self.keys.texts.iter())?;
        out.extend_from_slice(b",\"agents\":");
        texts(out, self.agents.texts.iter())?;
        out.push(b'}');
        Ok(())
    }

    fn reasons(&self, why: &str, of_rule: &RuleJson, said: &mut String, out: &mut Vec<u8>) -> io::Result<()> {
        // The rule's sentence stands among the calls in order, once.
        let calls = &self.calls.texts;
        let at = calls.partition_point(|call| call.as_str() < why);
        let known = calls.get(at).map(String::as_str) == Some(why);
        let (before, after) = calls.split_at(at);
        let after = (!known).then_some(None).into_iter().chain(after.iter().map(Some));
        for sentence in before.iter().map(Some).chain(after).take(REASON_CAP) {
            match sentence {
                Some(call) => text(out, call)?,
                None => out.extend_from_slice(&of_rule.why),
            }
            out.push(b',');
        }
        if let Some((class, action)) = &self.basis.gravest {
            let (count, at_least) = self.count();
            said.clear();
            merge::say_gravest(count, at_least, *class, action, said);
            text(out, said)?;
            out.push(b',');
        }
        for finding in &self.basis.findings {
            text(out, &merge::say_finding(finding))?;
            out.push(b',');
        }
        if let Some(techniques) = &of_rule.techniques {
            out.extend_from_slice(techniques);
        } else {
            out.pop_if(|last| *last == b',');
        }
        Ok(())
    }

    fn row(&self, rule: &RuleTexts<'_>) -> Row {
        let (event_count, at_least) = self.count();
        Row {
            level: self.level,
            score: self.score,
            time: self.first.time,
            title: rule.rule.rule.title.clone(),
            principal: self.first.principal.clone(),
            account: self.first.account.clone(),
            source_ip: self.first.source.clone(),
            event_count,
            at_least,
        }
    }

    fn brief(&self, id: &str, rule: &RuleTexts<'_>) -> AlertBrief {
        let (event_count, at_least) = self.count();
        let is_ip = |a: &&String| a.parse::<std::net::IpAddr>().is_ok();
        AlertBrief {
            alert_id: id.to_owned(),
            account: self.first.account.clone(),
            principal: self.first.principal.clone(),
            identifies_someone: self.kind.is_some_and(|kind| stands_for_someone(kind, &self.first.principal)),
            time: self.first.time,
            time_last: self.time_last,
            level: self.level,
            score: self.score,
            title: rule.rule.rule.title.clone(),
            attack: rule.rule.attack.clone(),
            keys: self.keys.texts.iter().chain(&self.used.texts).cloned().collect(),
            source_ips: self.addresses.texts.iter().filter(is_ip).cloned().collect(),
            event_count,
            at_least,
            superseded: false,
        }
    }
}

/// Appends a whole alert in the form that is wanted, as one line.
pub(super) fn write_alert(form: Form, alert: &Alert, out: &mut Vec<u8>) -> io::Result<()> {
    match form {
        Form::Line => serde_json::to_writer(&mut *out, &alert.to_view())?,
        Form::Row => serde_json::to_writer(
            &mut *out,
            &Row {
                level: alert.level,
                score: alert.score,
                time: alert.time,
                title: alert.title.clone(),
                principal: alert.principal.id.clone(),
                account: alert.account.clone(),
                source_ip: alert.source_ip.clone(),
                event_count: alert.event_count,
                at_least: alert.at_least,
            },
        )?,
        Form::Brief => serde_json::to_writer(&mut *out, &AlertBrief::of(alert))?,
    }
    out.push(b'\n');
    Ok(())
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> io::Result<()> {
    Ok(serde_json::to_writer(out, value)?)
}

/// Appends a text. Nearly all of them hold nothing that JSON escapes, which is told for many bytes at once.
fn text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    let escaped = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if text.bytes().fold(0, |any, byte| any | escaped(byte)) != 0 {
        return json(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

fn text_or_null(out: &mut Vec<u8>, value: Option<&str>) -> io::Result<()> {
    let Some(value) = value else { return json(out, &()) };
    text(out, value)
}

fn texts<'a>(out: &mut Vec<u8>, all: impl Iterator<Item = &'a String>) -> io::Result<()> {
    out.push(b'[');
    for one in all {
        text(out, one)?;
        out.push(b',');
    }
    out.pop_if(|last| *last == b',');
    out.push(b']');
    Ok(())
}

fn indicators(fact: &Fact<'_>, principal: bool) -> Vec<Indicator> {
    let text = |t: Option<&str>| t.map(str::to_owned);
    [
        text(fact.source).map(Indicator::Address),
        text(fact.access_key).map(Indicator::Key),
        text(fact.user_agent).map(Indicator::Agent),
        if principal { of_someone(fact) } else { None },
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Who did it, if that is somebody.
fn of_someone(fact: &Fact<'_>) -> Option<Indicator> {
    stands_for_someone(fact.kind, fact.principal).then(|| Indicator::Principal(fact.principal.to_owned()))
}

/// [`sentinel_model::Principal::identifies_someone`] by kind and id.
fn stands_for_someone(kind: PrincipalKind, id: &str) -> bool {
    !matches!(kind, PrincipalKind::Service | PrincipalKind::Account | PrincipalKind::Unknown) && id != "unknown"
}
