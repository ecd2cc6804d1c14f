//! From collected events to alerts: repeats go, matches are brought together, alerts come out in order.
//!
//! What was collected in memory is brought together there, by all threads at once, and each alert is gone through
//! twice: once for its place in the order, once to be printed. What was written to disk is sorted there: events by
//! identity, matches by alert, alerts by place.

use std::{io, thread};

use sentinel_model::{Alert, Level, alert};
use sentinel_spill::{Log, Pages, Sorter};

use super::{
    Counts, Found, Say, Wanted,
    fact::{AllFacts, Fact, Reader},
    mark::{self, Mark},
    place,
    print::{Printer, Ready, Source},
    told::{self, RuleTexts, Told},
};
use crate::indicator_list::IndicatorList;

/// Bytes of matches and of alerts held before they go to disk.
const ON_DISK: usize = 6 << 20;

pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what was collected came back damaged")
}

fn mark_in(bytes: &[u8]) -> io::Result<Mark<'_>> {
    Mark::read(bytes).ok_or_else(damaged)
}

/// An event in memory: its collector and its number there.
type At = (u16, u32);

/// A match in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    alert: (u64, u64),
    event: At,
    rule: u32,
}

/// What is needed to make alerts.
pub(super) struct Finish<'f, 'r> {
    pub(super) facts: &'f AllFacts,
    pub(super) rules: &'f [RuleTexts<'r>],
    pub(super) say: Say,
    pub(super) list: &'f IndicatorList,
    pub(super) wanted: Wanted,
    pub(super) others: &'f [Alert],
    pub(super) found: &'f Log,
}

impl<'f, 'r> Finish<'f, 'r> {
    pub(super) fn rule(&self, number: u32) -> io::Result<&'f RuleTexts<'r>> {
        self.rules.get(number as usize).ok_or_else(damaged)
    }

    /// The alert that a match belongs to.
    fn alert_of(&self, mark: &Mark<'_>, rule: u32) -> io::Result<u128> {
        Ok(super::alert_key(mark.who, rule, self.rule(rule)?.window(mark.time)))
    }

    /// Whether alerts of a rule are only counted: an informational rule's have no other level.
    fn only_counts(&self, rule: &RuleTexts<'_>) -> bool {
        rule.rule.rule.level == Level::Informational && self.wanted.min_level > Level::Informational
    }

    pub(super) fn in_memory(
        &self,
        mut events: Vec<Sorter>,
        counts: &mut Counts,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        events.iter_mut().for_each(Sorter::sort);
        let threads = self.wanted.threads.max(1);
        let each_once = distinct(&events);
        let held = &Held { finish: self, events: &events };
        // Each thread sorts matches out by part, then each part is put in order by one.
        let share = each_once.len().div_ceil(threads).max(1);
        let sorted_out = at_once(each_once.chunks(share).map(|some| move || held.matches(some, threads)).collect())?;
        drop(each_once);
        let mut parts: Vec<Vec<Match>> = vec![Vec::new(); threads];
        for shares in sorted_out {
            for (part, mut share) in parts.iter_mut().zip(shares) {
                if part.is_empty() { *part = share } else { part.append(&mut share) }
            }
        }
        let found = self.found_places()?;
        let share = found.len().div_ceil(threads).max(1);
        let of_found = at_once(found.chunks(share).map(|some| move || self.found_ready(some)).collect())?;
        let made = at_once(parts.iter_mut().enumerate().map(|(n, part)| move || held.ready(n, part)).collect())?;
        let mut ready = Vec::new();
        for (mut some, counted) in made.into_iter().chain(of_found) {
            if ready.is_empty() {
                ready = some;
            } else {
                ready.append(&mut some);
            }
            counts.iter_mut().zip(counted).for_each(|(all, n)| *all += n);
        }
        ready.extend(self.others.iter().enumerate().filter(|(_, a)| a.level >= self.wanted.min_level).map(|(n, a)| {
            let place = place(self.wanted.form, a.level, a.time);
            Ready { place, id: a.alert_id.clone(), source: Source::Other(n) }
        }));
        ready.sort_unstable_by_key(|one| one.place);
        let share = ready.len().div_ceil(threads).max(1);
        let parts = &parts;
        at_once(ready.chunks_mut(share).map(|some| move || held.name(parts, some)).collect())?;
        // Of one place the ids decide.
        ready.sort();
        Printer::new(held, parts, &ready).print(threads, take)
    }

    /// Where the alerts of correlations are.
    fn found_places(&self) -> io::Result<Vec<u64>> {
        let (mut places, mut pages) = (Vec::new(), Pages::default());
        let mut next = (!self.found.is_empty()).then_some(0);
        while let Some(at) = next {
            places.push(at);
            next = self.found.next(at, self.found.get(at, &mut pages)?.len());
        }
        Ok(places)
    }

    /// Some alerts of correlations that are wanted, and how many there are of each level.
    fn found_ready(&self, places: &[u64]) -> io::Result<(Vec<Ready>, Counts)> {
        let (mut found_ready, mut counts, mut told) = (Vec::new(), Counts::default(), Told::new());
        let (mut reader, mut pages) = (self.facts.reader(), Pages::default());
        for at in places {
            let (found, events) = Found::at(self.found, *at, &mut pages)?;
            let rule = self.rule(found.rule)?;
            told.begin();
            let time = if self.list.is_empty() {
                let mut first = None;
                for event in events {
                    let (time, class) = reader.time_and_class(event)?;
                    first.get_or_insert(time);
                    told.weigh_class(class).ok_or_else(damaged)?;
                }
                first.ok_or_else(damaged)?
            } else {
                let id = found.alert_id.to_owned();
                self.add_found(&mut told, &found, events, &mut reader, false)?;
                debug_assert_eq!(id, found.alert_id);
                told.time()
            };
            let level = told.end(rule);
            counts[level as usize] += 1;
            if level >= self.wanted.min_level {
                let place = place(self.wanted.form, level, time);
                found_ready.push(Ready { place, id: found.alert_id.to_owned(), source: Source::Found(*at) });
            }
        }
        Ok((found_ready, counts))
    }

    /// Goes through the events of a correlation's alert.
    fn add_found(
        &self,
        told: &mut Told,
        found: &Found<'_>,
        mut events: impl Iterator<Item = u64>,
        reader: &mut Reader<'_>,
        whole: bool,
    ) -> io::Result<()> {
        let mut other = self.facts.reader();
        let completing = other.get(found.completing)?;
        let each = |take: &mut dyn FnMut(&Fact<'_>)| {
            events.try_for_each(|at| {
                take(&reader.get(at)?);
                Ok(())
            })
        };
        told.add_found(found, &completing, self.list, each, whole)
    }

    /// Tells the alert of a correlation; its id and rule.
    pub(super) fn tell_found<'p>(
        &self,
        told: &mut Told,
        at: u64,
        reader: &mut Reader<'_>,
        pages: &'p mut Pages,
    ) -> io::Result<(&'p str, &'f RuleTexts<'r>)>
    where
        'f: 'p,
    {
        let (found, events) = Found::at(self.found, at, pages)?;
        let rule = self.rule(found.rule)?;
        told.begin();
        self.add_found(told, &found, events, reader, true)?;
        told.end(rule);
        Ok((found.alert_id, rule))
    }

    /// The same with sorted runs on disk between the steps.
    pub(super) fn on_disk(
        &self,
        events: Vec<Sorter>,
        counts: &mut Counts,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut matches = Sorter::new(ON_DISK);
        let mut events = Sorter::merge(events)?;
        let mut last = None;
        while let Some((key, bytes)) = events.take_next()? {
            if last.replace(key) == Some(key) {
                continue;
            }
            let mark = mark_in(bytes)?;
            for rule in mark.rules() {
                matches.push(self.alert_of(&mark, rule)?, 0, |into| {
                    into.extend_from_slice(mark.bytes);
                    mark::write_rules([rule].into_iter(), into);
                })?;
            }
        }
        drop(events);
        let mut matches = Sorter::merge(vec![matches])?;
        let mut alerts = Sorter::new(ON_DISK);
        let (mut told, mut open, mut reader) = (Told::new(), None, self.facts.reader());
        while let Some((alert, bytes)) = matches.take_next()? {
            let mark = mark_in(bytes)?;
            let number = mark.rules().next().ok_or_else(damaged)?;
            let rule = self.rule(number)?;
            if open.is_none_or(|(known, _)| known != alert) {
                self.close(&mut told, open, &mut alerts, counts)?;
                told.begin();
                open = Some((alert, number));
            }
            if self.only_counts(rule) {
                told.weigh_class(mark.class).ok_or_else(damaged)?;
            } else {
                told.add(&reader.get(mark.at)?, rule, self.say, self.list);
            }
        }
        self.close(&mut told, open, &mut alerts, counts)?;
        drop(matches);
        let mut pages = Pages::default();
        for at in self.found_places()? {
            let (id, rule) = self.tell_found(&mut told, at, &mut reader, &mut pages)?;
            self.keep(&told, id, rule, &mut alerts, counts)?;
        }
        for alert in self.others.iter().filter(|a| a.level >= self.wanted.min_level) {
            let mut written = Ok(());
            alerts.push(place(self.wanted.form, alert.level, alert.time), 0, |into| {
                into.extend_from_slice(alert.alert_id.as_bytes());
                into.push(0);
                written = told::write_alert(self.wanted.form, alert, into);
            })?;
            written?;
        }
        let mut alerts = Sorter::merge(vec![alerts])?;
        while let Some((_, bytes)) = alerts.take_next()? {
            // The id stands before the text to decide between equal places.
            let text = bytes.iter().position(|b| *b == 0).map_or(bytes, |at| &bytes[at + 1..]);
            take(text)?;
        }
        Ok(())
    }

    /// Ends the alert that was told.
    fn close(
        &self,
        told: &mut Told,
        open: Option<(u128, u32)>,
        alerts: &mut Sorter,
        counts: &mut Counts,
    ) -> io::Result<()> {
        let Some((_, rule)) = open else { return Ok(()) };
        let rule = self.rule(rule)?;
        let level = told.end(rule);
        if level < self.wanted.min_level {
            counts[level as usize] += 1;
            return Ok(());
        }
        self.keep(told, &told.alert_id(rule), rule, alerts, counts)
    }

    /// Counts the alert that ended and keeps it if it is wanted.
    fn keep(
        &self,
        told: &Told,
        id: &str,
        rule: &RuleTexts<'_>,
        alerts: &mut Sorter,
        counts: &mut Counts,
    ) -> io::Result<()> {
        let level = told.level();
        counts[level as usize] += 1;
        if level < self.wanted.min_level {
            return Ok(());
        }
        let mut written = Ok(());
        alerts.push(place(self.wanted.form, level, told.time()), 0, |into| {
            into.extend_from_slice(id.as_bytes());
            into.push(0);
            written = told.write(self.wanted.form, id, rule, into);
        })?;
        written
    }
}

/// The events of sorted collectors, each once: of several copies the one whose bytes come first.
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

/// Everything in memory.
pub(super) struct Held<'h, 'f, 'r> {
    pub(super) finish: &'h Finish<'f, 'r>,
    events: &'h [Sorter],
}

impl<'f, 'r> Held<'_, 'f, 'r> {
    fn bytes(&self, at: At) -> &[u8] {
        self.events[usize::from(at.0)].get(at.1 as usize).1
    }

    /// The matches of some events, by part.
    fn matches(&self, events: &[At], parts: usize) -> io::Result<Vec<Vec<Match>>> {
        let mut found = vec![Vec::new(); parts];
        for &event in events {
            let mark = mark_in(self.bytes(event))?;
            for rule in mark.rules() {
                let alert = self.finish.alert_of(&mark, rule)?;
                #[allow(clippy::cast_possible_truncation, reason = "two halves, and a part below the number of parts")]
                let (alert, part) = (((alert >> 64) as u64, alert as u64), ((alert >> 64) % parts as u128) as usize);
                found[part].push(Match { alert, event, rule });
            }
        }
        Ok(found)
    }

    /// Puts the matches of a part in order; the wanted alerts in them, and how many there are of each level.
    fn ready(&self, part: usize, matches: &mut [Match]) -> io::Result<(Vec<Ready>, Counts)> {
        matches
            .sort_unstable_by(|a, b| a.alert.cmp(&b.alert).then_with(|| self.bytes(a.event).cmp(self.bytes(b.event))));
        let (wanted, list) = (&self.finish.wanted, self.finish.list);
        let (mut found, mut counts, mut told) = (Vec::new(), Counts::default(), Told::new());
        let mut reader = self.finish.facts.reader();
        let mut from = 0;
        for of_one in matches.chunk_by(|a, b| a.alert == b.alert) {
            let to = from + of_one.len();
            let rule = self.rule_of(of_one)?;
            told.begin();
            for one in of_one {
                let mark = mark_in(self.bytes(one.event))?;
                if list.is_empty() {
                    told.weigh_class(mark.class).ok_or_else(damaged)?;
                } else {
                    told.weigh(&reader.get(mark.at)?, rule, list);
                }
            }
            let level = told.end(rule);
            counts[level as usize] += 1;
            if level >= wanted.min_level {
                let place = place(wanted.form, level, mark_in(self.bytes(of_one[0].event))?.time);
                found.push(Ready { place, id: String::new(), source: Source::Matches { part, from, to } });
            }
            from = to;
        }
        Ok((found, counts))
    }

    /// Gives alerts their ids. They come in order of time, as events mostly lie where they are kept: so few pages are
    /// read of what is on disk.
    fn name(&self, parts: &[Vec<Match>], ready: &mut [Ready]) -> io::Result<()> {
        let mut reader = self.finish.facts.reader();
        for one in ready {
            let Source::Matches { part, from, .. } = one.source else { continue };
            let first = &parts[part][from];
            let rule = self.finish.rule(first.rule)?;
            let fact = reader.get(mark_in(self.bytes(first.event))?.at)?;
            one.id = alert::alert_id(&rule.rule.rule.id, fact.principal, fact.account, rule.window(fact.time));
        }
        Ok(())
    }

    fn rule_of(&self, matches: &[Match]) -> io::Result<&'f RuleTexts<'r>> {
        self.finish.rule(matches.first().ok_or_else(damaged)?.rule)
    }

    /// Goes through the matches of one alert.
    pub(super) fn tell(
        &self,
        told: &mut Told,
        matches: &[Match],
        reader: &mut Reader<'_>,
    ) -> io::Result<&'f RuleTexts<'r>> {
        let rule = self.rule_of(matches)?;
        told.begin();
        for one in matches {
            let fact = reader.get(mark_in(self.bytes(one.event))?.at)?;
            told.add(&fact, rule, self.finish.say, self.finish.list);
        }
        told.end(rule);
        Ok(rule)
    }
}

/// Runs the jobs side by side; one alone on this thread.
fn at_once<T: Send>(jobs: Vec<impl FnOnce() -> io::Result<T> + Send>) -> io::Result<Vec<T>> {
    if jobs.len() <= 1 {
        return jobs.into_iter().map(|job| job()).collect();
    }
    thread::scope(|scope| {
        let running: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
