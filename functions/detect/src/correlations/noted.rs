//! The texts of groups, kept apart from their hits: many correlations group by the same fields, and few groups complete.
//!
//! In: an account and what a group has in common, as bytes, with a hash of them. Out: where they are, by which hits name
//! them, and the bytes again.

use std::{io, sync::Arc};

use sentinel_spill::{Log, Pages};

/// Groups met lately: a power of two.
const LATELY: usize = 8_192;

/// Where the texts of a group are: of which log, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TextsAt {
    pub(super) log: u32,
    pub(super) at: u64,
}

/// Notes texts; they are written again only when their group was not met lately.
#[derive(Debug)]
pub(super) struct Noter {
    log: Log,
    /// By hash. Made with the first group.
    lately: Vec<(u128, u64)>,
}

impl Noter {
    /// About `budget` bytes are held in memory.
    pub(super) fn new(budget: usize) -> Self {
        Self { log: Log::new(budget), lately: Vec::new() }
    }

    pub(super) fn note(&mut self, hash: u128, texts: &[u8]) -> io::Result<TextsAt> {
        self.lately.resize(LATELY, (0, u64::MAX));
        #[allow(clippy::cast_possible_truncation, reason = "a place below LATELY")]
        let lately = &mut self.lately[hash as usize % LATELY];
        if lately.0 != hash || lately.1 == u64::MAX {
            *lately = (hash, self.log.push(|into| into.extend_from_slice(texts))?);
        }
        Ok(TextsAt { log: number(&self.log), at: lately.1 })
    }

    /// What was noted.
    pub(super) fn into_log(self) -> Log {
        self.log
    }
}

/// Few logs are there at one time: the lower half tells them apart.
#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
fn number(log: &Log) -> u32 {
    log.number() as u32
}

/// What several have noted. Whoever reads beside others has one of their own.
#[derive(Debug, Default)]
pub(super) struct AllNoted {
    logs: Vec<Arc<Log>>,
    pages: Pages,
}

impl Clone for AllNoted {
    fn clone(&self) -> Self {
        Self { logs: self.logs.clone(), pages: Pages::default() }
    }
}

impl AllNoted {
    pub(super) fn add(&mut self, log: Log) {
        self.logs.push(Arc::new(log));
    }

    pub(super) fn get(&mut self, texts: TextsAt) -> io::Result<&[u8]> {
        let log = self.logs.iter().find(|log| number(log) == texts.log).ok_or(io::ErrorKind::UnexpectedEof)?;
        log.get(texts.at, &mut self.pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_where_they_were_noted() {
        for budget in [0, 1 << 20] {
            let mut noters = [Noter::new(budget), Noter::new(budget)];
            let texts = |n: u128| format!("texts of group {n}").into_bytes();
            let mut places = Vec::new();
            for n in (0..20_000_u128).chain(0..3) {
                // 0 is a hash like any other.
                let noter = usize::from(n % 3 == 0);
                places.push((n, noters[noter].note(n, &texts(n)).unwrap()));
            }
            let again = noters[1].note(0, &texts(0)).unwrap();
            assert_eq!(again, noters[1].note(0, &texts(0)).unwrap(), "written once");
            let mut all = AllNoted::default();
            for noter in noters {
                all.add(noter.into_log());
            }
            for (n, place) in places {
                assert_eq!(all.get(place).unwrap(), texts(n));
            }
            assert!(all.get(TextsAt { log: u32::MAX, at: 0 }).is_err());
        }
    }
}
