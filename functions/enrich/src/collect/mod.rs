//! Alerts of a whole input from the matches of its events, in bounded memory: what `scan` uses.
//!
//! In: what matched, from any number of workers, each with a [`Collector`], in any order and with repeats. Out:
//! the alerts that the pipeline would have stored, one at a time, in order. An event is held once ([`Fact`]) and named
//! by its place; past a budget it goes to disk. At the end ([`Collected`]) repeats are left out, the matches of one
//! rule, principal, account and window are brought together, and each alert is made just to be printed;
//! so are the alerts of correlations, which say which events they are of ([`Found`]). The result
//! follows from the set of events alone: neither their order nor the number of workers changes it.

use std::{cmp::Ordering, io, sync::Arc};

use sentinel_model::{
    Alert, Level, Timestamp, Window,
    alert::{ActionClass, MatchedRule},
    fast_hash::FastMap,
    hash,
};

use crate::{indicator_list::IndicatorList, score};

mod calls;
mod fact;
mod finish;
mod found;
mod held;
mod mark;
mod print;
mod told;

pub use fact::Fact;
pub use finish::at_once;
pub use found::{AllFound, Found};
pub use told::{Form, Row};

use fact::{AllFacts, Facts};
use finish::Finish;
use sentinel_spill::{Keys, Log, Sorter};
use told::RuleTexts;

/// Bytes that an event, and each match of it, takes while alerts are brought together.
const EVENT_BYTES: usize = 32;
const MATCH_BYTES: usize = 24;
/// Bytes of alerts of correlations held in memory.
pub(crate) const FOUND: usize = 2 << 20;

/// The sentence on one event.
pub type Say = fn(&Fact<'_>, &mut String);

/// Collects what one worker's events matched.
#[derive(Debug)]
pub struct Collector {
    facts: Facts,
    events: Sorter,
    /// Keys of alerts that are only counted.
    counted: Keys,
    classes: Classes,
}

impl Collector {
    /// A collector that holds about `budget` bytes in memory. The numbers of workers begin at 0.
    pub fn new(budget: usize, worker: u16) -> Self {
        Self::with(budget, worker, Sorter::new(budget / 20 * 11))
    }

    /// One for each of so many workers, who hold about `budget` bytes in memory together.
    pub fn several(budget: usize, workers: u16) -> Vec<Self> {
        let each = budget / usize::from(workers.max(1));
        let events = Sorter::sharing(budget / 20 * 11, usize::from(workers));
        (0..workers).zip(events).map(|(worker, events)| Self::with(each, worker, events)).collect()
    }

    fn with(budget: usize, worker: u16, events: Sorter) -> Self {
        Self {
            // While all events are in memory, their facts are read in about the order in which they lie.
            facts: Facts::new(budget / 4, worker),
            events,
            counted: Keys::new(budget / 10),
            classes: Classes::default(),
        }
    }

    /// Keeps an event; its place.
    pub fn keep(&mut self, fact: &Fact<'_>) -> io::Result<u64> {
        self.facts.push(fact)
    }

    /// Adds an event that is kept at a place, and the numbers of the rules that it matched.
    pub fn add(&mut self, at: u64, fact: &Fact<'_>, rules: &[u32]) -> io::Result<()> {
        self.events
            .push(event_key(fact), EVENT_BYTES + rules.len() * MATCH_BYTES, |into| mark::write(at, fact, rules, into))
    }

    /// Adds a match of an informational rule whose alerts are not wanted: they have no other level, so they are only
    /// counted, and nothing of the event is kept.
    pub fn count(&mut self, who: Who, rule: u32, window: Window) -> io::Result<()> {
        self.counted.push(alert_key(who.0, rule, window))
    }

    /// The kind of an action, see [`score::classify_action`], remembered.
    pub fn class(&mut self, service: &str, action: &str, read_only: Option<bool>, success: bool) -> ActionClass {
        self.classes.of(service, action, read_only, success)
    }

    /// Puts in order what was collected: done by the worker, so that all do it at once.
    pub fn seal(&mut self) {
        self.events.sort();
        self.counted.sort();
    }
}

/// Bits of an event's key for its id and content; those above are for its second.
const IDENTITY_BITS: u32 = 88;
/// Bits of the key's lowest part, in which there is nothing of the id.
const CONTENT_BITS: u32 = IDENTITY_BITS - u64::BITS;

/// The key of an event: copies of one have the same, and keys are in order of second, which is nearly the order in
/// which events come, so that those near each other in order are near each other in memory.
fn event_key(fact: &Fact<'_>) -> u128 {
    // The second that it is in, before 1970 too; they take 39 bits and a sign.
    let second = fact.time.as_second() - i64::from(fact.time.subsec_nanosecond() < 0);
    let second = (second + (1 << 39)).cast_unsigned();
    // Events of one content are told apart by all of their ids' hash, and those of one id by all of their content's.
    let identity = u128::from(hash::hash_64(fact.id.as_bytes())) << CONTENT_BITS ^ u128::from(fact.content);
    u128::from(second) << IDENTITY_BITS | identity
}

/// An account and a principal, by a hash of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who(u128);

impl Who {
    /// The principal of this id in an account.
    pub fn new(account: &str, principal: &str) -> Self {
        Self(mark::who(account, principal))
    }
}

/// The alert of an account and principal, a rule and a window.
fn alert_key(who: u128, rule: u32, window: Window) -> u128 {
    let mut key = [0; 28];
    key[..16].copy_from_slice(&who.to_le_bytes());
    key[16..20].copy_from_slice(&rule.to_le_bytes());
    key[20..].copy_from_slice(&window.start.as_second().to_le_bytes());
    hash::hash_128(&key)
}

/// Kinds of actions that were worked out before.
#[derive(Debug, Default)]
struct Classes(FastMap<u64, ActionClass>);

impl Classes {
    /// Kinds remembered; whoever writes the log can choose endless names.
    const MOST: usize = 10_000;

    fn of(&mut self, service: &str, action: &str, read_only: Option<bool>, success: bool) -> ActionClass {
        if !success {
            return score::classify_action(service, action, read_only, success);
        }
        let reads = read_only.map_or(2, u64::from);
        let key =
            hash::hash_64(service.as_bytes()).rotate_left(23) ^ hash::hash_64(action.as_bytes()).wrapping_add(reads);
        if let Some(class) = self.0.get(&key) {
            return *class;
        }
        let class = score::classify_action(service, action, read_only, success);
        if self.0.len() < Self::MOST {
            self.0.insert(key, class);
        }
        class
    }
}

/// What is wanted of the alerts.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// In which form.
    pub form: Form,
    /// From which level on.
    pub min_level: Level,
    /// Threads that may work on it.
    pub threads: usize,
}

/// How many alerts there are of each level, in order of level.
pub type Counts = [u64; Level::ALL.len()];

/// What all workers collected.
pub struct Collected<'r> {
    facts: AllFacts,
    events: Vec<Sorter>,
    counted: Vec<Keys>,
    rules: Vec<RuleTexts<'r>>,
    say: Say,
    list: Arc<IndicatorList>,
    /// Alerts of correlations.
    found: Log,
}

impl<'r> Collected<'r> {
    /// What `collectors` hold, in the order of their numbers, by rules at their numbers, with a list of indicators.
    pub fn new(
        collectors: Vec<Collector>,
        rules: impl IntoIterator<Item = MatchedRule<'r>>,
        say: Say,
        list: Arc<IndicatorList>,
    ) -> Self {
        let rules = rules.into_iter().map(RuleTexts::new).collect();
        let (mut facts, mut events, mut counted) = (Vec::new(), Vec::new(), Vec::new());
        for collector in collectors {
            facts.push(collector.facts);
            events.push(collector.events);
            counted.push(collector.counted);
        }
        Self { facts: AllFacts::new(facts), events, counted, rules, say, list, found: Log::new(FOUND) }
    }

    /// Compares two events by their places: by time, id, then content.
    pub fn comparison(&self) -> impl FnMut(u64, u64) -> io::Result<Ordering> + use<'_, 'r> {
        let mut reader = self.facts.reader();
        move |a, b| reader.compare(a, b)
    }

    /// Adds the alerts of correlations.
    #[must_use]
    pub fn with(self, found: found::AllFound) -> Self {
        Self { found: found.0, ..self }
    }

    /// Hands the alerts, and those of `others`, to `take` in order, in the form that is wanted, each on a line of its own,
    /// some whole lines at a time, and adds to `counts` how many there are of each level, wanted or not, before it does.
    /// The order is that of the first event's time, then the id; rows begin with the gravest level.
    pub fn tell(
        self,
        wanted: Wanted,
        others: &[Alert],
        counts: &mut Counts,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for alert in others {
            counts[alert.level as usize] += 1;
        }
        let Self { facts, events, counted, rules, say, list, found } = self;
        Keys::each(counted, |_| counts[Level::Informational as usize] += 1)?;
        let finish = Finish { facts: &facts, rules: &rules, say, list: &list, wanted, others, found: &found };
        if events.iter().any(Sorter::spilled) {
            finish.on_disk(events, counts, take)
        } else {
            finish.in_memory(events, counts, take)
        }
    }
}

/// Where an alert stands in the order that is wanted; ids decide between equals.
fn place(form: Form, level: Level, time: Timestamp) -> u128 {
    let second = i128::from(time.as_second()) * 1_000_000_000 + i128::from(time.subsec_nanosecond());
    // Nanoseconds of the years -9999 to 9999 take 70 bits with a sign; 2^80 makes them positive.
    let time = (second + (1 << 80)).cast_unsigned();
    let rank = if form == Form::Row { (Level::ALL.len() - level as usize) as u128 } else { 0 };
    rank << 100 | time
}

#[cfg(test)]
mod tests;
