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

use sentinel_spill::Pages;

use super::{
    Form,
    finish::{Held, Match},
    told::{self, Told},
};

/// Alerts printed at a time by one thread.
const BLOCK: usize = 256;
/// Blocks that may be ready before the one that is next, for each thread.
const AHEAD: usize = 4;

/// An alert in memory: its place, its id, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ready {
    pub(super) place: u128,
    pub(super) id: String,
    pub(super) source: Source,
}

/// Where an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Among these matches of a part.
    Matches { part: usize, from: usize, to: usize },
    /// Among those of correlations, at this place.
    Found(u64),
    /// Among the others, at this position.
    Other(usize),
}

/// Prints alerts that are ready, block by block.
pub(super) struct Printer<'p, 'h, 'f, 'r> {
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

impl<'p, 'h, 'f, 'r> Printer<'p, 'h, 'f, 'r> {
    pub(super) fn new(held: &'p Held<'h, 'f, 'r>, parts: &'p [Vec<Match>], ready: &'p [Ready]) -> Self {
        Self { held, parts, blocks: ready.chunks(BLOCK).collect() }
    }

    pub(super) fn print(&self, threads: usize, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
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
        let finish = self.held.finish;
        let form = finish.wanted.form;
        let mut text = Vec::with_capacity(if form == Form::Line { BLOCK * 1536 } else { BLOCK * 384 });
        let mut ends = Vec::with_capacity(BLOCK);
        let (mut reader, mut pages) = (finish.facts.reader(), Pages::default());
        for ready in self.blocks[n] {
            match ready.source {
                Source::Matches { part, from, to } => {
                    let rule = self.held.tell(told, &self.parts[part][from..to], &mut reader)?;
                    told.write(form, &ready.id, rule, &mut text)?;
                }
                Source::Found(at) => {
                    let (id, rule) = finish.tell_found(told, at, &mut reader, &mut pages)?;
                    told.write(form, id, rule, &mut text)?;
                }
                Source::Other(at) => told::write_alert(form, &finish.others[at], &mut text)?,
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
