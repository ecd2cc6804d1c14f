//! Sorts more records than memory holds: records of bytes under 128-bit keys, in sorted runs on disk past a budget.
//!
//! In: records in any order. Out: the same in order of key, then of their bytes. What is held is bounded by the
//! budget, one record and, while many are sorted, the places of all; the file on disk has no name and is gone with its sorter.

use std::{
    fs::File,
    io::{self, BufWriter, Seek as _, SeekFrom, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes of one block of records.
const BLOCK: usize = 256 * 1024;
/// A block with less room than this left is full: most records are far smaller.
const ROOM: usize = 4 * 1024;
/// Records from which sorting by digits takes less than comparing.
const WORTH_DIGITS: usize = 2_000;
/// Bytes of the budget for each record that room is made for at once, and so many records at most.
const RESERVED: usize = 48;
const MOST_RESERVED: usize = 1 << 20;
/// Bytes before each record in memory: its length, then the lower half of its key, big-endian so that it sorts as the
/// record's bytes do.
const LENGTH: usize = 4;
const LOWER: usize = 8;
/// Bytes before each record of a run: its key and its length.
const HEAD: usize = 16 + LENGTH;
/// Bytes read of a run at once, at most and at least.
const READ: (usize, usize) = (64 * 1024, 4 * 1024);
/// Bytes that reading of all runs together may hold.
const READ_ALL: usize = 4 << 20;

/// Where a record is, and the upper half of its key. As small as it can be: all of them are moved to be sorted.
#[derive(Debug, Clone, Copy)]
struct Slot {
    upper: u64,
    block: u32,
    /// Where its length stands, in [`LENGTH`] bytes; the lower half of its key and its bytes follow.
    start: u32,
}

/// Sorts records.
#[derive(Debug)]
pub struct Sorter {
    budget: usize,
    used: usize,
    shared: Option<Share>,
    blocks: Vec<Vec<u8>>,
    /// Blocks that hold nothing, for what comes next: taking memory anew costs more than filling it.
    spare: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    disk: Option<Disk>,
}

/// Part of a budget that several sorters have together.
#[derive(Debug)]
struct Share {
    /// Bytes that all have taken.
    all: Arc<AtomicUsize>,
    /// Bytes that this one has.
    taken: usize,
    /// Bytes taken at once.
    step: usize,
    /// Bytes from which this one goes to disk when all have too many.
    least: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Disk {
    file: File,
    end: u64,
    runs: Vec<(u64, u64)>,
}

impl Disk {
    /// The one that is there, or a new one.
    fn of(disk: &mut Option<Self>) -> io::Result<&mut Self> {
        Ok(match disk {
            Some(disk) => disk,
            None => disk.insert(Self { file: tempfile::tempfile()?, end: 0, runs: Vec::new() }),
        })
    }

    /// Writes records that are in order.
    fn run<'r>(&mut self, records: impl Iterator<Item = (u128, &'r [u8])>) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        let mut out = BufWriter::with_capacity(READ.0, &self.file);
        let mut end = self.end;
        for (key, bytes) in records {
            let len = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a record of 4 GB"))?;
            out.write_all(&key.to_le_bytes())?;
            out.write_all(&len.to_le_bytes())?;
            out.write_all(bytes)?;
            end += (HEAD + bytes.len()) as u64;
        }
        out.flush()?;
        drop(out);
        self.runs.push((self.end, end));
        self.end = end;
        Ok(())
    }
}

fn halves(key: u128) -> (u64, u64) {
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    let low = key as u64;
    ((key >> 64) as u64, low)
}

impl Sorter {
    /// A sorter that holds about `budget` bytes in memory.
    pub fn new(budget: usize) -> Self {
        Self { budget, used: 0, shared: None, blocks: Vec::new(), spare: Vec::new(), slots: Vec::new(), disk: None }
    }

    /// Sorters that hold about `budget` bytes in memory together, at most half as much again: of workers that share what
    /// is to do, one may come to have most of it.
    pub fn sharing(budget: usize, count: usize) -> Vec<Self> {
        let (all, each) = (Arc::new(AtomicUsize::new(0)), budget / count.max(1));
        let share = || Share { all: Arc::clone(&all), taken: 0, step: (each / 16).max(1), least: each / 2 };
        (0..count).map(|_| Self { shared: Some(share()), ..Self::new(budget) }).collect()
    }

    fn is_full(&mut self) -> bool {
        let Some(Share { all, taken, step, least }) = &mut self.shared else { return self.used >= self.budget };
        if self.used < *taken {
            return false;
        }
        let more = self.used - *taken + *step;
        *taken += more;
        all.fetch_add(more, Ordering::Relaxed) + more > self.budget && self.used >= *least
    }

    /// Adds the record that `write` appends. `beside` is how many bytes it will take elsewhere, which counts
    /// towards the budget.
    pub fn push(&mut self, key: u128, beside: usize, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        if self.blocks.last().is_none_or(|block| block.len() + ROOM > block.capacity()) {
            self.blocks.push(self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK)));
        }
        if self.slots.capacity() == 0 {
            // Memory that is not touched costs nothing, and what grows is copied again and again.
            self.slots.reserve((self.budget / RESERVED).min(MOST_RESERVED));
        }
        let block = self.blocks.len() - 1;
        let into = &mut self.blocks[block];
        let start = into.len();
        let (upper, lower) = halves(key);
        into.extend_from_slice(&[0; LENGTH]);
        into.extend_from_slice(&lower.to_be_bytes());
        write(into);
        let len = into.len() - start - LENGTH - LOWER;
        let number = |n: usize| u32::try_from(n).map_err(|_| io::Error::other("a record of 4 GB"));
        into[start..start + LENGTH].copy_from_slice(&number(len)?.to_le_bytes());
        self.slots.push(Slot { upper, block: number(block)?, start: number(start)? });
        self.used += LENGTH + LOWER + len + size_of::<Slot>() + beside;
        if self.is_full() { self.spill() } else { Ok(()) }
    }

    /// Whether records were written to disk.
    pub fn spilled(&self) -> bool {
        self.disk.is_some()
    }

    /// Writes what is in memory to disk as one sorted run.
    pub fn spill(&mut self) -> io::Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        self.sort();
        let blocks = &self.blocks;
        Disk::of(&mut self.disk)?.run(self.slots.iter().map(|slot| read(blocks, slot)))?;
        // A large record's block goes.
        self.spare.extend(self.blocks.drain(..).filter(|block| block.capacity() <= 2 * BLOCK).map(|mut block| {
            block.clear();
            block
        }));
        self.slots.clear();
        self.used = 0;
        if let Some(share) = &mut self.shared {
            // What others may take now is not kept.
            self.spare.truncate(share.least / BLOCK);
            self.slots = Vec::new();
            share.all.fetch_sub(std::mem::take(&mut share.taken), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes keys that are in order to disk, past memory.
    pub(crate) fn write_keys(&mut self, keys: &[u128]) -> io::Result<()> {
        Disk::of(&mut self.disk)?.run(keys.iter().map(|key| (*key, &[][..])))
    }

    /// Sorts what is in memory.
    pub fn sort(&mut self) {
        let blocks = &self.blocks;
        let upper = |slot: &Slot| slot.upper;
        if self.slots.len() >= WORTH_DIGITS {
            if !self.slots.is_sorted_by_key(upper) {
                radsort::sort_by_key(&mut self.slots, upper);
            }
        } else {
            self.slots.sort_by_key(upper);
        }
        // What came in order stayed so: most records of one key did.
        let compare = |a: &Slot, b: &Slot| sorted_by(blocks, a).cmp(sorted_by(blocks, b));
        for same in self.slots.chunk_by_mut(|a, b| a.upper == b.upper) {
            if !same.is_sorted_by(|a, b| compare(a, b).is_le()) {
                same.sort_unstable_by(compare);
            }
        }
    }

    /// How many records are in memory.
    pub fn in_memory(&self) -> usize {
        self.slots.len()
    }

    /// A record in memory, in order once it is sorted: its key and bytes.
    pub fn get(&self, at: usize) -> (u128, &[u8]) {
        read(&self.blocks, &self.slots[at])
    }

    /// All records of several sorters in order. Memory is freed for it: what is held goes to disk first, unless
    /// nothing is there yet.
    pub fn merge(mut sorters: Vec<Self>) -> io::Result<Merge> {
        if sorters.iter().any(Self::spilled) {
            sorters.iter_mut().try_for_each(Self::spill)?;
        }
        for sorter in &mut sorters {
            sorter.spare = Vec::new();
            sorter.sort();
        }
        let runs: usize = sorters.iter().filter_map(|s| s.disk.as_ref()).map(|d| d.runs.len()).sum();
        let read = (READ_ALL / runs.max(1)).clamp(READ.1, READ.0);
        let mut sources = Vec::new();
        for mut sorter in sorters {
            if let Some(disk) = sorter.disk.take() {
                let file = Arc::new(disk.file);
                let run = |(next, end)| {
                    Source::Run(Run { file: Arc::clone(&file), next, end, read, ..Run::default_of(&file) })
                };
                sources.extend(disk.runs.into_iter().map(run));
            } else if !sorter.slots.is_empty() {
                sources.push(Source::Memory(sorter, 0));
            }
        }
        Merge::new(sources)
    }
}

/// What records of one upper half are in order of: the lower half of the key and the record.
fn sorted_by<'a>(blocks: &'a [Vec<u8>], slot: &Slot) -> &'a [u8] {
    let record = &blocks[slot.block as usize][slot.start as usize..];
    let mut len = [0; LENGTH];
    len.copy_from_slice(&record[..LENGTH]);
    &record[LENGTH..LENGTH + LOWER + u32::from_le_bytes(len) as usize]
}

fn read<'a>(blocks: &'a [Vec<u8>], slot: &Slot) -> (u128, &'a [u8]) {
    let (lower, record) = sorted_by(blocks, slot).split_at(LOWER);
    let mut low = [0; LOWER];
    low.copy_from_slice(lower);
    (u128::from(slot.upper) << 64 | u128::from(u64::from_be_bytes(low)), record)
}

/// Where records in order come from.
#[derive(Debug)]
enum Source {
    Memory(Sorter, usize),
    Run(Run),
}

impl Source {
    fn top(&self) -> (u128, &[u8]) {
        match self {
            Self::Memory(sorter, at) => sorter.get(*at),
            Self::Run(run) => (run.key, &run.held[run.at..run.at + run.len]),
        }
    }

    /// Moves to the next record; `false` when there is none.
    fn advance(&mut self) -> io::Result<bool> {
        match self {
            Self::Memory(sorter, at) => {
                *at += 1;
                Ok(*at < sorter.slots.len())
            }
            Self::Run(run) => run.advance(),
        }
    }
}

/// One run, read piece by piece.
#[derive(Debug)]
struct Run {
    file: Arc<File>,
    /// The part of the file that is not read yet.
    next: u64,
    end: u64,
    read: usize,
    held: Vec<u8>,
    /// The record that is first now.
    at: usize,
    len: usize,
    key: u128,
}

impl Run {
    fn default_of(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), next: 0, end: 0, read: 0, held: Vec::new(), at: 0, len: 0, key: 0 }
    }

    fn advance(&mut self) -> io::Result<bool> {
        self.at += self.len;
        self.len = 0;
        if self.at == self.held.len() && self.next == self.end {
            return Ok(false);
        }
        self.have(HEAD)?;
        let mut key = [0; 16];
        key.copy_from_slice(&self.held[self.at..self.at + 16]);
        let mut len = [0; 4];
        len.copy_from_slice(&self.held[self.at + 16..self.at + HEAD]);
        self.key = u128::from_le_bytes(key);
        let len = u32::from_le_bytes(len) as usize;
        self.at += HEAD;
        self.have(len)?;
        self.len = len;
        Ok(true)
    }

    /// Makes sure that so many bytes are held from here on.
    fn have(&mut self, bytes: usize) -> io::Result<()> {
        if self.held.len() - self.at >= bytes {
            return Ok(());
        }
        self.held.drain(..self.at);
        self.at = 0;
        let held = self.held.len();
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let more = (bytes - held).max(self.read).min(left);
        self.held.resize(held + more, 0);
        read_at(&self.file, &mut self.held[held..], self.next)?;
        self.next += more as u64;
        if self.held.len() < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

fn read_at(mut file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    io::Read::read_exact(&mut file, into)
}

/// Records of several sources in order.
#[derive(Debug)]
pub struct Merge {
    /// A heap: the source with the least record first.
    sources: Vec<Source>,
    begun: bool,
}

impl Merge {
    fn new(sources: Vec<Source>) -> io::Result<Self> {
        let mut ready = Vec::with_capacity(sources.len());
        for mut source in sources {
            if matches!(source, Source::Memory(..)) || source.advance()? {
                ready.push(source);
            }
        }
        let mut merge = Self { sources: ready, begun: false };
        for at in (0..merge.sources.len() / 2).rev() {
            merge.sift(at);
        }
        Ok(merge)
    }

    /// The next record: its key and bytes.
    pub fn take_next(&mut self) -> io::Result<Option<(u128, &[u8])>> {
        if std::mem::replace(&mut self.begun, true) {
            self.advance()?;
        }
        Ok(self.peek())
    }

    /// The record that is first now.
    pub fn peek(&self) -> Option<(u128, &[u8])> {
        self.sources.first().map(Source::top)
    }

    /// Leaves the record that is first now behind.
    pub fn advance(&mut self) -> io::Result<()> {
        if let Some(first) = self.sources.first_mut() {
            if !first.advance()? {
                self.sources.swap_remove(0);
            }
            self.sift(0);
        }
        Ok(())
    }

    fn sift(&mut self, mut at: usize) {
        loop {
            let least = [2 * at + 1, 2 * at + 2].into_iter().filter(|child| *child < self.sources.len()).fold(
                at,
                |least, child| if self.sources[child].top() < self.sources[least].top() { child } else { least },
            );
            if least == at {
                return;
            }
            self.sources.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn what_goes_in_comes_out_in_order_with_any_budget(
            records in prop::collection::vec((0..40_u128, prop::collection::vec(any::<u8>(), 0..60)), 0..300),
            large in 0..200_000_usize,
            parts in 1..4_usize,
            budget in prop::sample::select(vec![1, 500, 5_000, 1 << 20]),
            shared in any::<bool>(),
        ) {
            let mut expected = records;
            expected.push((u128::MAX, vec![7; large]));
            let alone = || (0..parts).map(|_| Sorter::new(budget)).collect();
            let mut sorters: Vec<Sorter> = if shared { Sorter::sharing(budget, parts) } else { alone() };
            for (n, (key, bytes)) in expected.iter().enumerate() {
                sorters[n % parts].push(*key, 0, |into| into.extend_from_slice(bytes)).unwrap();
            }
            prop_assert!(budget > 1 || sorters[0].spilled());
            let mut merge = Sorter::merge(sorters).unwrap();
            let mut found = Vec::new();
            while let Some((key, bytes)) = merge.take_next().unwrap() {
                found.push((key, bytes.to_vec()));
            }
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn one_of_several_may_take_nearly_all_of_what_they_share() {
        let fill = |sorter: &mut Sorter, bytes: usize| {
            while sorter.used < bytes && !sorter.spilled() {
                sorter.push(1, 0, |into| into.resize(into.len() + 1_000, 0)).unwrap();
            }
        };
        let mut sorters = Sorter::sharing(1 << 20, 2);
        let all = Arc::clone(&sorters[0].shared.as_ref().unwrap().all);
        fill(&mut sorters[0], 900_000);
        fill(&mut sorters[1], 100_000);
        assert!(!sorters.iter().any(Sorter::spilled), "together they hold less");
        // The one that has little goes on for a while, the one that has much does not.
        fill(&mut sorters[1], 200_000);
        assert!(!sorters[1].spilled());
        fill(&mut sorters[0], 1 << 20);
        assert!(sorters[0].spilled() && !sorters[1].spilled());
        assert!((200_000..300_000).contains(&all.load(Ordering::Relaxed)), "what is on disk takes no memory");
        let kept = sorters[0].spare.iter().map(Vec::capacity).sum::<usize>();
        assert!(kept <= sorters[0].shared.as_ref().unwrap().least && sorters[0].slots.capacity() == 0, "{kept}");
        fill(&mut sorters[1], 1 << 20);
        drop(sorters);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn many_are_sorted_by_digits() {
        // A generator of numbers as good as any; some upper halves come again, and some whole keys.
        let mut state = 7_u64;
        let mut number = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 20
        };
        for (upper, lower, budget) in
            [(u64::MAX, u64::MAX, 1 << 30), (500, 3, 1 << 30), (1, 2, 1 << 30), (500, 3, 150_000)]
        {
            let mut sorter = Sorter::new(budget);
            let mut expected = Vec::new();
            for _ in 0..3 * WORTH_DIGITS {
                let key = u128::from(number() % upper) << 64 | u128::from(number() % lower);
                let bytes = number().to_le_bytes()[..3].to_vec();
                sorter.push(key, 0, |into| into.extend_from_slice(&bytes)).unwrap();
                expected.push((key, bytes));
            }
            assert_eq!(sorter.spilled(), budget < 1 << 30);
            expected.sort();
            let mut merge = Sorter::merge(vec![sorter]).unwrap();
            for (key, bytes) in expected {
                assert_eq!(merge.take_next().unwrap(), Some((key, bytes.as_slice())));
            }
            assert_eq!(merge.take_next().unwrap(), None);
        }
    }
}
