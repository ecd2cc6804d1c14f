//! What the alert of one window of a group rests on, from the group's buckets.
//!
//! In: the buckets of one group in order. Out: an [`Outcome`]. Which hits count is [`crate::judge`]'s; here they are
//! buckets' hits.

use std::sync::Arc;

use sentinel_model::{EventRef, Principal};

use crate::{
    Bucket, Evidence, Hit, Plan,
    judge::{self, Sight},
};

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

/// The hits of consecutive buckets.
struct Looked<'a> {
    hits: Vec<&'a Hit>,
    numbers: Vec<Vec<u64>>,
    events: Vec<u32>,
    /// Where the second and the third bucket begin.
    starts: (usize, usize),
}

impl<'a> Looked<'a> {
    fn at(plan: &Plan, buckets: [&'a Bucket; 3]) -> Self {
        let [mut hits, second, third] = buckets.map(Bucket::hits);
        let starts = (hits.len(), hits.len() + second.len());
        hits.extend(second);
        hits.extend(third);
        let numbers = hits.iter().map(|hit| plan.numbers(&hit.values)).collect();
        let (mut events, mut event) = (Vec::with_capacity(hits.len()), 0);
        for (at, hit) in hits.iter().enumerate() {
            event += u32::from(at > 0 && hits[at - 1].event() != hit.event());
            events.push(event);
        }
        Self { hits, numbers, events, starts }
    }

    fn sights(&self) -> Vec<Sight<'_>> {
        let all = self.hits.iter().zip(&self.numbers).zip(&self.events);
        all.map(|((hit, numbers), event)| Sight { time: hit.event().time, event: *event, base: hit.base, numbers })
            .collect()
    }
}

/// What the alert of window `this` rests on; `None` when nothing completes in it. The three buckets are those of
/// consecutive windows of one group; one that was never filled is empty.
pub fn evaluate(plan: &Plan, before_previous: &Bucket, previous: &Bucket, this: &Bucket) -> Option<Outcome> {
    if this.is_empty() {
        return None;
    }
    let three = [before_previous, previous, this];
    let all = Looked::at(plan, three);
    let verdict = judge::judge(plan, &all.sights(), all.starts)?;
    let hits = &all.hits;
    let mut evidence: Vec<Arc<Evidence>> = Vec::new();
    let mut contested: Vec<Contested> = Vec::new();
    for (at, by) in verdict.listed {
        let hit = hits[at];
        if evidence.last().is_none_or(|last| last.member.event != *hit.event()) {
            evidence.push(Arc::clone(&hit.evidence));
        }
        if !hit.elsewhere.is_empty() {
            note(&mut contested, hit, hits[by].event());
        }
    }
    let principal = hits[verdict.first].evidence.principal.clone();
    let at_least = three.iter().any(|bucket| bucket.is_thinned());
    Some(Outcome { evidence, principal, peak: verdict.peak, peak_events: verdict.peak_events, at_least, contested })
}

/// The hits of window `this` that complete the correlation: hits for those that refer to it.
pub fn completing<'a>(plan: &Plan, previous: &'a Bucket, this: &'a Bucket) -> Vec<&'a Hit> {
    let none = Bucket::default();
    let (start, mine) = (previous.hits().len(), this.hits());
    let all = Looked::at(plan, [&none, previous, this]);
    judge::completing(plan, &all.sights(), start).into_iter().map(|at| mine[at - start]).collect()
}

/// The first completing hit of a group that has an event within its timespan. `buckets` are those of consecutive
/// windows, from the one before the event's to the one after it.
pub fn claim(plan: &Plan, buckets: &[Bucket; 3], event: &EventRef) -> Option<EventRef> {
    let all = Looked::at(plan, buckets.each_ref());
    let listed = judge::claims(plan, &all.sights(), all.starts.0);
    let of_event = all.hits.iter().zip(listed).filter(|(hit, _)| hit.event() == event);
    of_event.filter_map(|(_, by)| by).min().map(|by| all.hits[by].event().clone())
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
