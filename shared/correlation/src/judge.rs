//! Which hits complete a correlation, and which of them the alert of one window lists.
//!
//! In: the hits of one group in three consecutive windows, in order, each as little as it takes ([`Sight`]). Out: a
//! [`Verdict`]. A window is at least as long as the timespan, so what completes in a window depends on it and the one
//! before; an event that the window before lists already is not listed again, and that depends on one window more.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use sentinel_model::{Timestamp, hash, time};

use crate::{Condition, Kind, Op, Plan};

/// A hit, as far as a condition looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Its time.
    pub time: Timestamp,
    /// Its event: the same number as its neighbour's for the same event, else another one.
    pub event: u32,
    /// Which rule: its position among the plan's bases.
    pub base: u16,
    /// What [`Plan::numbers`] makes of its values.
    pub numbers: &'a [u64],
}

/// What one window's alert rests on, by position among the hits.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The first completing hit.
    pub first: usize,
    /// The hits that the alert lists, each with the first completing hit that has it within its timespan.
    pub listed: Vec<(usize, usize)>,
    /// See [`crate::Outcome::peak`].
    pub peak: f64,
    /// See [`crate::Outcome::peak_events`].
    pub peak_events: usize,
}

/// A hit for which the condition holds.
#[derive(Debug, Clone, Copy)]
struct Completion {
    at: usize,
    /// The first hit within its timespan.
    from: usize,
    number: f64,
}

impl Plan {
    /// What a condition looks at of a hit's values: a hash of each where different ones are counted, the bits of those
    /// that are finite numbers where they are computed with.
    pub fn numbers(&self, values: &[String]) -> Vec<u64> {
        values.iter().filter_map(|value| self.number(value)).collect()
    }

    /// The same of one value.
    pub fn number(&self, value: &str) -> Option<u64> {
        match self.kind {
            Kind::ValueCount => Some(hash::hash_64(value.as_bytes())),
            Kind::ValueSum | Kind::ValueAvg | Kind::ValuePercentile(_) => {
                value.trim().parse().ok().filter(|n: &f64| n.is_finite()).map(f64::to_bits)
            }
            Kind::EventCount | Kind::Temporal | Kind::TemporalOrdered => None,
        }
    }

    /// Whether so many hits with so many values can be enough, whatever they are: told without looking at them.
    pub fn can_do_with(&self, hits: usize, values: usize) -> bool {
        // Each of these grows with what is counted, so what is more than all of it is out of reach.
        let reach = |all: &[(Op, u64)], count: usize| {
            let within = |op, than: u64| match op {
                Op::Gt => whole(count) > limit(than),
                Op::Gte | Op::Eq => whole(count) >= limit(than),
                _ => true,
            };
            all.iter().all(|(op, than)| within(*op, *than))
        };
        match (&self.kind, &self.condition) {
            (Kind::EventCount | Kind::Temporal | Kind::TemporalOrdered, Condition::Threshold(all)) => reach(all, hits),
            (Kind::ValueCount, Condition::Threshold(all)) => reach(all, values),
            (_, Condition::All) => hits >= self.bases.len(),
            _ => true,
        }
    }
}

/// What the alert of the last of three windows rests on; `None` when nothing completes in it. `starts` are the
/// positions of the first hits of the second and the third.
pub fn judge(plan: &Plan, hits: &[Sight<'_>], starts: (usize, usize)) -> Option<Verdict> {
    let completions = completions(plan, hits, starts.1, hits.len());
    let complete = completions.first()?;
    let mut listed = Vec::new();
    // Only what lies before this window can be listed by the one before.
    let before = if complete.from < starts.1 {
        covered(&self::completions(plan, &hits[..starts.1], starts.0, starts.1), starts.1)
    } else {
        Vec::new()
    };
    let known = |at: usize| same_event(hits, at, |other| before.get(other).copied().flatten().is_some());
    for (at, by) in covered(&completions, hits.len()).into_iter().enumerate().skip(complete.from) {
        if let Some(by) = by
            && (at >= starts.1 || !known(at))
        {
            listed.push((at, by));
        }
    }
    // The greatest number; of several the first. Conditions such as "less than" have one too.
    let peak = completions.iter().fold(*complete, |peak, c| if c.number > peak.number { *c } else { peak });
    let peak_events = distinct_events(&hits[peak.from..=peak.at]);
    Some(Verdict { first: complete.at, listed, peak: peak.number, peak_events })
}

/// The hits from `start` on that complete the correlation; those before it are of the window before.
pub fn completing(plan: &Plan, hits: &[Sight<'_>], start: usize) -> Vec<usize> {
    completions(plan, hits, start, hits.len()).into_iter().map(|c| c.at).collect()
}

/// For every hit the first completing one from `start` on that has it within its timespan.
pub(crate) fn claims(plan: &Plan, hits: &[Sight<'_>], start: usize) -> Vec<Option<usize>> {
    covered(&completions(plan, hits, start, hits.len()), hits.len())
}

/// Whether something is so for any hit of the same event: they are neighbours in order.
fn same_event(hits: &[Sight<'_>], at: usize, is_so: impl Fn(usize) -> bool) -> bool {
    let event = hits[at].event;
    let back = (0..=at).rev().take_while(|i| hits[*i].event == event);
    let on = (at + 1..hits.len()).take_while(|i| hits[*i].event == event);
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

fn distinct_events(hits: &[Sight<'_>]) -> usize {
    hits.iter().enumerate().filter(|(i, hit)| *i == 0 || hits[i - 1].event != hit.event).count()
}

/// The completions among `hits[from..to]`; the hits are in order.
fn completions(plan: &Plan, hits: &[Sight<'_>], from: usize, to: usize) -> Vec<Completion> {
    let mut found = Vec::new();
    if from >= to || !plan.can_do_with(to, usize::MAX) {
        return found;
    }
    let span = i64::try_from(plan.timespan).unwrap_or(i64::MAX);
    // What lies further back than the timespan of the first that may complete is in nobody's.
    let earliest = time::plus_seconds(hits[from].time, -span);
    let mut first = hits[..from].partition_point(|hit| hit.time < earliest);
    let mut window = Sliding::new(plan);
    let begin = first;
    for at in begin..to {
        let earliest = time::plus_seconds(hits[at].time, -span);
        while hits[first].time < earliest {
            window.remove(hits, first, at);
            first += 1;
        }
        window.add(hits, first, at);
        if at < from {
            continue;
        }
        if let Some(number) = window.number(&hits[first..=at], earliest) {
            found.push(Completion { at, from: first, number });
        }
    }
    found
}

/// Takes keys that are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash::hash_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// What is known of the hits within the timespan while it slides.
struct Sliding<'p> {
    plan: &'p Plan,
    /// Hits by rule.
    bases: Vec<usize>,
    /// How many rules have a hit.
    matched: usize,
    /// Hits by value.
    values: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    /// How many events.
    events: usize,
    chain: Option<Chain>,
}

impl<'p> Sliding<'p> {
    fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            bases: vec![0; plan.bases.len()],
            matched: 0,
            values: HashMap::default(),
            events: 0,
            chain: (plan.kind == Kind::TemporalOrdered).then(|| Chain::new(plan.steps())),
        }
    }

    /// Takes in the hit at `at`; the window begins at `first`.
    fn add(&mut self, hits: &[Sight<'_>], first: usize, at: usize) {
        let hit = &hits[at];
        if let Some(count) = self.bases.get_mut(usize::from(hit.base)) {
            self.matched += usize::from(*count == 0);
            *count += 1;
        }
        self.events += usize::from(at == first || hits[at - 1].event != hit.event);
        if self.plan.kind == Kind::ValueCount {
            for value in hit.numbers {
                *self.values.entry(*value).or_default() += 1;
            }
        }
        if let Some(chain) = &mut self.chain {
            chain.add(hit);
        }
    }

    /// Leaves out the hit at `first`; the window ends before `end`.
    fn remove(&mut self, hits: &[Sight<'_>], first: usize, end: usize) {
        let hit = &hits[first];
        if let Some(count) = self.bases.get_mut(usize::from(hit.base)) {
            *count -= 1;
            self.matched -= usize::from(*count == 0);
        }
        self.events -= usize::from(first + 1 >= end || hits[first + 1].event != hit.event);
        if self.plan.kind == Kind::ValueCount {
            hit.numbers.iter().for_each(|value| self.take(*value));
        }
    }

    fn take(&mut self, value: u64) {
        if let Some(count) = self.values.get_mut(&value) {
            *count -= 1;
            if *count == 0 {
                self.values.remove(&value);
            }
        }
    }

    /// The number that the condition is about, if it holds.
    fn number(&self, window: &[Sight<'_>], earliest: Timestamp) -> Option<f64> {
        let number = match self.plan.kind {
            Kind::EventCount => whole(self.events),
            Kind::ValueCount => whole(self.values.len()),
            Kind::Temporal => whole(self.matched),
            Kind::TemporalOrdered => {
                let chain = self.chain.as_ref()?;
                chain.is_done_since(earliest).then(|| whole(self.matched))?
            }
            Kind::ValueSum | Kind::ValueAvg | Kind::ValuePercentile(_) => computed(self.plan.kind, window)?,
        };
        let enough = match &self.plan.condition {
            Condition::Threshold(all) => all.iter().all(|(op, than)| op.holds(number, limit(*than))),
            Condition::All => self.matched == self.bases.len(),
            Condition::Expression(expression) => {
                expression.holds(&|base| self.bases.get(usize::from(base)).is_some_and(|count| *count > 0))
            }
        };
        enough.then_some(number)
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
fn computed(kind: Kind, window: &[Sight<'_>]) -> Option<f64> {
    let firsts = window.iter().enumerate().filter(|(i, hit)| *i == 0 || window[i - 1].event != hit.event);
    let mut numbers: Vec<f64> = firsts.flat_map(|(_, hit)| hit.numbers).map(|bits| f64::from_bits(*bits)).collect();
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
    ends: Vec<Vec<(Timestamp, u32)>>,
    /// Hits of the second that is looked at: rule, event and its time.
    second: i64,
    now: Vec<(u16, u32, Timestamp)>,
}

impl Chain {
    fn new(steps: Vec<u16>) -> Self {
        Self { ends: vec![Vec::new(); steps.len()], steps, second: i64::MIN, now: Vec::new() }
    }

    fn add(&mut self, hit: &Sight<'_>) {
        let second = hit.time.as_second();
        if second != self.second {
            self.second = second;
            self.now.clear();
        }
        // Of one second a few of each rule are enough: they differ in nothing but being different events.
        if self.now.iter().filter(|(base, ..)| *base == hit.base).count() < ALIKE {
            self.now.push((hit.base, hit.event, hit.time));
        }
        for step in 0..self.steps.len() {
            for at in 0..self.now.len() {
                let (base, event, time) = self.now[at];
                if base == self.steps[step] {
                    self.extend(step, event, time);
                }
            }
        }
    }

    /// Lets an event be the step, after whatever chains it can follow.
    fn extend(&mut self, step: usize, event: u32, time: Timestamp) {
        let start = match step.checked_sub(1) {
            None => Some(time),
            Some(before) => self.ends[before].iter().filter(|(_, last)| *last != event).map(|(start, _)| *start).max(),
        };
        let Some(start) = start else { return };
        let ends = &mut self.ends[step];
        match ends.iter_mut().find(|(_, last)| *last == event) {
            Some(known) => known.0 = known.0.max(start),
            None => ends.push((start, event)),
        }
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.truncate(2);
    }

    fn is_done_since(&self, earliest: Timestamp) -> bool {
        self.ends.last().is_some_and(|ends| ends.iter().any(|(start, _)| *start >= earliest))
    }
}
