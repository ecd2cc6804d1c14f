//! What an archive object is: gzipped NDJSON of the events of one account and day, under a name made from
//! them. Shared by every adapter, so that an archive can move from files to S3 as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use sentinel_model::{Event, Timestamp, provenance, time::utc_day};
use sha2::{Digest, Sha256};

use crate::{ArchiveError, Day};

/// How an object's name ends.
pub const SUFFIX: &str = ".ndjson.gz";
/// Longest line read back: a record of the largest size that ingest takes, its envelope, and room.
const MAX_LINE_BYTES: u64 = 32 * 1024 * 1024;

/// An object to be written.
#[derive(Debug)]
pub struct Object {
    /// The account.
    pub account: String,
    /// The UTC day.
    pub day: String,
    /// Its name within the day: a hash of what it holds, with [`SUFFIX`].
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The objects that a batch makes: one for each account and day.
pub fn objects(events: &[Event]) -> Result<Vec<Object>, ArchiveError> {
    let mut groups: BTreeMap<(&str, String), Vec<&Event>> = BTreeMap::new();
    for event in events {
        check_account(&event.account)?;
        groups.entry((event.account.as_str(), day_of(event.time))).or_default().push(event);
    }
    groups
        .into_iter()
        .map(|((account, day), mut events)| {
            events.sort_by(|a, b| (a.time, &a.id, a.content).cmp(&(b.time, &b.id, b.content)));
            let name = format!("{}{SUFFIX}", name_of(&events).map_err(|e| ArchiveError::Store(Box::new(e)))?);
            Ok(Object { account: account.to_owned(), day, name, bytes: pack(&events)? })
        })
        .collect()
}

/// Checks that an account can stand in a name: ASCII letters, digits, `-` and `_`, at most 64.
pub fn check_account(account: &str) -> Result<(), ArchiveError> {
    let fits = (1..=64).contains(&account.len());
    if fits && account.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return Ok(());
    }
    Err(ArchiveError::Name { what: "account", text: account.to_owned() })
}

/// Checks that a text is a day, `YYYY-MM-DD`.
pub fn check_day(day: &str) -> Result<(), ArchiveError> {
    let date = day.parse::<jiff::civil::Date>();
    if day.len() == 10 && date.is_ok_and(|d| d.to_string() == day) {
        return Ok(());
    }
    Err(ArchiveError::Name { what: "day", text: day.to_owned() })
}

/// The day that an event of this time counts to.
pub fn day_of(time: Timestamp) -> String {
    utc_day(time.max(Timestamp::UNIX_EPOCH))
}

/// Hash of what the events are and how they came, not of when: a batch that is delivered again, and
/// received later, makes the same object. SHA-256, because who writes the records must not be able to make
/// two batches share a name.
fn name_of(events: &[&Event]) -> Result<String, serde_json::Error> {
    let mut hasher = Sha256::new();
    let mut part = |text: &[u8]| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    for event in events {
        part(event.id.as_bytes());
        part(event.raw.text().as_bytes());
        let channels: BTreeSet<_> = event.provenance.iter().map(|copy| &copy.channel).collect();
        part(&serde_json::to_vec(&channels)?);
    }
    Ok(hex::encode(hasher.finalize())[..40].to_owned())
}

fn pack(events: &[&Event]) -> Result<Vec<u8>, ArchiveError> {
    let failed = |e: std::io::Error| ArchiveError::Store(Box::new(e));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(4));
    for event in events {
        let mut line = serde_json::to_vec(event).map_err(|e| ArchiveError::Store(Box::new(e)))?;
        // The raw record may have line breaks between its tokens; within JSON strings none can stand.
        line.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        line.push(b'\n');
        gzip.write_all(&line).map_err(failed)?;
    }
    gzip.finish().map_err(failed)
}

/// Gathers the events of a day's objects.
#[derive(Default)]
pub struct DayReader {
    day: Day,
    seen: HashMap<(String, u64), usize>,
}

impl DayReader {
    /// Adds an object; what is wrong with it is kept, not returned, for the others are read all the same.
    pub fn add(&mut self, name: &str, object: impl Read) {
        let mut lines = BufReader::new(MultiGzDecoder::new(object));
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            number += 1;
            match lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) => return self.problem(name, e.to_string()),
            }
            if line.last() != Some(&b'\n') {
                return self.problem(name, format!("line {number} is cut off"));
            }
            match serde_json::from_slice::<Event>(&line) {
                Ok(event) => self.event(event),
                Err(e) => self.problem(name, format!("line {number}: {e}")),
            }
        }
    }

    /// Notes what is wrong with an object.
    pub fn problem(&mut self, name: &str, reason: String) {
        self.day.unreadable.push(ArchiveError::Object { name: name.to_owned(), reason });
    }

    fn event(&mut self, mut event: Event) {
        // Merging brings copies into order, which those of a file need not be in.
        let copies = std::mem::take(&mut event.provenance);
        let at = *self.seen.entry((event.id.clone(), event.content)).or_insert_with(|| {
            self.day.events.push(event);
            self.day.events.len() - 1
        });
        provenance::merge(&mut self.day.events[at].provenance, copies);
    }

    /// The day, its events in order of time.
    pub fn finish(mut self) -> Day {
        self.day.events.sort_by(|a, b| (a.time, &a.id, a.content).cmp(&(b.time, &b.id, b.content)));
        self.day
    }
}
