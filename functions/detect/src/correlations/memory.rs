//! Correlations of a whole input: hits are collected in any order, by any number of workers, and looked at in
//! the end.
//!
//! Hits are kept as bytes and sorted by correlation, account, group and time; what is more than the budget goes to
//! temporary files, sorted, and all are merged while reading. So memory is bounded by the budget, a buffer for each
//! file, and the buckets of one group; correlations that refer to correlations are looked at after those.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
};

use sentinel_correlation::{Bucket, Contested, Group, Hit, Outcome, Plan, completing, evaluate, revision, wire};
use sentinel_model::{Detection, Event, EventRef, Window, hash};
use sonic_rs::Value;

use super::Correlated;
use crate::rules::{Correlations, RuleIndex, RuleSet};

/// Bytes of hits kept in memory by one collector.
const BUDGET: usize = 6 * 1024 * 1024;
/// Bytes read from a file at once.
const READ: usize = 32 * 1024;
/// Files merged at once; more are merged into one before.
const MAX_RUNS: usize = 64;

/// What can go wrong with the hits that do not fit into memory.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The temporary file failed.
    #[error("the temporary file for correlations failed: {0}")]
    Io(#[from] io::Error),
    /// It does not hold what was written.
    #[error("the temporary file for correlations is damaged: {0}")]
    Malformed(#[from] wire::Malformed),
}

/// Where a hit belongs: what hits are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    depth: u16,
    plan: u32,
    account: u64,
    group: u128,
    seconds: i64,
}

const PLACE_BYTES: usize = 2 + 4 + 8 + 16 + 8;

impl Place {
    fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..2].copy_from_slice(&self.depth.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.plan.to_le_bytes());
        bytes[6..14].copy_from_slice(&self.account.to_le_bytes());
        bytes[14..30].copy_from_slice(&self.group.to_le_bytes());
        bytes[30..].copy_from_slice(&self.seconds.to_le_bytes());
        bytes
    }

    fn of_bytes(bytes: &[u8; PLACE_BYTES]) -> Self {
        fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            let mut part = [0; N];
            part.copy_from_slice(&bytes[at..at + N]);
            part
        }
        Self {
            depth: u16::from_le_bytes(part(bytes, 0)),
            plan: u32::from_le_bytes(part(bytes, 2)),
            account: u64::from_le_bytes(part(bytes, 6)),
            group: u128::from_le_bytes(part(bytes, 14)),
            seconds: i64::from_le_bytes(part(bytes, 30)),
        }
    }
}

/// Hits as bytes, with the table of their texts.
#[derive(Default)]
struct Chunk {
    table: wire::Table,
    bytes: Vec<u8>,
    index: Vec<(Place, usize, usize)>,
}

impl Chunk {
    fn add(&mut self, place: Place, account: &str, group: &Group, hit: &Hit) {
        let start = self.bytes.len();
        wire::write_group(&Group(vec![Some(account.to_owned())]), &mut self.table, &mut self.bytes);
        wire::write_group(group, &mut self.table, &mut self.bytes);
        wire::write_hit(hit, &mut self.table, &mut self.bytes);
        self.index.push((place, start, self.bytes.len()));
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.index.len() * size_of::<(Place, usize, usize)>()
    }

    fn sort(&mut self) {
        self.index.sort_unstable_by_key(|(place, start, _)| (*place, *start));
    }

    /// Writes the hits, sorted, to a temporary file.
    fn spill(mut self) -> io::Result<File> {
        self.sort();
        let mut out = BufWriter::new(tempfile::tempfile()?);
        let mut table = Vec::new();
        self.table.write(&mut table);
        out.write_all(&(table.len() as u64).to_le_bytes())?;
        out.write_all(&table)?;
        for (place, start, end) in &self.index {
            out.write_all(&place.to_bytes())?;
            out.write_all(&((end - start) as u64).to_le_bytes())?;
            out.write_all(&self.bytes[*start..*end])?;
        }
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

/// Sorted hits to be read one after the other.
enum Run {
    Memory { chunk: Chunk, next: usize },
    File { table: wire::Table, file: BufReader<File> },
}

impl Run {
    fn of_file(file: File) -> Result<Self, SpillError> {
        let mut file = BufReader::with_capacity(READ, file);
        let bytes = block(&mut file)?;
        Ok(Self::File { table: wire::Table::read(&mut bytes.as_slice())?, file })
    }

    fn of_chunk(mut chunk: Chunk) -> Self {
        chunk.sort();
        Self::Memory { chunk, next: 0 }
    }

    fn next(&mut self) -> Result<Option<(Place, Correlated)>, SpillError> {
        match self {
            Self::Memory { chunk, next } => {
                let Some((place, start, end)) = chunk.index.get(*next) else { return Ok(None) };
                *next += 1;
                Ok(Some((*place, decode(*place, &chunk.bytes[*start..*end], &chunk.table)?)))
            }
            Self::File { table, file } => {
                let mut bytes = [0; PLACE_BYTES];
                if file.read(&mut bytes[..1])? == 0 {
                    return Ok(None);
                }
                file.read_exact(&mut bytes[1..])?;
                let place = Place::of_bytes(&bytes);
                Ok(Some((place, decode(place, &block(file)?, table)?)))
            }
        }
    }
}

/// Reads a length and so many bytes.
fn block(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    let length = u64::from_le_bytes(length);
    if file.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn decode(place: Place, mut bytes: &[u8], table: &wire::Table) -> Result<Correlated, SpillError> {
    let account = wire::read_group(&mut bytes, table)?.0.into_iter().flatten().next().unwrap_or_default();
    let group = wire::read_group(&mut bytes, table)?;
    let hit = wire::read_hit(&mut bytes, table)?;
    Ok(Correlated { plan: place.plan as usize, account, group, hit })
}

/// Who is told of a plan's detections.
type Told<'a> = dyn FnMut(usize, Detection) + 'a;

/// Collects hits; each worker has its own, and they are joined in the end.
pub struct Correlator {
    budget: usize,
    chunk: Chunk,
    spilled: Vec<File>,
    full: Vec<Chunk>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self::with_budget(BUDGET)
    }
}

impl Correlator {
    /// A collector that keeps so many bytes in memory.
    pub fn with_budget(budget: usize) -> Self {
        Self { budget, chunk: Chunk::default(), spilled: Vec::new(), full: Vec::new() }
    }

    /// Adds what an event with these matches counts for correlations. All of one collector's events, and those of
    /// collectors that it is joined with, are matched by one set. `record` is the event's.
    pub fn add(
        &mut self,
        rules: &RuleSet,
        event: &Event,
        record: &Value,
        hits: &[RuleIndex],
    ) -> Result<(), SpillError> {
        if rules.feeds_correlations(hits) {
            for correlated in rules.correlated(event, record, hits) {
                self.push(rules.correlations(), &correlated)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, correlations: &Correlations, correlated: &Correlated) -> Result<(), SpillError> {
        let Correlated { plan, account, group, hit } = correlated;
        let place = Place {
            depth: u16::try_from(correlations.depths[*plan]).unwrap_or(u16::MAX),
            plan: u32::try_from(*plan).unwrap_or(u32::MAX),
            account: hash::string_hash(account),
            group: group.key(correlations.plans[*plan].fingerprint),
            seconds: hit.event().time.as_second(),
        };
        self.chunk.add(place, account, group, hit);
        if self.chunk.size() > self.budget {
            self.spilled.push(std::mem::take(&mut self.chunk).spill()?);
        }
        Ok(())
    }

    /// Whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.chunk.index.is_empty() && self.full.is_empty() && self.spilled.is_empty()
    }

    /// Joins another worker's.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.spilled.extend(other.spilled);
        self.full.extend(other.full);
        self.full.push(other.chunk);
        self
    }

    /// The detections of all correlations, each handed to `each` as soon as it is known.
    pub fn finish(self, rules: &RuleSet, mut each: impl FnMut(Detection)) -> Result<(), SpillError> {
        self.each(rules, &mut |plan, detection| {
            if !rules.correlations().quiet_plans.contains(&plan) {
                each(detection);
            }
        })
    }

    /// All correlations that complete, by position, also those that raise no alert of their own.
    pub(crate) fn finish_all(self, rules: &RuleSet, mut each: impl FnMut(usize)) -> Result<(), SpillError> {
        self.each(rules, &mut |plan, _| each(plan))
    }

    fn each(self, rules: &RuleSet, each: &mut Told<'_>) -> Result<(), SpillError> {
        let correlations = rules.correlations();
        let mut runs: Vec<Run> = self.full.into_iter().chain([self.chunk]).map(Run::of_chunk).collect();
        runs.extend(self.spilled.into_iter().map(Run::of_file).collect::<Result<Vec<_>, _>>()?);
        while runs.len() > MAX_RUNS {
            let some = runs.split_off(runs.len() - MAX_RUNS);
            runs.push(joined(some)?);
        }
        let mut merged = Merged::new(runs)?;
        let mut upper = Self::with_budget(self.budget);
        let mut scope: Option<Scope<'_>> = None;
        loop {
            // Whoever refers to correlations is looked at when all of these are: their hits come by then.
            let depth = merged.next_place().map(|place| place.depth);
            let ends_depth = scope.as_ref().is_some_and(|scope| Some(scope.place.depth) != depth);
            if ends_depth && let Some(done) = scope.take() {
                done.finish(&mut upper, each)?;
                let more = std::mem::replace(&mut upper, Self::with_budget(self.budget));
                merged.add(Run::of_chunk(more.chunk))?;
                for file in more.spilled {
                    merged.add(Run::of_file(file)?)?;
                }
                continue;
            }
            let Some((place, correlated)) = merged.pop()? else { break };
            if scope.as_ref().is_none_or(|scope| !scope.holds(place))
                && let Some(done) = scope.replace(Scope::new(correlations, place, &correlated))
            {
                done.finish(&mut upper, each)?;
            }
            if let Some(scope) = &mut scope {
                scope.add(place, correlated, &mut upper, each)?;
            }
        }
        Ok(())
    }
}

/// Several sorted runs as one file.
fn joined(runs: Vec<Run>) -> Result<Run, SpillError> {
    let mut merged = Merged::new(runs)?;
    let mut chunk = Chunk::default();
    let mut out = BufWriter::new(tempfile::tempfile()?);
    // The table stands before the hits and is known after them: none is used.
    let mut table = Vec::new();
    chunk.table.write(&mut table);
    out.write_all(&(table.len() as u64).to_le_bytes())?;
    out.write_all(&table)?;
    while let Some((place, correlated)) = merged.pop()? {
        chunk.bytes.clear();
        chunk.index.clear();
        chunk.table = wire::Table::closed();
        chunk.add(place, &correlated.account, &correlated.group, &correlated.hit);
        out.write_all(&place.to_bytes())?;
        out.write_all(&(chunk.bytes.len() as u64).to_le_bytes())?;
        out.write_all(&chunk.bytes)?;
    }
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Run::of_file(file)
}

/// Runs read as one.
struct Merged {
    runs: Vec<Run>,
    heads: BinaryHeap<Head>,
}

struct Head {
    place: Place,
    run: usize,
    correlated: Correlated,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    /// The heap's greatest is the first in order.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.place, other.run).cmp(&(self.place, self.run))
    }
}

impl Merged {
    fn new(runs: Vec<Run>) -> Result<Self, SpillError> {
        let mut merged = Self { runs: Vec::new(), heads: BinaryHeap::new() };
        for run in runs {
            merged.add(run)?;
        }
        Ok(merged)
    }

    fn add(&mut self, run: Run) -> Result<(), SpillError> {
        self.runs.push(run);
        self.advance(self.runs.len() - 1)
    }

    fn advance(&mut self, run: usize) -> Result<(), SpillError> {
        if let Some((place, correlated)) = self.runs[run].next()? {
            self.heads.push(Head { place, run, correlated });
        }
        Ok(())
    }

    fn next_place(&self) -> Option<Place> {
        self.heads.peek().map(|head| head.place)
    }

    fn pop(&mut self) -> Result<Option<(Place, Correlated)>, SpillError> {
        let Some(Head { place, run, correlated }) = self.heads.pop() else { return Ok(None) };
        self.advance(run)?;
        Ok(Some((place, correlated)))
    }
}

/// One correlation in one account: its groups come one after the other, the hits of each in order of time.
struct Scope<'a> {
    correlations: &'a Correlations,
    plan: &'a Plan,
    place: Place,
    account: String,
    group: Group,
    /// The window that is filled, and the two before it.
    window: Option<Window>,
    buckets: [Bucket; 3],
    /// Outcomes with events that another group's alert may list.
    waiting: Vec<(Group, u128, Window, Outcome)>,
}

impl<'a> Scope<'a> {
    fn new(correlations: &'a Correlations, place: Place, first: &Correlated) -> Self {
        Self {
            correlations,
            plan: &correlations.plans[first.plan],
            place,
            account: first.account.clone(),
            group: first.group.clone(),
            window: None,
            buckets: Default::default(),
            waiting: Vec::new(),
        }
    }

    fn holds(&self, place: Place) -> bool {
        (self.place.plan, self.place.account) == (place.plan, place.account)
    }

    fn add(
        &mut self,
        place: Place,
        correlated: Correlated,
        upper: &mut Correlator,
        each: &mut Told<'_>,
    ) -> Result<(), SpillError> {
        if place.group != self.place.group {
            self.close(upper, each)?;
            self.buckets = Default::default();
            self.window = None;
            self.place = place;
            self.group = correlated.group;
        }
        let window = self.plan.window(correlated.hit.event().time);
        if let Some(filled) = self.window.filter(|filled| *filled != window) {
            self.close(upper, each)?;
            let width = i64::from(window.minutes) * 60;
            let passed = (window.start.as_second() - filled.start.as_second()) / width;
            for _ in 0..passed.clamp(0, 3) {
                self.buckets.rotate_left(1);
                self.buckets[2] = Bucket::default();
            }
        }
        self.window = Some(window);
        self.buckets[2].insert(self.plan, correlated.hit);
        Ok(())
    }

    /// The window that was filled is complete: its outcome is told, and its completions to whoever refers to them.
    fn close(&mut self, upper: &mut Correlator, each: &mut Told<'_>) -> Result<(), SpillError> {
        let Some(window) = self.window else { return Ok(()) };
        let [before, previous, this] = &self.buckets;
        if !self.plan.parents.is_empty() {
            for hit in completing(self.plan, previous, this) {
                for (link, onward) in self.plan.parents.iter().zip(&hit.onward) {
                    let Some(next) = onward else { continue };
                    let correlated = Correlated {
                        plan: link.plan,
                        account: self.account.clone(),
                        group: next.group.clone(),
                        hit: Hit {
                            base: link.base,
                            evidence: hit.evidence.clone(),
                            values: next.values.clone(),
                            onward: next.onward.clone(),
                            elsewhere: Vec::new(),
                        },
                    };
                    upper.push(self.correlations, &correlated)?;
                }
            }
        }
        let Some(outcome) = evaluate(self.plan, before, previous, this) else { return Ok(()) };
        let measure: u64 = self.buckets.iter().map(Bucket::measure).sum();
        if outcome.contested.is_empty() {
            self.tell(&self.group, window, &outcome, measure, each);
        } else {
            self.waiting.push((self.group.clone(), self.place.group, window, outcome));
        }
        Ok(())
    }

    fn tell(&self, group: &Group, window: Window, outcome: &Outcome, measure: u64, each: &mut Told<'_>) {
        if outcome.at_least {
            sentinel_telemetry::metrics::correlation_capped(&self.plan.rule.id);
        }
        each(
            self.place.plan as usize,
            self.plan.detection(&self.account, group, window, outcome, revision(measure, 0)),
        );
    }

    /// All groups are known: an event that several list goes to the one whose completing hit comes first.
    fn finish(mut self, upper: &mut Correlator, each: &mut Told<'_>) -> Result<(), SpillError> {
        self.close(upper, each)?;
        let waiting = std::mem::take(&mut self.waiting);
        let mut owners: HashMap<EventRef, (EventRef, u128)> = HashMap::new();
        for (_, key, _, outcome) in &waiting {
            for Contested { event, completed_by, .. } in &outcome.contested {
                let claim = (completed_by.clone(), *key);
                let owner = owners.entry(event.clone()).or_insert_with(|| claim.clone());
                if claim < *owner {
                    *owner = claim;
                }
            }
        }
        for (group, key, window, mut outcome) in waiting {
            let contested = std::mem::take(&mut outcome.contested);
            for lost in contested.iter().filter(|c| owners.get(&c.event).is_some_and(|(_, owner)| *owner != key)) {
                outcome.drop_event(&lost.event);
            }
            if !outcome.evidence.is_empty() {
                self.tell(&group, window, &outcome, 0, each);
            }
        }
        Ok(())
    }
}
