//! Keeps records at places that never change: the newest in memory, the rest in a file.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

/// Tells logs apart, from 1.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Bytes of one block in memory.
const BLOCK: usize = 256 * 1024;
/// A block with less room than this left is full: most records are far smaller.
const ROOM: usize = 4 * 1024;
/// Bytes before each record: its length.
const HEAD: usize = 4;
/// Bytes read of the file at once.
const PAGE: u64 = 16 * 1024;
/// Bytes read behind a page, so that nearly all records that begin in it are whole.
const MORE: u64 = 1024;
/// Pages that are held.
const PAGES: usize = 16;

/// Records at the places that they were given.
#[derive(Debug)]
pub struct Log {
    number: u64,
    budget: usize,
    /// Blocks in memory, each with the place of its first byte.
    blocks: Vec<(u64, Vec<u8>)>,
    end: u64,
    /// What lies before this is in the file.
    written: u64,
    file: Option<File>,
}

/// What was read of logs' files last, so that neighbours are read at once.
#[derive(Debug, Default)]
pub struct Pages {
    /// Each at its number modulo [`PAGES`].
    pages: Vec<Page>,
    /// A record that is longer than what is read behind its page.
    across: Vec<u8>,
}

/// One page: the log's number and the page's; its bytes, fewer at the end of a file.
#[derive(Debug, Default)]
struct Page {
    log: u64,
    number: u64,
    bytes: Vec<u8>,
}

impl Log {
    /// A log that holds about `budget` bytes in memory.
    pub fn new(budget: usize) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { number, budget, blocks: Vec::new(), end: 0, written: 0, file: None }
    }

    /// Adds the record that `write` appends; its place.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<u64> {
        if self.blocks.last().is_none_or(|(_, block)| block.len() + ROOM > block.capacity()) {
            if self.end - self.written >= self.budget as u64 {
                self.spill()?;
            }
            self.blocks.push((self.end, Vec::with_capacity(BLOCK)));
        }
        let Some((_, block)) = self.blocks.last_mut() else { return Err(io::Error::other("a block is missing")) };
        let start = block.len();
        block.extend_from_slice(&[0; HEAD]);
        write(block);
        let len = u32::try_from(block.len() - start - HEAD).map_err(|_| io::Error::other("a record of 4 GB"))?;
        block[start..start + HEAD].copy_from_slice(&len.to_le_bytes());
        let at = self.end;
        self.end += (block.len() - start) as u64;
        Ok(at)
    }

    /// What tells it apart from all other logs of the process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        file.seek(SeekFrom::Start(self.written))?;
        for (_, block) in &self.blocks {
            file.write_all(block)?;
        }
        self.written = self.end;
        self.blocks.clear();
        Ok(())
    }

    /// The record at a place, if it is in memory.
    pub fn held(&self, at: u64) -> Option<&[u8]> {
        let block = self.blocks.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        let (from, block) = &self.blocks[block];
        let start = usize::try_from(at - from).ok()?;
        let (head, rest) = block.get(start..)?.split_first_chunk::<HEAD>()?;
        rest.get(..u32::from_le_bytes(*head) as usize)
    }

    /// The record at a place. `pages` holds what was read of files.
    pub fn get<'a>(&'a self, at: u64, pages: &'a mut Pages) -> io::Result<&'a [u8]> {
        if at >= self.written {
            return self.held(at).ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        let Pages { pages, across } = pages;
        if pages.is_empty() {
            pages.resize_with(PAGES, Page::default);
        }
        let number = at / PAGE;
        #[allow(clippy::cast_possible_truncation, reason = "the lowest bits choose a place, and a number below PAGE")]
        let (slot, start) = (number as usize % PAGES, (at % PAGE) as usize);
        let page = &mut pages[slot];
        let from = number * PAGE;
        let held = usize::try_from((self.written - from).min(PAGE + MORE)).unwrap_or(0);
        // The page may have grown since.
        if (page.log, page.number) != (self.number, number) || page.bytes.len() < held {
            // Until it is read, what is held is nobody's.
            page.log = 0;
            page.bytes.resize(held, 0);
            read_at(file, &mut page.bytes, from)?;
            (page.log, page.number) = (self.number, number);
        }
        let (len, rest) =
            page.bytes.get(start..).and_then(<[u8]>::split_first_chunk).ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = u32::from_le_bytes(*len) as usize;
        if let Some(record) = rest.get(..len) {
            return Ok(record);
        }
        let at = at + HEAD as u64;
        if at + len as u64 > self.written {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        across.resize(len, 0);
        read_at(file, across, at)?;
        Ok(across)
    }

    /// The place of the record after the one at `at`, which is `len` bytes long; `None` behind the last.
    pub fn next(&self, at: u64, len: usize) -> Option<u64> {
        let next = at + (HEAD + len) as u64;
        (next < self.end).then_some(next)
    }
}

#[cfg(unix)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
    while !into.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, into, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (into, at) = (&mut into[n..], at + n as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn records_are_found_at_their_places_wherever_they_lie(
            sizes in prop::collection::vec(prop::sample::select(vec![0, 1, 40, 300, 5_000, 16_378, 16_382, 17_403, 17_404, 17_405, 300_000]), 1..60),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
            budget in prop::sample::select(vec![0, 100_000, 1 << 30]),
        ) {
            let (mut log, mut other) = (Log::new(budget), Log::new(0));
            let mut places = Vec::new();
            for (n, size) in sizes.iter().enumerate() {
                let byte = u8::try_from(n).unwrap();
                places.push(log.push(|into| into.resize(into.len() + size, byte)).unwrap());
                other.push(|into| into.resize(into.len() + size, !byte)).unwrap();
            }
            let mut pages = Pages::default();
            for pick in picks {
                let n = pick.index(sizes.len());
                let (wanted, byte) = (sizes[n], u8::try_from(n).unwrap());
                prop_assert_eq!(log.get(places[n], &mut pages).unwrap(), vec![byte; wanted]);
                prop_assert_eq!(other.get(places[n], &mut pages).unwrap(), vec![!byte; wanted]);
            }
            let (mut at, mut walked) = (Some(0), Vec::new());
            while let Some(place) = at {
                walked.push(place);
                at = log.next(place, log.get(place, &mut pages).unwrap().len());
            }
            prop_assert_eq!(walked, places);
        }
    }

    #[test]
    fn a_place_where_nothing_is_fails() {
        let (mut log, mut pages) = (Log::new(0), Pages::default());
        assert!(log.is_empty());
        log.push(|into| into.push(1)).unwrap();
        assert!(!log.is_empty() && log.get(1_000, &mut pages).is_err());
    }
}
