//! Prints alerts that were brought together in memory: all threads make them, in blocks, and one hands them on in
//! order.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sentinel_model::alert;
use sentinel_spill::Pages;

use super::{
    Found,
    fact::Reader,
    finish::Finish,
    held::Part,
    told::{self, RuleTexts, Told},
};

/// Alerts printed at a time by one thread.
const BLOCK: usize = 256;
/// Blocks that may be ready before the one that is next, for each thread.
const AHEAD: usize = 2;
/// Alerts told last whose events are remembered: several rules match the same events.
const KEPT: usize = 4;

/// An alert in memory: its place, and where it is. Of equal places the ids decide.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) place: u128,
    pub(super) source: Source,
}

/// Where an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Of a rule, its events among these of a part.
    Matches { part: u16, rule: u32, from: u32, to: u32 },
    /// Among those of correlations, at this place.
    Found(u64),
    /// Among the others, at this position.
    Other(u32),
}

/// Prints alerts that are ready, block by block.
pub(super) struct Printer<'p, 'f, 'r> {
    finish: &'p Finish<'f, 'r>,
    parts: &'p [Part],
    blocks: Vec<Block<'p>>,
}

/// Alerts that are printed together.
#[derive(Clone, Copy)]
struct Block<'p> {
    ready: &'p [Ready],
    /// Whether those of one place are in order of their ids.
    in_order: bool,
}

/// What one thread tells alerts with.
struct Teller<'p, 'f, 'r> {
    printer: &'p Printer<'p, 'f, 'r>,
    /// Reads events for both: they are looked at near each other.
    names: Names<'p, 'f, 'r>,
    /// Events, and what was gathered of them.
    kept: [(Vec<u64>, Told); KEPT],
    next: usize,
    found: Told,
}

/// A block's lines.
type Printed = Vec<u8>;

/// Blocks that are printed and wait for their turn.
#[derive(Default)]
struct Waiting {
    blocks: BTreeMap<usize, io::Result<Printed>>,
    /// Memory of those that were taken: taking it anew costs as much as filling it.
    spare: Vec<Printed>,
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

impl<'p, 'f, 'r> Printer<'p, 'f, 'r> {
    /// A printer of what is ready, in order of place.
    pub(super) fn new(finish: &'p Finish<'f, 'r>, parts: &'p [Part], ready: &'p mut [Ready]) -> io::Result<Self> {
        let mut names = Names { finish, parts, reader: finish.facts.reader(), pages: Pages::default() };
        for of_one_place in ready.chunk_by_mut(|a, b| a.place == b.place).filter(|some| some.len() > BLOCK) {
            names.sort(of_one_place)?;
        }
        let (mut ready, mut blocks): (&'p [Ready], _) = (ready, Vec::with_capacity(ready.len() / BLOCK + 1));
        while let Some(last) = ready.get(BLOCK.min(ready.len()).wrapping_sub(1)) {
            // Those of one place stay together, unless they are too many, which are in order already.
            let place = last.place;
            let (from, to) =
                (ready.partition_point(|one| one.place < place), ready.partition_point(|one| one.place <= place));
            let long = to - from > BLOCK;
            let end = if !long {
                to
            } else if from > 0 {
                from
            } else {
                BLOCK
            };
            let (block, rest) = ready.split_at(end);
            blocks.push(Block { ready: block, in_order: long && from == 0 });
            ready = rest;
        }
        Ok(Self { finish, parts, blocks })
    }

    pub(super) fn print(&self, threads: usize, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if threads == 1 || self.blocks.len() < 2 {
            let (mut teller, mut printed) = (Teller::new(self), Printed::default());
            return self.blocks.iter().try_for_each(|block| {
                teller.block(*block, &mut printed)?;
                take(&printed)
            });
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
                given = block.and_then(|block| {
                    take(&block)?;
                    waiting.lock().unwrap_or_else(PoisonError::into_inner).spare.push(block);
                    Ok(())
                });
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
        let mut teller = Teller::new(self);
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
            let mut printed = all.spare.pop().unwrap_or_default();
            drop(all);
            let alarm = Alarm { n, waiting, changed };
            let block = teller.block(self.blocks[n], &mut printed).map(|()| printed);
            waiting.lock().unwrap_or_else(PoisonError::into_inner).blocks.insert(n, block);
            drop(alarm);
            changed.notify_all();
        }
    }
}

/// The ids of alerts, which decide between equal places.
struct Names<'p, 'f, 'r> {
    finish: &'p Finish<'f, 'r>,
    parts: &'p [Part],
    reader: Reader<'f>,
    pages: Pages,
}

impl Names<'_, '_, '_> {
    fn id(&mut self, source: &Source) -> io::Result<String> {
        match *source {
            Source::Matches { part, rule, from, .. } => {
                let fact = self.reader.get(self.parts[usize::from(part)].events[from as usize])?;
                let rule = self.finish.rule(rule)?;
                Ok(alert::alert_id(&rule.rule.rule.id, fact.principal, fact.account, rule.window(fact.time)))
            }
            Source::Found(at) => Ok(Found::at(self.finish.found, at, &mut self.pages)?.0.alert_id.to_owned()),
            Source::Other(at) => Ok(self.finish.others[at as usize].alert_id.clone()),
        }
    }

    /// Alerts of one place in order, with their ids.
    fn named(&mut self, of_one_place: &[Ready]) -> io::Result<Vec<(String, Source)>> {
        let mut named = Vec::with_capacity(of_one_place.len());
        for ready in of_one_place {
            named.push((self.id(&ready.source)?, ready.source));
        }
        named.sort_unstable();
        Ok(named)
    }

    /// Puts alerts of one place in order.
    fn sort(&mut self, of_one_place: &mut [Ready]) -> io::Result<()> {
        let named = self.named(of_one_place)?;
        for (ready, (_, source)) in of_one_place.iter_mut().zip(named) {
            ready.source = source;
        }
        Ok(())
    }
}

impl<'p, 'f, 'r> Teller<'p, 'f, 'r> {
    fn new(printer: &'p Printer<'p, 'f, 'r>) -> Self {
        let Printer { finish, parts, .. } = *printer;
        Self {
            printer,
            names: Names { finish, parts, reader: finish.facts.reader(), pages: Pages::default() },
            kept: std::array::from_fn(|_| (Vec::new(), Told::new())),
            next: 0,
            found: Told::new(),
        }
    }

    /// Prints a block into memory of another one.
    fn block(&mut self, Block { ready: block, in_order }: Block<'_>, text: &mut Printed) -> io::Result<()> {
        text.clear();
        for of_one_place in block.chunk_by(|a, b| !in_order && a.place == b.place) {
            if let [ready] = of_one_place {
                self.one(&ready.source, None, text)?;
                continue;
            }
            for (id, source) in self.names.named(of_one_place)? {
                self.one(&source, Some(id), text)?;
            }
        }
        Ok(())
    }

    /// Appends one alert, whose id may be known.
    fn one(&mut self, source: &Source, id: Option<String>, text: &mut Vec<u8>) -> io::Result<()> {
        let finish = self.printer.finish;
        let form = finish.wanted.form;
        match *source {
            Source::Matches { part, rule, from, to } => {
                let rule = finish.rule(rule)?;
                let told = self.gathered(self.printer.parts[usize::from(part)].of(from, to), rule)?;
                let id = id.unwrap_or_else(|| told.alert_id(rule));
                told.write(form, &id, rule, text)
            }
            Source::Found(at) => {
                let (id, rule) =
                    finish.tell_found(&mut self.found, at, &mut self.names.reader, &mut self.names.pages)?;
                self.found.write(form, id, rule, text)
            }
            Source::Other(at) => told::write_alert(form, &finish.others[at as usize], text),
        }
    }

    /// The events of an alert of a rule, gathered.
    fn gathered(&mut self, events: &[u64], rule: &RuleTexts<'_>) -> io::Result<&mut Told> {
        let finish = self.printer.finish;
        // What a list of indicators says of an event depends on the rule's window, too.
        let known = self.kept.iter().position(|(of, _)| of == events).filter(|_| finish.list.is_empty());
        let at = known.unwrap_or(self.next);
        let (of, told) = &mut self.kept[at];
        if known.is_none() {
            self.next = (at + 1) % KEPT;
            // Until all of them are gathered, it is of none.
            of.clear();
            told.begin();
            for at in events {
                told.add(&self.names.reader.get(*at)?, rule, finish.say, finish.list);
            }
            of.extend_from_slice(events);
        }
        told.end(rule);
        Ok(told)
    }
}
