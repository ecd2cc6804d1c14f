//! One pass over events, with two rule sets at once.
//!
//! In: records in any order, with repeats. Out: what each of the two sets made of them, as a scan collects it: matches
//! of single events, and hits of correlations. What is held in memory is bounded; the rest is on disk.

use std::{collections::BTreeSet, io};

use sentinel_detect::{Call, Correlator, LoadError, LoadOptions, LoadReport, Memory, Noted, RuleIndex, RuleSet};
use sentinel_enrich::{Collector, collect::Fact};
use sentinel_json::Value;
use sentinel_model::{Event, Outcome, Timestamp, alert::Matched};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// Days told apart: a century. Whoever writes a log can choose its times.
const MOST_DAYS: usize = 36_525;
/// Of the memory for matches, the part that hits of correlations get.
const CORRELATED: usize = 4;

/// A rule set, and what loading it did.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rules.
    pub rules: RuleSet,
    /// What loading did.
    pub report: LoadReport,
}

impl Loaded {
    /// Loads what the options name, and texts (a name each) beside it.
    pub fn load<'a>(
        options: &LoadOptions,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LoadError> {
        let (rules, report) = RuleSet::load_with(options, texts)?;
        Ok(Self { rules, report })
    }
}

/// The two sets that are compared.
#[derive(Debug, Default)]
pub struct Pair {
    /// The rules as they are.
    pub baseline: Loaded,
    /// The rules that are tried.
    pub candidate: Loaded,
}

impl Pair {
    pub(crate) fn sides(&self) -> [&Loaded; 2] {
        [&self.baseline, &self.candidate]
    }
}

/// What one worker's events gave.
pub struct Pass {
    pub(crate) events: u64,
    pub(crate) days: Days,
    /// Those of the baseline, then those of the candidate.
    pub(crate) halves: [Half; 2],
}

/// What one set made of the events.
pub(crate) struct Half {
    pub(crate) collector: Collector,
    pub(crate) correlator: Correlator,
    /// Made for the first record.
    memory: Option<Memory>,
    hits: Vec<RuleIndex>,
    numbers: Vec<u32>,
}

impl Pass {
    /// A pass that holds about `budget` bytes of matches in memory. The numbers of workers begin at 0.
    pub fn new(budget: usize, worker: u16) -> Self {
        let half = || Half::new(budget / 2, worker);
        Self { events: 0, days: Days::default(), halves: [half(), half()] }
    }

    /// Adds a record of this time. Its event is asked for only when a rule matches; `None` says that there is none to be
    /// had. All records of one pass, and of those that it is compared with, are matched with one pair of sets.
    pub fn add(
        &mut self,
        pair: &Pair,
        record: Value<'_>,
        time: Timestamp,
        event: impl FnOnce() -> Option<Event>,
    ) -> io::Result<()> {
        self.events += 1;
        self.days.note(time);
        let mut any = false;
        for (half, side) in self.halves.iter_mut().zip(pair.sides()) {
            side.rules.matches(record, &mut half.hits);
            any |= !half.hits.is_empty();
        }
        if !any {
            return Ok(());
        }
        let Some(event) = event() else { return Ok(()) };
        let mut matched = None;
        for (half, side) in self.halves.iter_mut().zip(pair.sides()) {
            half.add(&side.rules, record, &event, &mut matched)?;
        }
        Ok(())
    }

    /// Events taken so far, copies included.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Puts in order what was collected: done by the worker, so that all do it at once.
    pub fn seal(&mut self) {
        for half in &mut self.halves {
            half.collector.seal();
            half.correlator.seal();
        }
    }
}

impl Half {
    fn new(budget: usize, worker: u16) -> Self {
        let correlated = budget / CORRELATED;
        Self {
            collector: Collector::new(budget - correlated, worker),
            correlator: Correlator::with_budget(correlated),
            memory: None,
            hits: Vec::new(),
            numbers: Vec::new(),
        }
    }

    fn add(&mut self, rules: &RuleSet, record: Value<'_>, event: &Event, matched: &mut Option<Seen>) -> io::Result<()> {
        rules.suppress(event, &mut self.hits);
        if self.hits.is_empty() {
            return Ok(());
        }
        // What happened is the same whichever rules say so.
        let seen = matched.get_or_insert_with(|| Seen::new(rules, event));
        let member = &seen.matched.member;
        let fact = Fact {
            time: event.time,
            id: &event.id,
            content: event.content,
            account: &event.account,
            principal: &event.principal.id,
            kind: event.principal.kind,
            who: &seen.who,
            region: event.region.as_deref(),
            source: member.source_ip.as_deref(),
            user_agent: member.user_agent.as_deref(),
            access_key: member.access_key_id.as_deref(),
            class: self.collector.class(&member.service, &member.action, member.read_only, member.success),
            service: &member.service,
            action: &member.action,
            invoked_by: event.invoked_by.as_deref(),
            failure: match &event.outcome {
                Outcome::Failure { code, .. } => Some(code),
                Outcome::Success => None,
            },
        };
        let at = self.collector.keep(&fact)?;
        if rules.feeds_correlations(&self.hits) {
            let noted = Noted { account: fact.account, time: fact.time, at, event: Some(event) };
            let looked = rules.look(record, self.memory.get_or_insert_with(|| rules.memory()));
            self.correlator.add(rules, &noted, &looked, &self.hits).map_err(io::Error::other)?;
        }
        self.numbers.clear();
        self.numbers.extend(self.hits.iter().filter(|hit| rules.alerts_alone(**hit)).map(|hit| hit.number()));
        if self.numbers.is_empty() {
            return Ok(());
        }
        self.collector.add(at, &fact, &self.numbers)
    }
}

/// What both sets need of an event that either matched.
struct Seen {
    matched: Matched,
    who: String,
}

impl Seen {
    fn new(rules: &RuleSet, event: &Event) -> Self {
        let mut who = String::new();
        Call::who(&event.principal, &mut who);
        Self { matched: rules.matched(event, &[]).0, who }
    }
}

/// The days of which there are events.
#[derive(Debug, Default)]
pub(crate) struct Days {
    known: BTreeSet<i64>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Days {
    fn note(&mut self, time: Timestamp) {
        let day = time.as_second().div_euclid(DAY);
        if self.known.len() < MOST_DAYS {
            self.known.insert(day);
        }
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.known.extend(other.known);
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.into_iter().chain(other.last).max();
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.known.len() as u64
    }

    /// Time of the first and of the last event.
    pub(crate) fn span(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_once_by_any_number_of_workers_and_never_without_bound() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (mut one, mut two) = (Days::default(), Days::default());
        for time in ["2026-03-02T00:00:00Z", "2026-03-02T23:59:59Z", "1969-12-31T23:00:00Z"] {
            one.note(at(time));
        }
        two.note(at("2026-03-02T10:00:00Z"));
        two.note(at("2026-03-03T00:00:00Z"));
        one.merge(two);
        assert_eq!(one.count(), 3);
        assert_eq!(one.span(), (Some(at("1969-12-31T23:00:00Z")), Some(at("2026-03-03T00:00:00Z"))));
        for day in 0..40_000 {
            one.note(Timestamp::from_second(day * DAY).unwrap());
        }
        assert_eq!(one.count(), MOST_DAYS as u64);
    }
}
