//! What is remembered of one person or workload: of constant size, however long it goes on.

use sentinel_model::{Event, Outcome};

use crate::{
    counter::{Counters, Tick},
    lesson::{Lesson, Lessons},
    sketch::{Sketch, hash},
};

/// Event ids remembered to tell a replay.
pub(crate) const REMEMBERED_IDS: usize = 64;
/// Batches remembered to tell a replay of more events than that.
pub(crate) const REMEMBERED_BATCHES: usize = 8;
/// Alerted events remembered with their score.
pub(crate) const REMEMBERED_ALERTS: usize = 16;
/// Days with alerts after which alerted behaviour is taken for a change of habit and learned. An analyst has
/// then been told on three days.
const ALERT_DAYS_UNTIL_LEARNED: u8 = 3;
/// Alerted days further apart than this are not the same change of habit.
const ALERT_DAYS_WITHIN: i64 = 14;
/// Events after which a principal is fully known.
const MATURE_AFTER: f32 = 200.0;

/// Whether an event changes what counts as usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Learn {
    /// It was not alerted: it becomes part of the baseline.
    Habit,
    /// It was alerted with this calibrated score, for these reasons (bits of features): an attacker must not
    /// teach the model. It counts as activity (rates, errors) only.
    Alerted {
        /// The score.
        score: f32,
        /// One bit for each feature named as a reason.
        reasons: u32,
    },
}

/// What the state knows of an event that came before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Replay {
    /// It has not been seen.
    New,
    /// It was seen and did not alert.
    Quiet,
    /// It was seen and alerted, with the score and reasons given then.
    Alerted {
        /// The score.
        score: f32,
        /// One bit for each feature named as a reason.
        reasons: u32,
    },
}

/// State of one principal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrincipalState {
    /// Seconds since the epoch of the first and the latest event; 0 when there was none.
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Events learned.
    pub(crate) learned: u32,
    pub(crate) counters: Counters,
    pub(crate) apis: Sketch<40>,
    pub(crate) services: Sketch<16>,
    pub(crate) networks: Sketch<12>,
    pub(crate) agents: Sketch<8>,
    pub(crate) regions: Sketch<8>,
    /// Events by hour of day and day of week, UTC.
    pub(crate) hours: [u32; 24],
    pub(crate) weekdays: [u32; 7],
    /// Hashes of the latest ids, oldest first.
    pub(crate) ids: Vec<u32>,
    /// Hashes of the latest batches.
    pub(crate) batches: Vec<u32>,
    /// Latest alerted events: hash of id, score, reasons.
    pub(crate) alerts: Vec<(u32, f32, u32)>,
    /// Day (since the epoch) of the latest alert, and on how many days there were some.
    pub(crate) alert_day: i64,
    pub(crate) alert_days: u8,
}

fn push_capped<T>(list: &mut Vec<T>, item: T, cap: usize) {
    if list.len() >= cap {
        list.drain(..=list.len() - cap);
    }
    list.push(item);
}

pub(crate) fn minute(seconds: i64) -> u32 {
    u32::try_from(seconds.div_euclid(60).max(0)).unwrap_or(u32::MAX / 2)
}

pub(crate) fn hour_of_day(seconds: i64) -> usize {
    usize::try_from(seconds.div_euclid(3_600).rem_euclid(24)).unwrap_or(0)
}

/// Days count from Monday (1970-01-01 was a Thursday).
pub(crate) fn weekday(seconds: i64) -> usize {
    usize::try_from((seconds.div_euclid(86_400) + 3).rem_euclid(7)).unwrap_or(0)
}

impl PrincipalState {
    /// How well the principal is known, 0 to 1: newness says little about somebody of whom all is new.
    pub fn maturity(&self) -> f32 {
        #[allow(clippy::cast_precision_loss, reason = "exact below 16 million, and capped far below")]
        let learned = self.learned.min(1_000_000) as f32;
        (learned / MATURE_AFTER).min(1.0)
    }

    /// Time of the latest event, in seconds since the epoch; 0 when there was none.
    pub fn latest(&self) -> i64 {
        self.last
    }

    /// How many different APIs, services, networks, agents and Regions are known.
    pub fn kinds(&self) -> usize {
        self.apis.slots().len()
            + self.services.slots().len()
            + self.networks.slots().len()
            + self.agents.slots().len()
            + self.regions.slots().len()
    }

    /// Whether an event was seen before, and what came of it.
    pub fn replay(&self, event: &Event) -> Replay {
        self.replay_of(hash(&event.id))
    }

    fn replay_of(&self, id: u32) -> Replay {
        if let Some((_, score, reasons)) = self.alerts.iter().find(|a| a.0 == id) {
            return Replay::Alerted { score: *score, reasons: *reasons };
        }
        if self.ids.contains(&id) { Replay::Quiet } else { Replay::New }
    }

    /// Whether this very list of events was learned before. Told even when it holds more events than ids
    /// are remembered.
    pub fn knows_batch(&self, events: &[&Event]) -> bool {
        self.batches.contains(&batch_hash(events))
    }

    /// Remembers a list of events as learned.
    pub fn remember_batch(&mut self, events: &[&Event]) {
        push_capped(&mut self.batches, batch_hash(events), REMEMBERED_BATCHES);
    }

    /// Takes an event into account, once: an event seen before changes nothing.
    pub fn update(&mut self, event: &Event, learn: Learn) {
        self.apply(&Lesson::of(event, learn));
    }

    /// Takes a list of events into account that was learned by another state of the same principal: those that
    /// this one has not seen. `false`: it has seen them all. The batch makes no other one forgotten: its events
    /// are known by their ids from then on.
    pub fn relearn(&mut self, lessons: &Lessons) -> bool {
        if self.batches.contains(&lessons.batch) {
            return false;
        }
        let mut any = false;
        for lesson in &lessons.events {
            any |= self.apply(lesson);
        }
        any
    }

    /// Takes an event into account by what it teaches. `false`: it was seen before.
    pub fn apply(&mut self, lesson: &Lesson) -> bool {
        if self.replay_of(lesson.id) != Replay::New {
            return false;
        }
        push_capped(&mut self.ids, lesson.id, REMEMBERED_IDS);
        let seconds = lesson.seconds;
        self.first = if self.first == 0 { seconds } else { self.first.min(seconds) };
        self.last = self.last.max(seconds);
        self.counters.add(Tick {
            at: seconds,
            error: lesson.error,
            read: lesson.read,
            risky: lesson.risky,
            novel: self.apis.count(lesson.api) == 0,
        });
        if let Learn::Alerted { score, reasons } = lesson.learn {
            push_capped(&mut self.alerts, (lesson.id, score, reasons), REMEMBERED_ALERTS);
            self.note_alert_day(seconds.div_euclid(86_400));
            if self.alert_days < ALERT_DAYS_UNTIL_LEARNED {
                return true;
            }
        }
        self.learn(lesson);
        true
    }

    fn note_alert_day(&mut self, day: i64) {
        if self.alert_days == 0 || day - self.alert_day > ALERT_DAYS_WITHIN {
            self.alert_days = 1;
        } else if day > self.alert_day {
            self.alert_days = self.alert_days.saturating_add(1);
        }
        self.alert_day = self.alert_day.max(day);
    }

    fn learn(&mut self, lesson: &Lesson) {
        let seconds = lesson.seconds;
        let now = minute(seconds);
        self.learned = self.learned.saturating_add(1);
        self.apis.add(lesson.api, now);
        self.services.add(lesson.service, now);
        if let Some(network) = lesson.network {
            self.networks.add(network, now);
        }
        if let Some(agent) = lesson.agent {
            self.agents.add(agent, now);
        }
        if let Some(region) = lesson.region {
            self.regions.add(region, now);
        }
        self.hours[hour_of_day(seconds)] = self.hours[hour_of_day(seconds)].saturating_add(1);
        self.weekdays[weekday(seconds)] = self.weekdays[weekday(seconds)].saturating_add(1);
    }
}

/// The order of the events does not matter: a batch that comes again may be cut in another order.
pub(crate) fn batch_hash(events: &[&Event]) -> u32 {
    let mut ids: Vec<&str> = events.iter().map(|e| e.id.as_str()).collect();
    ids.sort_unstable();
    hash(&ids.join("\n"))
}

/// Whether the outcome is a refusal for want of rights.
pub(crate) fn is_refused(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Success => false,
        Outcome::Failure { code, .. } => {
            code.contains("AccessDenied") || code.contains("Unauthorized") || code.contains("Forbidden")
        }
    }
}
