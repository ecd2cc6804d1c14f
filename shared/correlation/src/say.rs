//! What a correlation's alert says: an outcome as a detection, with sentences for people.

use std::ops::Range;

use sentinel_model::{Correlated, Detection, Member, Window, alert, fast_hash::FastMap, hash};

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

/// A call as sentences name it, by the host name of its service and its operation.
pub fn call_name(service: &str, action: &str) -> String {
    let mut said = String::new();
    push_call(&mut said, service, action);
    said
}

fn push_call(into: &mut String, service: &str, action: &str) {
    push_name(into, service.strip_suffix(".amazonaws.com").unwrap_or(service));
    into.push(':');
    push_name(into, action);
}

/// The sentence on what the events were, in the making.
#[derive(Debug, Default)]
pub struct Calls {
    counts: Vec<Count>,
    /// Their names, one after the other.
    names: String,
    /// Where the count of a name is, by its hash, or by a number behind it if another name has that. Hashes have no secret: an
    /// alert lists a few thousand events at most, so whoever makes names of one hash makes a sentence slow, not wrong.
    places: FastMap<u64, usize>,
    /// The count of the call that came last: one call often comes many times.
    last: usize,
    call: String,
}

/// How many calls there are of one name, and how many of those failed.
#[derive(Debug)]
struct Count {
    name: Range<usize>,
    all: usize,
    failed: usize,
}

impl Calls {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.names.clear();
        self.places.clear();
    }

    /// Adds an event: the host name of its service, its operation, and whether it succeeded.
    pub fn add(&mut self, service: &str, action: &str, success: bool) {
        let mut call = std::mem::take(&mut self.call);
        call.clear();
        push_call(&mut call, service, action);
        self.add_named(&call, Self::hash(&call), success);
        self.call = call;
    }

    /// Adds an event by what [`call_name`] makes of it, and the hash of that.
    pub fn add_named(&mut self, name: &str, hash: u64, success: bool) {
        if !self.is_named(self.last, name) {
            self.last = self.place(name, hash);
        }
        let count = &mut self.counts[self.last];
        count.all += 1;
        count.failed += usize::from(!success);
    }

    /// The hash of a name.
    pub fn hash(name: &str) -> u64 {
        hash::hash_64(name.as_bytes())
    }

    fn is_named(&self, place: usize, name: &str) -> bool {
        self.counts.get(place).is_some_and(|count| self.names[count.name.clone()] == *name)
    }

    /// Where a name is counted; a new one is entered.
    fn place(&mut self, name: &str, mut hash: u64) -> usize {
        while let Some(place) = self.places.get(&hash) {
            if self.is_named(*place, name) {
                return *place;
            }
            hash = hash.wrapping_add(1);
        }
        let from = self.names.len();
        self.names.push_str(name);
        self.counts.push(Count { name: from..self.names.len(), all: 0, failed: 0 });
        self.places.insert(hash, self.counts.len() - 1);
        self.counts.len() - 1
    }

    /// The sentence: the most frequent calls, of equals the first by name.
    pub fn said(&self) -> String {
        let named = |count: &Count| &self.names[count.name.clone()];
        let order = |a: &&Count, b: &&Count| b.all.cmp(&a.all).then_with(|| named(a).cmp(named(b)));
        let mut calls: Vec<&Count> = self.counts.iter().collect();
        let more = calls.len().saturating_sub(MAX_CALLS);
        if more > 0 {
            calls.select_nth_unstable_by(MAX_CALLS, order);
            calls.truncate(MAX_CALLS);
        }
        calls.sort_unstable_by(order);
        let shown = calls.into_iter().map(|count| match (count.all, count.failed, named(count)) {
            (all, 0, call) => format!("{all} {call}"),
            (all, failed, call) if failed == all => format!("{all} {call} (failed)"),
            (all, failed, call) => format!("{all} {call} ({failed} failed)"),
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
