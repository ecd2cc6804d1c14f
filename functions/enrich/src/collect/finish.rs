//! From collected events to alerts: repeats go, matches are brought together, alerts come out in order.
//!
//! What was collected in memory is brought together there ([`super::held`]), by all threads at once, and each alert is
//! gone through twice: once for its place in the order, once to be printed. What was written to disk is sorted there:
//! events by second and identity, matches by alert, alerts by place.

use std::{
    io,
    sync::{Mutex, PoisonError},
    thread,
};

use sentinel_model::{Alert, Level};
use sentinel_spill::{Log, Pages, Sorter};

use super::{
    Counts, Found, Say, Wanted,
    fact::{AllFacts, Reader},
    held::{Held, Part},
    mark::{self, Mark},
    place,
    print::{Printer, Ready, Source},
    told::{self, RuleTexts, Told},
};
use crate::indicator_list::IndicatorList;

/// Bytes of matches and of alerts held before they go to disk.
const ON_DISK: usize = 6 << 20;
/// Parts that events are brought together in, for each thread.
const PARTS: usize = 3;
/// The same for all threads, at most.
const MOST_PARTS: usize = 256;

pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what was collected came back damaged")
}

pub(super) fn mark_in(bytes: &[u8]) -> io::Result<Mark<'_>> {
    Mark::read(bytes).ok_or_else(damaged)
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
    pub(super) fn alert_of(&self, mark: &Mark<'_>, rule: u32) -> io::Result<u128> {
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
        let held = Held::new(self, &events);
        let held = &held;
        // Each part, which has all events of some principals, is put in order by one thread. Some principals do far more
        // than others, so there are more parts than would be needed.
        let count = if threads > 1 { threads.saturating_mul(PARTS).min(MOST_PARTS) } else { 1 };
        let shares = held.shares(threads, count).into_iter();
        let sorted_out = at_once(threads, shares.map(|share| move || share.sort_out()).collect())?;
        let mut parts: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for shares in sorted_out {
            for (part, mut share) in parts.iter_mut().zip(shares) {
                if part.is_empty() { *part = share } else { part.append(&mut share) }
            }
        }
        let found = self.found_places()?;
        let share = found.len().div_ceil(threads).max(1);
        let of_found = at_once(threads, found.chunks(share).map(|some| move || self.found_ready(some)).collect())?;
        // Parts are far fewer than these numbers.
        let made = (0_u16..).zip(parts).map(|(n, part)| move || Part::new(held, n, part)).collect();
        let (mut ready, mut parts) = (Vec::new(), Vec::with_capacity(count));
        let mut add = |mut some: Vec<Ready>, counted: Counts| {
            if ready.is_empty() {
                ready = some;
            } else {
                ready.append(&mut some);
            }
            counts.iter_mut().zip(counted).for_each(|(all, n)| *all += n);
        };
        for (part, some, counted) in at_once(threads, made)? {
            parts.push(part);
            add(some, counted);
        }
        for (some, counted) in of_found {
            add(some, counted);
        }
        drop(events);
        // Alerts of models are far fewer than these numbers.
        for (n, alert) in (0_u32..).zip(self.others).filter(|(_, alert)| alert.level >= self.wanted.min_level) {
            ready.push(Ready { place: place(self.wanted.form, alert.level, alert.time), source: Source::Other(n) });
        }
        // Those of each part are in order of time, which a stable sort makes use of.
        ready.sort_by_key(|one| one.place);
        Printer::new(self, &parts, &mut ready)?.print(threads, take)
    }

    /// Where the alerts of correlations are, in the order in which their first events were kept: so what is near each
    /// other is read together.
    fn found_places(&self) -> io::Result<Vec<u64>> {
        let (mut places, mut pages) = (Vec::new(), Pages::default());
        let mut next = (!self.found.is_empty()).then_some(0);
        while let Some(at) = next {
            let bytes = self.found.get(at, &mut pages)?;
            next = self.found.next(at, bytes.len());
            let (_, mut events) = Found::read(bytes).ok_or_else(damaged)?;
            places.push((events.next(), at));
        }
        places.sort_unstable();
        Ok(places.into_iter().map(|(_, at)| at).collect())
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
                told.add_found(&found, events, &mut reader, self.list, false)?;
                told.time()
            };
            let level = told.end(rule);
            counts[level as usize] += 1;
            if level >= self.wanted.min_level {
                let place = place(self.wanted.form, level, time);
                found_ready.push(Ready { place, source: Source::Found(*at) });
            }
        }
        Ok((found_ready, counts))
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
        told.add_found(&found, events, reader, self.list, true)?;
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
            self.keep(&mut told, id, rule, &mut alerts, counts)?;
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
        let id = told.alert_id(rule);
        self.keep(told, &id, rule, alerts, counts)
    }

    /// Counts the alert that ended and keeps it if it is wanted.
    fn keep(
        &self,
        told: &mut Told,
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
        let place = place(self.wanted.form, level, told.time());
        alerts.push(place, 0, |into| {
            into.extend_from_slice(id.as_bytes());
            into.push(0);
            written = told.write(self.wanted.form, id, rule, into);
        })?;
        written
    }
}

/// Runs jobs side by side on so many threads, this one among them; what they give, in their order.
pub fn at_once<T: Send, E: Send>(threads: usize, jobs: Vec<impl FnOnce() -> Result<T, E> + Send>) -> Result<Vec<T>, E> {
    let threads = threads.min(jobs.len());
    if threads <= 1 {
        return jobs.into_iter().map(|job| job()).collect();
    }
    let jobs = Mutex::new(jobs.into_iter().enumerate());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((n, job)) = next() {
            done.push((n, job()?));
        }
        Ok(done)
    };
    let mut all = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work()?;
        others.into_iter().try_for_each(|one| {
            all.extend(one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok(())
        })?;
        Ok(all)
    })?;
    all.sort_unstable_by_key(|(n, _)| *n);
    Ok(all.into_iter().map(|(_, given)| given).collect())
}
