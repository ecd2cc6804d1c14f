//! Prints alerts that were brought together in memory: all threads make them, in blocks, and one hands them on in
//! order.

use std::{
    collections::BTreeMap,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
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

/// Alerts printed at a time by one thread: a block that waits for its turn stays in a processor's nearer memory.
const BLOCK: usize = 96;
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

/// Blocks that are printed and wait for their turn, and who waits for what.
#[derive(Default)]
struct Waiting {
    blocks: BTreeMap<usize, io::Result<Printed>>,
    /// Memory of those that were taken: taking it anew costs as much as filling it.
    spare: Vec<Printed>,
    /// The block that nobody has begun yet.
    unbegun: usize,
    /// The block that is next to be taken.
    next: usize,
    /// Whoever takes them has stopped.
    stopped: bool,
    /// How many threads wait. Waking costs a call of the system even where nobody does.
    asleep: usize,
}

/// What the threads share.
struct Turns {
    /// How many blocks there are.
    blocks: usize,
    /// So many may be ready before the one that is next.
    ahead: usize,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed.
    fn wait<'a>(&self, mut all: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        all.asleep += 1;
        let mut all = self.changed.wait(all).unwrap_or_else(PoisonError::into_inner);
        all.asleep -= 1;
        all
    }

    fn tell(&self, all: &Waiting) {
        if all.asleep > 0 {
            self.changed.notify_all();
        }
    }

    /// A block to print and memory for it; none where all are begun, or enough are ready.
    fn begin(&self, all: &mut Waiting) -> Option<(usize, Printed)> {
        let n = all.unbegun;
        if all.stopped || n >= self.blocks || n >= all.next + self.ahead {
            return None;
        }
        all.unbegun += 1;
        Some((n, all.spare.pop().unwrap_or_default()))
    }
}

/// Tells whoever waits for a block that it will not come because its thread panicked.
struct Alarm<'a> {
    n: usize,
    turns: &'a Turns,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let block = Err(io::Error::other("a thread that prints alerts panicked"));
            let mut all = self.turns.lock();
            all.blocks.insert(self.n, block);
            self.turns.tell(&all);
        }
    }
}

/// Has the others go home, however the one that takes blocks ended.
struct Stop<'a>(&'a Turns);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let mut all = self.0.lock();
        all.stopped = true;
        self.0.tell(&all);
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
        let turns = Turns {
            blocks: self.blocks.len(),
            ahead: threads * AHEAD,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| self.help(&turns));
            }
            let _stop = Stop(&turns);
            let mut teller = Teller::new(self);
            (0..self.blocks.len()).try_for_each(|n| {
                let block = self.nth(n, &mut teller, &turns)?;
                take(&block)?;
                turns.lock().spare.push(block);
                Ok(())
            })
        })
    }

    /// The block that is next. Prints others as long as it is not there.
    fn nth(&self, n: usize, teller: &mut Teller<'p, 'f, 'r>, turns: &Turns) -> io::Result<Printed> {
        let mut all = turns.lock();
        loop {
            if let Some(block) = all.blocks.remove(&n) {
                all.next = n + 1;
                turns.tell(&all);
                return block;
            }
            all = match turns.begin(&mut all) {
                Some((begun, mut printed)) => {
                    drop(all);
                    let block = teller.block(self.blocks[begun], &mut printed).map(|()| printed);
                    let mut all = turns.lock();
                    all.blocks.insert(begun, block);
                    all
                }
                None => turns.wait(all),
            };
        }
    }

    /// Another thread: prints blocks until none is left, not too far ahead of the one that is next.
    fn help(&'p self, turns: &Turns) {
        let mut teller = Teller::new(self);
        let mut all = turns.lock();
        while !all.stopped && all.unbegun < turns.blocks {
            let Some((n, mut printed)) = turns.begin(&mut all) else {
                all = turns.wait(all);
                continue;
            };
            drop(all);
            let alarm = Alarm { n, turns };
            let block = teller.block(self.blocks[n], &mut printed).map(|()| printed);
            drop(alarm);
            all = turns.lock();
            all.blocks.insert(n, block);
            // Only one is waited for.
            if n == all.next {
                turns.tell(&all);
            }
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
