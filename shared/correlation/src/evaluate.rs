//! Which hits complete a correlation, and what the alert of one window lists.
//!
//! In: the buckets of one group in order. Out: an [`Outcome`]. A window is at least as long as the timespan, so
//! what completes in a window depends on it and the one before; an event that the window before lists already is
//! not listed again, and that depends on one window more.

use std::{collections::HashMap, sync::Arc};

use sentinel_model::{EventRef, Principal, Timestamp, time};

use crate::{Bucket, Condition, Evidence, Hit, Kind, Plan};

/// What one window's alert rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The events, in order, each once: those that lie in the timespan before a completing hit of this window and that
    /// no earlier window lists.
    pub evidence: Vec<Arc<Evidence>>,
    /// The principal of the first completing hit.
    pub principal: Principal,
    /// The largest number that the condition was compared with in this window: events, values, rules, or what was
    /// computed.
    pub peak: f64,
    /// Events in the timespan in which that was so.
    pub peak_events: usize,
    /// Whether hits had to be left out, so that there are at least so many.
    pub at_least: bool,
    /// Listed events that may belong to another group's alert.
    pub contested: Vec<Contested>,
}

/// A listed event that is a hit in other groups of the same correlation too: the alert whose completing hit comes
/// first lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct Contested {
    /// The event.
    pub event: EventRef,
    /// The first completing hit here that has it within its timespan.
    pub completed_by: EventRef,
    /// The keys of the other groups.
    pub elsewhere: Vec<u128>,
}

impl Outcome {
    /// Takes an event off the list.
    pub fn drop_event(&mut self, event: &EventRef) {
        self.evidence.retain(|e| e.member.event != *event);
    }
}

/// A hit for which the condition holds, by position among all hits looked at.
#[derive(Debug, Clone, Copy)]
struct Completion {
    at: usize,
    /// The first hit within its timespan.
    from: usize,
    number: f64,
}

/// What the alert of window `this` rests on; `None` when nothing completes in it. The three buckets are those of
/// consecutive windows of one group; one that was never filled is empty.
pub fn evaluate(plan: &Plan, before_previous: &Bucket, previous: &Bucket, this: &Bucket) -> Option<Outcome> {
    let mine = this.hits();
    if mine.is_empty() {
        return None;
    }
    let (first, second) = (before_previous.hits(), previous.hits());
    let starts = (first.len(), first.len() + second.len());
    let hits: Vec<&Hit> = first.into_iter().chain(second).chain(mine).collect();
    let completions = completions(plan, &hits, starts.1, hits.len());
    let complete = completions.first()?;
    let principal = hits[complete.at].evidence.principal.clone();
    let earlier = self::completions(plan, &hits[..starts.1], starts.0, starts.1);
    let (listed, before) = (covered(&completions, hits.len()), covered(&earlier, hits.len()));

    let mut evidence: Vec<Arc<Evidence>> = Vec::new();
    let mut contested: Vec<Contested> = Vec::new();
    for (at, hit) in hits.iter().enumerate() {
        let Some(by) = listed[at] else { continue };
        if same_event(&hits, at, |other| before[other].is_some()) {
            continue;
        }
        if evidence.last().is_none_or(|last| last.member.event != *hit.event()) {
            evidence.push(Arc::clone(&hit.evidence));
        }
        if !hit.elsewhere.is_empty() {
            note(&mut contested, hit, hits[by].event());
        }
    }
    // The greatest number; of several the first. Conditions such as "less than" have one too.
    let peak = completions.iter().fold(*complete, |peak, c| if c.number > peak.number { *c } else { peak });
    let at_least = before_previous.is_thinned() || previous.is_thinned() || this.is_thinned();
    let peak_events = distinct_events(&hits[peak.from..=peak.at]);
    Some(Outcome { evidence, principal, peak: peak.number, peak_events, at_least, contested })
}

/// The hits of window `this` that complete the correlation: hits for those that refer to it.
pub fn completing<'a>(plan: &Plan, previous: &'a Bucket, this: &'a Bucket) -> Vec<&'a Hit> {
    let (first, mine) = (previous.hits(), this.hits());
    let start = first.len();
    let hits: Vec<&Hit> = first.into_iter().chain(mine).collect();
    completions(plan, &hits, start, hits.len()).into_iter().map(|c| hits[c.at]).collect()
}

/// The first completing hit of a group that has an event within its timespan. `buckets` are those of consecutive
/// windows, from the one before the event's to the one after it.
pub fn claim(plan: &Plan, buckets: &[Bucket; 3], event: &EventRef) -> Option<EventRef> {
    let all = buckets.each_ref().map(Bucket::hits);
    let start = all[0].len();
    let hits: Vec<&Hit> = all.into_iter().flatten().collect();
    let listed = covered(&completions(plan, &hits, start, hits.len()), hits.len());
    hits.iter()
        .zip(listed)
        .filter(|(hit, _)| hit.event() == event)
        .filter_map(|(_, by)| by)
        .min()
        .map(|by| hits[by].event().clone())
}

fn note(contested: &mut Vec<Contested>, hit: &Hit, by: &EventRef) {
    match contested.last_mut() {
        Some(last) if last.event == *hit.event() => {
            last.completed_by = last.completed_by.clone().min(by.clone());
            last.elsewhere.extend(&hit.elsewhere);
            last.elsewhere.sort_unstable();
            last.elsewhere.dedup();
        }
        _ => contested.push(Contested {
            event: hit.event().clone(),
            completed_by: by.clone(),
            elsewhere: hit.elsewhere.clone(),
        }),
    }
}

/// Whether something is so for any hit of the same event: they are neighbours in order.
fn same_event(hits: &[&Hit], at: usize, is_so: impl Fn(usize) -> bool) -> bool {
    let event = hits[at].event();
    let back = (0..=at).rev().take_while(|i| hits[*i].event() == event);
    let on = (at + 1..hits.len()).take_while(|i| hits[*i].event() == event);
    back.chain(on).any(is_so)
}

/// For every hit the first completion that has it within its timespan.
fn covered(completions: &[Completion], hits: usize) -> Vec<Option<usize>> {
    let mut by = vec![None; hits];
    let mut done = 0;
    for c in completions {
        for place in &mut by[c.from.max(done)..=c.at] {
            *place = Some(c.at);
        }
        done = c.at + 1;
    }
    by
}

fn distinct_events(hits: &[&Hit]) -> usize {
    hits.iter().enumerate().filter(|(i, hit)| *i == 0 || hits[i - 1].event() != hit.event()).count()
}

/// The completions among `hits[from..to]`; the hits are in order.
fn completions(plan: &Plan, hits: &[&Hit], from: usize, to: usize) -> Vec<Completion> {
    let mut found = Vec::new();
    if from >= to {
        return found;
    }
    let span = i64::try_from(plan.timespan).unwrap_or(i64::MAX);
    let mut window = Sliding::new(plan);
    let mut first = 0;
    for at in 0..to {
        let earliest = time::plus_seconds(hits[at].event().time, -span);
        while hits[first].event().time < earliest {
            window.remove(hits[first]);
            first += 1;
        }
        window.add(hits[at]);
        if at < from {
            continue;
        }
        if let Some(number) = window.number(&hits[first..=at], earliest) {
            found.push(Completion { at, from: first, number });
        }
    }
    found
}

/// What is known of the hits within the timespan while it slides.
struct Sliding<'p> {
    plan: &'p Plan,
    /// Hits by rule.
    bases: Vec<usize>,
    /// Hits by value.
    values: HashMap<String, usize>,
    /// Hits by event.
    events: HashMap<EventRef, usize>,
    chain: Option<Chain>,
}

impl<'p> Sliding<'p> {
    fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            bases: vec![0; plan.bases.len()],
            values: HashMap::new(),
            events: HashMap::new(),
            chain: (plan.kind == Kind::TemporalOrdered).then(|| Chain::new(plan.steps())),
        }
    }

    fn add(&mut self, hit: &Hit) {
        if let Some(count) = self.bases.get_mut(usize::from(hit.base)) {
            *count += 1;
        }
        match self.plan.kind {
            Kind::EventCount => *self.events.entry(hit.event().clone()).or_default() += 1,
            Kind::ValueCount => {
                for value in &hit.values {
                    *self.values.entry(value.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
        if let Some(chain) = &mut self.chain {
            chain.add(hit);
        }
    }

    fn remove(&mut self, hit: &Hit) {
        if let Some(count) = self.bases.get_mut(usize::from(hit.base)) {
            *count -= 1;
        }
        match self.plan.kind {
            Kind::EventCount => take(&mut self.events, hit.event()),
            Kind::ValueCount => hit.values.iter().for_each(|value| take(&mut self.values, value)),
            _ => {}
        }
    }

    /// The number that the condition is about, if it holds.
    fn number(&self, window: &[&Hit], earliest: Timestamp) -> Option<f64> {
        let matched = self.bases.iter().filter(|count| **count > 0).count();
        let number = match self.plan.kind {
            Kind::EventCount => whole(self.events.len()),
            Kind::ValueCount => whole(self.values.len()),
            Kind::Temporal => whole(matched),
            Kind::TemporalOrdered => {
                let chain = self.chain.as_ref()?;
                chain.is_done_since(earliest).then(|| whole(matched))?
            }
            Kind::ValueSum | Kind::ValueAvg | Kind::ValuePercentile(_) => computed(self.plan.kind, window)?,
        };
        let enough = match &self.plan.condition {
            Condition::Threshold(all) => all.iter().all(|(op, than)| op.holds(number, limit(*than))),
            Condition::All => matched == self.bases.len(),
            Condition::Expression(expression) => {
                expression.holds(&|base| self.bases.get(usize::from(base)).is_some_and(|count| *count > 0))
            }
        };
        enough.then_some(number)
    }
}

fn take<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn whole(count: usize) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "a threshold above 2^52 is none")]
fn limit(than: u64) -> f64 {
    than as f64
}

/// What is computed from the values of a window; each event counts once, with the values of its first rule.
fn computed(kind: Kind, window: &[&Hit]) -> Option<f64> {
    let firsts = window.iter().enumerate().filter(|(i, hit)| *i == 0 || window[i - 1].event() != hit.event());
    let values = firsts.flat_map(|(_, hit)| &hit.values);
    let mut numbers: Vec<f64> = values.filter_map(|v| v.trim().parse().ok()).filter(|n: &f64| n.is_finite()).collect();
    if numbers.is_empty() {
        return None;
    }
    let sum = || numbers.iter().sum::<f64>();
    Some(match kind {
        Kind::ValueSum => sum(),
        Kind::ValueAvg => sum() / whole(numbers.len()),
        Kind::ValuePercentile(rank) => {
            numbers.sort_by(f64::total_cmp);
            percentile(&numbers, f64::from(rank.min(100)))
        }
        Kind::EventCount | Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered => return None,
    })
}

/// Linear interpolation between the two nearest ranks; `sorted` is not empty.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank lies within the list")]
pub(crate) fn percentile(sorted: &[f64], rank: f64) -> f64 {
    let place = rank / 100.0 * whole(sorted.len() - 1);
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high.min(sorted.len() - 1)] - sorted[low]) * (place - place.floor())
}

/// Hits of one rule and second that are told apart.
const ALIKE: usize = 3;

/// How far the steps of an ordered correlation got, each step another event than the one before it. Events of one second count as in
/// order, whatever order they have here: their real one is not recorded.
struct Chain {
    steps: Vec<u16>,
    /// For every step the chains that end with it: the latest starts, with different last events, at most two.
    ends: Vec<Vec<(Timestamp, EventRef)>>,
    /// Hits of the second that is looked at.
    second: i64,
    now: Vec<(u16, EventRef)>,
}

impl Chain {
    fn new(steps: Vec<u16>) -> Self {
        Self { ends: vec![Vec::new(); steps.len()], steps, second: i64::MIN, now: Vec::new() }
    }

    fn add(&mut self, hit: &Hit) {
        let second = hit.event().time.as_second();
        if second != self.second {
            self.second = second;
            self.now.clear();
        }
        // Of one second a few of each rule are enough: they differ in nothing but being different events.
        if self.now.iter().filter(|(base, _)| *base == hit.base).count() < ALIKE {
            self.now.push((hit.base, hit.event().clone()));
        }
        for step in 0..self.steps.len() {
            for at in 0..self.now.len() {
                if self.now[at].0 == self.steps[step] {
                    let event = self.now[at].1.clone();
                    self.extend(step, &event);
                }
            }
        }
    }

    /// Lets an event be the step, after whatever chains it can follow.
    fn extend(&mut self, step: usize, event: &EventRef) {
        let start = match step.checked_sub(1) {
            None => Some(event.time),
            Some(before) => self.ends[before].iter().filter(|(_, last)| last != event).map(|(start, _)| *start).max(),
        };
        let Some(start) = start else { return };
        let ends = &mut self.ends[step];
        match ends.iter_mut().find(|(_, last)| last == event) {
            Some(known) => known.0 = known.0.max(start),
            None => ends.push((start, event.clone())),
        }
        ends.sort_by(|a, b| b.cmp(a));
        ends.truncate(2);
    }

    fn is_done_since(&self, earliest: Timestamp) -> bool {
        self.ends.last().is_some_and(|ends| ends.iter().any(|(start, _)| *start >= earliest))
    }
}
