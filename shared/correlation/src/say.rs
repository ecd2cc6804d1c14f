//! What a correlation's alert says: an outcome as a detection, with sentences for people.

use std::collections::HashMap;

use sentinel_model::{Correlated, Detection, Member, Window, alert};

use crate::{Condition, Group, Kind, Outcome, Plan};

/// Longest group value or name in a sentence, in characters.
const MAX_CHARS: usize = 120;
/// Calls named in the sentence on what was done.
const MAX_CALLS: usize = 6;

impl Plan {
    /// The identity of the alert of a group and window.
    pub fn alert_id(&self, account: &str, group: &Group, window: Window) -> String {
        alert::correlation_alert_id(&self.rule.id, account, &group.0, window)
    }

    /// The detection that an outcome makes.
    pub fn detection(
        &self,
        account: &str,
        group: &Group,
        window: Window,
        outcome: &Outcome,
        revision: u64,
    ) -> Detection {
        let members: Vec<Member> = outcome.evidence.iter().map(|e| e.member.clone()).collect();
        let mut calls = Calls::default();
        for member in &members {
            calls.add(&member.service, &member.action, member.success);
        }
        let finding = self.finding(group, outcome.peak, outcome.peak_events, outcome.at_least);
        let reasons = vec![finding, calls.said(), self.why.clone()];
        Detection {
            alert_id: self.alert_id(account, group, window),
            rule: self.rule.clone(),
            attack: self.attack.clone(),
            window,
            principal: outcome.principal.clone(),
            account: account.to_owned(),
            members,
            reasons,
            correlated: Some(Correlated { revision, at_least: outcome.at_least, superseded_by: None }),
        }
    }

    /// What takes an alert back: `superseded_by` has its events now.
    pub fn withdrawal(
        &self,
        account: &str,
        group: &Group,
        window: Window,
        revision: u64,
        superseded_by: String,
    ) -> Detection {
        Detection {
            alert_id: self.alert_id(account, group, window),
            rule: self.rule.clone(),
            attack: self.attack.clone(),
            window,
            principal: sentinel_model::Principal::unknown(),
            account: account.to_owned(),
            members: Vec::new(),
            reasons: Vec::new(),
            correlated: Some(Correlated { revision, at_least: false, superseded_by: Some(superseded_by) }),
        }
    }

    /// The sentence that says count, span and group: of what an [`Outcome`] has under the same names.
    pub fn finding(&self, group: &Group, peak: f64, peak_events: usize, at_least: bool) -> String {
        let least = if at_least { "At least " } else { "" };
        let (events, number) = (plural(peak_events, "event"), peak);
        let fields = list(self.fields.iter().map(|f| name(f)), " and ");
        let any = list(self.bases.iter().map(|b| format!("\"{}\"", name(b))), " or ");
        let what = match self.kind {
            Kind::ValueCount => format!("{least}{number} different values of {fields} in {events} of {any}"),
            Kind::Temporal if matches!(self.condition, Condition::All) => {
                format!("{least}{events} of {}", list(self.bases.iter().map(|b| format!("\"{}\"", name(b))), " and "))
            }
            Kind::EventCount | Kind::Temporal => format!("{least}{events} of {any}"),
            Kind::TemporalOrdered => {
                let steps = self.steps();
                let steps = steps.iter().filter_map(|s| self.bases.get(usize::from(*s)));
                format!("{least}{events}: {}", list(steps.map(|b| format!("\"{}\"", name(b))), ", then "))
            }
            Kind::ValueSum => format!("The sum of {fields} was {number} in {events} of {any}"),
            Kind::ValueAvg => format!("The mean of {fields} was {number} in {events} of {any}"),
            Kind::ValuePercentile(50) => format!("The median of {fields} was {number} in {events} of {any}"),
            Kind::ValuePercentile(rank) => {
                format!("The {rank}th percentile of {fields} was {number} in {events} of {any}")
            }
        };
        let group = list(
            self.group_by.iter().zip(&group.0).map(|(field, value)| {
                format!("{} {}", name(field), value.as_deref().map_or_else(|| String::from("absent"), name))
            }),
            ", ",
        );
        let whose = if group.is_empty() { String::new() } else { format!(" ({group})") };
        format!("{what} within {}{whose}.", span(self.timespan))
    }
}

/// The sentence on what the events were, in the making.
#[derive(Debug, Default)]
pub struct Calls {
    /// How many there are of each, and how many of those failed.
    counts: HashMap<String, (usize, usize)>,
    /// The call that came last, and what it has to be counted: one call often comes many times.
    last: String,
    pending: (usize, usize),
    call: String,
}

impl Calls {
    /// Adds an event: the host name of its service, its operation, and whether it succeeded.
    pub fn add(&mut self, service: &str, action: &str, success: bool) {
        self.call.clear();
        push_name(&mut self.call, service.strip_suffix(".amazonaws.com").unwrap_or(service));
        self.call.push(':');
        push_name(&mut self.call, action);
        if self.call != self.last {
            self.count();
            std::mem::swap(&mut self.call, &mut self.last);
        }
        self.pending = (self.pending.0 + 1, self.pending.1 + usize::from(!success));
    }

    fn count(&mut self) {
        let (all, failed) = std::mem::take(&mut self.pending);
        match self.counts.get_mut(&self.last) {
            Some(counts) => *counts = (counts.0 + all, counts.1 + failed),
            None if all > 0 => _ = self.counts.insert(self.last.clone(), (all, failed)),
            None => {}
        }
    }

    /// The sentence.
    pub fn said(mut self) -> String {
        self.count();
        let mut calls: Vec<_> = self.counts.iter().collect();
        calls.sort_by(|a, b| (b.1.0, a.0).cmp(&(a.1.0, b.0)));
        let more = calls.len().saturating_sub(MAX_CALLS);
        let shown = calls.iter().take(MAX_CALLS).map(|(call, (all, failed))| match failed {
            0 => format!("{all} {call}"),
            failed if failed == all => format!("{all} {call} (failed)"),
            failed => format!("{all} {call} ({failed} failed)"),
        });
        let more = if more > 0 { format!(" and {}", plural(more, "other call")) } else { String::new() };
        format!("Calls: {}{more}.", list(shown, ", "))
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn list(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

/// A time span in its largest whole unit.
fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (unit, word) = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, "second"));
    plural(usize::try_from(seconds / unit).unwrap_or(usize::MAX), word)
}

/// A text that somebody else chose, on one line and cut to a bearable length.
fn name(text: &str) -> String {
    let mut out = String::new();
    push_name(&mut out, text);
    out
}

fn push_name(out: &mut String, text: &str) {
    // Nearly all names: nothing to clean, nothing to cut. Without a way out early, many bytes are looked at at once.
    let plain = |b: u8| u8::from(b.wrapping_sub(b' ') < 0x7f - b' ');
    if text.len() <= MAX_CHARS && text.bytes().fold(1, |all, b| all & plain(b)) == 1 {
        return out.push_str(text);
    }
    out.extend(text.chars().take(MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }));
    if text.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
}
