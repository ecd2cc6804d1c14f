//! From collected events to alerts: repeats go, matches are brought together, alerts come out in order.
//!
//! What was collected in memory is brought together there, by all threads at once, and each alert is gone through
//! twice: once for its place in the order, once to be printed. What was written to disk is sorted there: events by
//! identity, matches by alert, alerts by place.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sentinel_model::{Alert, hash};

use super::{
    Collector, Counts, Form, Wanted,
    fact::Fact,
    place,
    sorter::Sorter,
    told::{self, RuleTexts, Told},
};
use crate::indicator_list::IndicatorList;

/// Alerts printed at a time by one thread.
const BLOCK: usize = 256;
/// Blocks that may be ready before the one that is next, for each thread.
const AHEAD: usize = 4;
/// Bytes of matches and of alerts held before they go to disk.
const ON_DISK: usize = 6 << 20;

/// Appends the numbers of rules behind an event's bytes.
pub(super) fn write_rules(rules: &[u32], into: &mut Vec<u8>) {
    for rule in rules {
        into.extend_from_slice(&rule.to_le_bytes());
    }
    into.extend_from_slice(&u32::try_from(rules.len()).unwrap_or(u32::MAX).to_le_bytes());
}

/// An event's bytes and the numbers behind them.
fn split_rules(bytes: &[u8]) -> Option<(&[u8], impl Iterator<Item = u32>)> {
    let (rest, count) = bytes.split_last_chunk::<4>()?;
    let rules = (u32::from_le_bytes(*count) as usize).checked_mul(4)?;
    let (fact, rules) = rest.split_at_checked(rest.len().checked_sub(rules)?)?;
    Some((fact, rules.chunks_exact(4).map(|r| u32::from_le_bytes([r[0], r[1], r[2], r[3]]))))
}

fn fact_in(bytes: &[u8]) -> io::Result<Fact<'_>> {
    split_rules(bytes).and_then(|(fact, _)| Fact::read(fact)).ok_or_else(damaged)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what was collected came back damaged")
}

/// An event in memory: its collector and its number there.
type At = (u16, u32);

/// A match in memory.
#[derive(Debug, Clone, Copy)]
struct Match {
    alert: (u64, u64),
    event: At,
    rule: u32,
}

/// An alert in memory: its place, its id, and where its matches are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    place: u128,
    id: String,
    /// Part and its matches; the last part is that of the others.
    part: usize,
    from: usize,
    to: usize,
}

/// What is needed to make alerts.
pub(super) struct Finish<'f, 'r> {
    pub(super) rules: &'f [RuleTexts<'r>],
    pub(super) list: &'f IndicatorList,
    pub(super) wanted: Wanted,
    pub(super) others: &'f [Alert],
}

impl Finish<'_, '_> {
    fn rule(&self, number: u32) -> io::Result<&RuleTexts<'_>> {
        self.rules.get(number as usize).ok_or_else(damaged)
    }

    /// The alert that a match belongs to.
    fn alert_of(&self, fact: &Fact<'_>, who: u128, rule: u32) -> io::Result<u128> {
        let window = self.rule(rule)?.window(fact.time);
        let mut key = [0; 28];
        key[..16].copy_from_slice(&who.to_le_bytes());
        key[16..20].copy_from_slice(&rule.to_le_bytes());
        key[20..].copy_from_slice(&window.start.as_second().to_le_bytes());
        Ok(hash::hash_128(&key))
    }

    pub(super) fn in_memory(
        &self,
        mut collectors: Vec<Collector>,
        counts: &mut Counts,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        collectors.iter_mut().for_each(Collector::seal);
        let threads = self.wanted.threads.max(1);
        let events = distinct(&collectors);
        let held = &Held { finish: self, collectors: &collectors };
        // Each thread sorts matches out by part, then each part is put in order by one.
        let share = events.len().div_ceil(threads).max(1);
        let sorted_out = at_once(events.chunks(share).map(|some| move || held.matches(some, threads)).collect())?;
        drop(events);
        let mut parts: Vec<Vec<Match>> = vec![Vec::new(); threads];
        for shares in sorted_out {
            for (part, mut share) in parts.iter_mut().zip(shares) {
                if part.is_empty() { *part = share } else { part.append(&mut share) }
            }
        }
        let made = at_once(parts.iter_mut().enumerate().map(|(n, part)| move || held.ready(n, part)).collect())?;
        let mut ready = Vec::new();
        for (mut some, counted) in made {
            if ready.is_empty() {
                ready = some;
            } else {
                ready.append(&mut some);
            }
            counts.iter_mut().zip(counted).for_each(|(all, n)| *all += n);
        }
        ready.extend(self.others.iter().enumerate().filter(|(_, a)| a.level >= self.wanted.min_level).map(|(n, a)| {
            let place = place(self.wanted.form, a.level, a.time);
            Ready { place, id: a.alert_id.clone(), part: threads, from: n, to: n }
        }));
        ready.sort_unstable();
        let printer = Printer { held, parts: &parts, blocks: ready.chunks(BLOCK).collect() };
        printer.print(threads, take)
    }

    /// The same with sorted runs on disk between the steps.
    pub(super) fn on_disk(
        &self,
        collectors: Vec<Collector>,
        counts: &mut Counts,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut matches = Sorter::new(ON_DISK);
        let mut events = Sorter::merge(collectors.into_iter().map(|c| c.events).collect())?;
        let mut last = None;
        while let Some((key, bytes)) = events.take_next()? {
            if last.replace(key) == Some(key) {
                continue;
            }
            let (fact_bytes, rules) = split_rules(bytes).ok_or_else(damaged)?;
            let fact = Fact::read(fact_bytes).ok_or_else(damaged)?;
            let who = who(&fact);
            for rule in rules {
                matches.push(self.alert_of(&fact, who, rule)?, 0, |into| {
                    into.extend_from_slice(fact_bytes);
                    write_rules(&[rule], into);
                })?;
            }
        }
        drop(events);
        let mut matches = Sorter::merge(vec![matches])?;
        let mut alerts = Sorter::new(ON_DISK);
        let (mut told, mut open) = (Told::new(), None);
        while let Some((alert, bytes)) = matches.take_next()? {
            let (_, mut rules) = split_rules(bytes).ok_or_else(damaged)?;
            let rule = rules.next().ok_or_else(damaged)?;
            if open.is_none_or(|(known, _)| known != alert) {
                self.close(&mut told, open, &mut alerts, counts)?;
                told.begin();
                open = Some((alert, rule));
            }
            told.add(&fact_in(bytes)?, self.rule(rule)?, self.list);
        }
        self.close(&mut told, open, &mut alerts, counts)?;
        drop(matches);
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

    /// Counts the alert that ends and keeps it if it is wanted.
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
        counts[level as usize] += 1;
        if level < self.wanted.min_level {
            return Ok(());
        }
        let id = told.alert_id(rule);
        let mut written = Ok(());
        alerts.push(place(self.wanted.form, level, told.time()), 0, |into| {
            into.extend_from_slice(id.as_bytes());
            into.push(0);
            written = told.write(self.wanted.form, &id, rule, into);
        })?;
        written
    }
}

/// Principal and account.
fn who(fact: &Fact<'_>) -> u128 {
    let mut text = Vec::with_capacity(fact.principal.len() + fact.account.len() + 1);
    text.extend_from_slice(fact.account.as_bytes());
    text.push(0);
    text.extend_from_slice(fact.principal.as_bytes());
    hash::hash_128(&text)
}

/// The events of sealed collectors, each once: of several copies the one whose bytes come first.
fn distinct(collectors: &[Collector]) -> Vec<At> {
    let mut next: Vec<usize> = vec![0; collectors.len()];
    let mut found = Vec::with_capacity(collectors.iter().map(|c| c.events.in_memory()).sum());
    let mut before = None;
    loop {
        let heads = collectors.iter().zip(&next).enumerate();
        let least = heads
            .filter(|(_, (c, at))| **at < c.events.in_memory())
            .min_by(|(_, (a, i)), (_, (b, j))| a.events.get(**i).cmp(&b.events.get(**j)))
            .map(|(n, (c, at))| (n, *at, c.events.get(*at).0));
        let Some((n, at, key)) = least else { return found };
        if before.replace(key) != Some(key) {
            // Threads and records of one run are far fewer than these numbers.
            found.push((u16::try_from(n).unwrap_or(u16::MAX), u32::try_from(at).unwrap_or(u32::MAX)));
        }
        next[n] += 1;
    }
}

/// Everything in memory.
struct Held<'h, 'f, 'r> {
    finish: &'h Finish<'f, 'r>,
    collectors: &'h [Collector],
}

impl Held<'_, '_, '_> {
    fn bytes(&self, at: At) -> &[u8] {
        self.collectors[usize::from(at.0)].events.get(at.1 as usize).1
    }

    /// The matches of some events, by part.
    fn matches(&self, events: &[At], parts: usize) -> io::Result<Vec<Vec<Match>>> {
        let mut found = vec![Vec::new(); parts];
        for &event in events {
            let (fact, rules) = split_rules(self.bytes(event)).ok_or_else(damaged)?;
            let fact = Fact::read(fact).ok_or_else(damaged)?;
            let who = who(&fact);
            for rule in rules {
                let alert = self.finish.alert_of(&fact, who, rule)?;
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
        let wanted = &self.finish.wanted;
        let (mut found, mut counts, mut told) = (Vec::new(), Counts::default(), Told::new());
        let mut from = 0;
        for of_one in matches.chunk_by(|a, b| a.alert == b.alert) {
            let to = from + of_one.len();
            let rule = self.rule_of(of_one)?;
            told.begin();
            for one in of_one {
                told.weigh(&fact_in(self.bytes(one.event))?, rule, self.finish.list);
            }
            let level = told.end(rule);
            counts[level as usize] += 1;
            if level >= wanted.min_level {
                let place = place(wanted.form, level, told.time());
                found.push(Ready { place, id: told.alert_id(rule), part, from, to });
            }
            from = to;
        }
        Ok((found, counts))
    }

    fn rule_of(&self, matches: &[Match]) -> io::Result<&RuleTexts<'_>> {
        self.finish.rule(matches.first().ok_or_else(damaged)?.rule)
    }

    /// Goes through the matches of one alert.
    fn tell(&self, told: &mut Told, matches: &[Match]) -> io::Result<&RuleTexts<'_>> {
        let rule = self.rule_of(matches)?;
        told.begin();
        for one in matches {
            told.add(&fact_in(self.bytes(one.event))?, rule, self.finish.list);
        }
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

/// Prints alerts that are ready, block by block.
struct Printer<'p, 'h, 'f, 'r> {
    held: &'p Held<'h, 'f, 'r>,
    parts: &'p [Vec<Match>],
    blocks: Vec<&'p [Ready]>,
}

/// A block's text, and where its alerts end in it.
type Block = (Vec<u8>, Vec<usize>);

/// Blocks that are printed and wait for their turn.
#[derive(Default)]
struct Waiting {
    blocks: BTreeMap<usize, io::Result<Block>>,
    /// The block that is next to be taken.
    next: usize,
    /// Whoever takes them has stopped.
    stopped: bool,
}

/// Tells whoever waits for a block that it will not come because its thread panicked.
struct Alarm<'a> {
    n: usize,
    waiting: &'a Mutex<Waiting>,
    changed: &'a Condvar,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let block = Err(io::Error::other("a thread that prints alerts panicked"));
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).blocks.insert(self.n, block);
            self.changed.notify_all();
        }
    }
}

impl Printer<'_, '_, '_, '_> {
    fn print(&self, threads: usize, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut told = Told::new();
        if threads == 1 || self.blocks.len() < 2 {
            return (0..self.blocks.len()).try_for_each(|n| give(&self.block(n, &mut told)?, take));
        }
        let (waiting, changed) = (Mutex::new(Waiting::default()), Condvar::new());
        let started = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.work(threads * AHEAD, &started, &waiting, &changed));
            }
            let mut given = Ok(());
            for n in 0..self.blocks.len() {
                let mut all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let block = loop {
                    if let Some(block) = all.blocks.remove(&n) {
                        break block;
                    }
                    all = changed.wait(all).unwrap_or_else(PoisonError::into_inner);
                };
                all.next = n + 1;
                drop(all);
                changed.notify_all();
                given = block.and_then(|block| give(&block, take));
                if given.is_err() {
                    break;
                }
            }
            waiting.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
            changed.notify_all();
            given
        })
    }

    /// One thread: makes blocks until none is left, not too far ahead of the one that is next.
    fn work(&self, ahead: usize, started: &AtomicUsize, waiting: &Mutex<Waiting>, changed: &Condvar) {
        let mut told = Told::new();
        loop {
            let n = started.fetch_add(1, Ordering::Relaxed);
            if n >= self.blocks.len() {
                return;
            }
            let mut all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            while !all.stopped && n >= all.next + ahead {
                all = changed.wait(all).unwrap_or_else(PoisonError::into_inner);
            }
            if all.stopped {
                return;
            }
            drop(all);
            let alarm = Alarm { n, waiting, changed };
            let block = self.block(n, &mut told);
            waiting.lock().unwrap_or_else(PoisonError::into_inner).blocks.insert(n, block);
            drop(alarm);
            changed.notify_all();
        }
    }

    fn block(&self, n: usize, told: &mut Told) -> io::Result<Block> {
        let form = self.held.finish.wanted.form;
        let mut text = Vec::with_capacity(if form == Form::Line { BLOCK * 1536 } else { BLOCK * 384 });
        let mut ends = Vec::with_capacity(BLOCK);
        for ready in self.blocks[n] {
            if let Some(part) = self.parts.get(ready.part) {
                let rule = self.held.tell(told, &part[ready.from..ready.to])?;
                told.end(rule);
                told.write(form, &ready.id, rule, &mut text)?;
            } else {
                told::write_alert(form, &self.held.finish.others[ready.from], &mut text)?;
            }
            ends.push(text.len());
        }
        Ok((text, ends))
    }
}

fn give((text, ends): &Block, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut from = 0;
    for &end in ends {
        take(&text[from..end])?;
        from = end;
    }
    Ok(())
}
