//! Events that were collected in memory, brought together there.
//!
//! In: sorted collectors. Out: some [`Part`]s, each of which has all events of some principals: the events of its
//! alerts, in order, and the alerts that are wanted. No match is compared with another: events are put in order once,
//! and go to their alerts in that order.

use std::io;

use sentinel_model::{Level, Timestamp, fast_hash::FastMap};
use sentinel_spill::Sorter;

use super::{
    Counts,
    fact::Reader,
    finish::{Finish, damaged, mark_in},
    place,
    print::{Ready, Source},
    told::Told,
};

/// An event in memory: its collector and its number there.
type At = (u16, u32);

/// An event on its way to its alerts: second and nanosecond, with which its place in the order begins, and the event.
pub(super) type Placed = ((u64, u32), At);

/// Everything in memory.
pub(super) struct Held<'h, 'f, 'r> {
    finish: &'h Finish<'f, 'r>,
    events: &'h [Sorter],
    each_once: Vec<At>,
}

/// Some of the events, for one thread.
pub(super) struct Share<'h, 'f, 'r> {
    held: &'h Held<'h, 'f, 'r>,
    events: &'h [At],
    parts: usize,
}

/// The events of some principals' alerts.
#[derive(Debug)]
pub(super) struct Part {
    /// Where events are kept: those of one alert after those of another.
    pub(super) events: Vec<u64>,
}

impl Part {
    /// Where the events of one alert are kept.
    pub(super) fn of(&self, from: u32, to: u32) -> &[u64] {
        &self.events[from as usize..to as usize]
    }
}

/// An alert in the making.
struct Open {
    rule: u32,
    /// Of its first event.
    time: Timestamp,
    class: u8,
    events: u32,
}

impl<'h, 'f, 'r> Held<'h, 'f, 'r> {
    /// What sorted collectors hold.
    pub(super) fn new(finish: &'h Finish<'f, 'r>, events: &'h [Sorter]) -> Self {
        Self { finish, events, each_once: distinct(events) }
    }

    fn bytes(&self, at: At) -> &'h [u8] {
        self.events[usize::from(at.0)].get(at.1 as usize).1
    }

    /// The events, shared among threads, to be sorted out into so many parts.
    pub(super) fn shares(&'h self, threads: usize, parts: usize) -> Vec<Share<'h, 'f, 'r>> {
        let share = self.each_once.len().div_ceil(threads).max(1);
        self.each_once.chunks(share).map(|events| Share { held: self, events, parts }).collect()
    }
}

impl Share<'_, '_, '_> {
    /// The events by part: a principal's are in one. They stay in order of second.
    pub(super) fn sort_out(&self) -> io::Result<Vec<Vec<Placed>>> {
        // Memory that is not touched costs nothing, and what grows is copied again and again. Parts are about as large as
        // each other, or a few principals did most.
        let room = if self.parts == 1 { self.events.len() } else { self.events.len() / self.parts * 3 / 2 };
        let mut found: Vec<Vec<_>> = (0..self.parts).map(|_| Vec::with_capacity(room)).collect();
        for &event in self.events {
            let mark = mark_in(self.held.bytes(event))?;
            let (second, nanosecond) = mark.bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
            let nanosecond = nanosecond.first_chunk::<4>().ok_or_else(damaged)?;
            #[allow(clippy::cast_possible_truncation, reason = "below the number of parts")]
            let part = ((mark.who >> 64) % self.parts as u128) as usize;
            found[part].push(((u64::from_be_bytes(*second), u32::from_be_bytes(*nanosecond)), event));
        }
        Ok(found)
    }
}

/// Events and matches in memory are far fewer.
fn number(number: usize) -> io::Result<u32> {
    u32::try_from(number).map_err(io::Error::other)
}

impl Part {
    /// Brings the events of one part together; the alerts that are wanted, those of one level in order of time, and how
    /// many there are of each level.
    pub(super) fn new(
        held: &Held<'_, '_, '_>,
        of: u16,
        mut placed: Vec<Placed>,
    ) -> io::Result<(Self, Vec<Ready>, Counts)> {
        // They come in order of their keys, so of second.
        for same in placed.chunk_by_mut(|((a, _), _), ((b, _), _)| a == b) {
            same.sort_unstable_by(|((_, a), x), ((_, b), y)| a.cmp(b).then_with(|| held.bytes(*x).cmp(held.bytes(*y))));
        }
        let finish = held.finish;
        let (mut known, mut alerts) = (FastMap::default(), Vec::<Open>::new());
        // Most events match one rule or two.
        let mut matches = Vec::with_capacity(2 * placed.len());
        for (_, event) in placed {
            let mark = mark_in(held.bytes(event))?;
            for rule in mark.rules() {
                let key = finish.alert_of(&mark, rule)?;
                #[allow(clippy::cast_possible_truncation, reason = "its halves, which take less room than the whole")]
                let halves = ((key >> 64) as u64, key as u64);
                let next = number(alerts.len())?;
                let at = *known.entry(halves).or_insert(next);
                if at == next {
                    alerts.push(Open { rule, time: mark.time, class: mark.class, events: 0 });
                }
                let alert = &mut alerts[at as usize];
                alert.events += 1;
                alert.class = alert.class.max(mark.class);
                matches.push((at, mark.at));
            }
        }
        drop(known);
        let begins = alerts.iter().scan(0_u32, |end, alert| {
            *end += alert.events;
            Some(*end - alert.events)
        });
        let mut next: Vec<u32> = begins.collect();
        number(matches.len())?;
        let mut part = Self { events: vec![0; matches.len()] };
        for (alert, at) in matches {
            let next = &mut next[alert as usize];
            part.events[*next as usize] = at;
            *next += 1;
        }
        let (mut found, mut counts, mut told) = (Vec::new(), Counts::default(), Told::new());
        let mut reader = finish.facts.reader();
        for (alert, to) in alerts.into_iter().zip(next) {
            let from = to - alert.events;
            let source = Source::Matches { part: of, rule: alert.rule, from, to };
            let level = part.level(finish, &mut told, &mut reader, &alert, to)?;
            counts[level as usize] += 1;
            if level >= finish.wanted.min_level {
                found.push(Ready { place: place(finish.wanted.form, level, alert.time), source });
            }
        }
        Ok((part, found, counts))
    }

    fn level(
        &self,
        finish: &Finish<'_, '_>,
        told: &mut Told,
        reader: &mut Reader<'_>,
        alert: &Open,
        to: u32,
    ) -> io::Result<Level> {
        let rule = finish.rule(alert.rule)?;
        told.begin();
        if finish.list.is_empty() {
            told.weigh_class(alert.class).ok_or_else(damaged)?;
        } else {
            for at in self.of(to - alert.events, to) {
                told.weigh(&reader.get(*at)?, rule, finish.list);
            }
        }
        Ok(told.end(rule))
    }
}

/// The events of sorted collectors in order of key, each once: of several copies the one whose bytes come first.
fn distinct(collectors: &[Sorter]) -> Vec<At> {
    let mut next: Vec<usize> = vec![0; collectors.len()];
    let mut found = Vec::with_capacity(collectors.iter().map(Sorter::in_memory).sum());
    let mut before = None;
    loop {
        let heads = collectors.iter().zip(&next).enumerate();
        let least = heads
            .filter(|(_, (c, at))| **at < c.in_memory())
            .min_by(|(_, (a, i)), (_, (b, j))| a.get(**i).cmp(&b.get(**j)))
            .map(|(n, (c, at))| (n, *at, c.get(*at).0));
        let Some((n, at, key)) = least else { return found };
        if before.replace(key) != Some(key) {
            // Threads and records of one run are far fewer than these numbers.
            found.push((u16::try_from(n).unwrap_or(u16::MAX), u32::try_from(at).unwrap_or(u32::MAX)));
        }
        next[n] += 1;
    }
}
