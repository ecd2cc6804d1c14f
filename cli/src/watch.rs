//! The watched folder: log files dropped into it are taken in once each, again when they change.
//!
//! A file counts as complete when two looks a moment apart find the same size and time. What has been taken
//! in is remembered in the table, after ingest made it durable: a crash between leads to a second reading,
//! which has no second effect.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use sentinel_durable::Clock;
use sentinel_ingest::{Ingest, IngestError, Input, Limits};
use sentinel_model::{Channel, Timestamp, hash, time};
use sentinel_state::{Condition, Key, Put, Table, Write};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::watch::Receiver};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest pause before a file that could not be taken in is tried again.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Days that a file is remembered after it was taken in.
const REMEMBER_DAYS: i64 = 400;

/// A file's size and time of change, by which a change is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_ms: u128,
}

#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    path: String,
    stamp: Stamp,
    outcome: String,
}

/// A file that could not be taken in, through no fault of its own.
#[derive(Debug, Clone, Copy)]
struct Postponed {
    tries: u32,
    until: Instant,
}

/// Watches a folder until told to stop.
pub(crate) struct Watch {
    folder: PathBuf,
    ingest: Arc<Ingest>,
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    seen: HashMap<PathBuf, Stamp>,
    postponed: HashMap<PathBuf, Postponed>,
    /// Paths that cannot be looked at, told of once.
    unreadable: HashSet<PathBuf>,
}

impl Watch {
    /// Watches `folder`, which is made when it is not there.
    pub(crate) fn new(
        folder: PathBuf,
        ingest: Arc<Ingest>,
        table: Arc<dyn Table>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("making the watched folder {}", folder.display()))?;
        let (seen, postponed, unreadable) = (HashMap::new(), HashMap::new(), HashSet::new());
        Ok(Self { folder, ingest, table, clock, seen, postponed, unreadable })
    }

    /// Looks again and again until `stop` says so.
    pub(crate) async fn run(mut self, mut stop: Receiver<bool>) {
        while !*stop.borrow() {
            self.look(&stop).await;
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// One look: takes in every file that has not changed since the last look and is new since it was taken in.
    /// What is wrong with one file or folder stops no other.
    async fn look(&mut self, stop: &Receiver<bool>) {
        let (found, unreadable) = files(&self.folder);
        for (path, why) in &unreadable {
            if !self.unreadable.contains(path) {
                sentinel_telemetry::error("ingest");
                tracing::error!(path = %path.display(), error = why, "cannot be looked at in the watched folder");
            }
        }
        self.unreadable = unreadable.into_keys().collect();
        let mut settled: Vec<_> = found.iter().filter(|(p, s)| self.seen.get(*p) == Some(*s)).collect();
        settled.sort();
        let now = Instant::now();
        self.postponed.retain(|path, _| found.contains_key(path));
        for (path, stamp) in settled {
            if *stop.borrow() {
                return;
            }
            if self.postponed.get(path).is_some_and(|p| now < p.until) {
                continue;
            }
            match self.take(path, *stamp, stop).await {
                Ok(()) => {
                    self.postponed.remove(path);
                }
                Err(_) if *stop.borrow() => return,
                Err(e) => {
                    let tries = self.postponed.get(path).map_or(0, |p| p.tries) + 1;
                    let pause = LONGEST_PAUSE.min(PAUSE * (1 << tries.min(8)));
                    self.postponed.insert(path.clone(), Postponed { tries, until: Instant::now() + pause });
                    sentinel_telemetry::error("ingest");
                    let (file, error) = (path.display(), format!("{e:#}"));
                    tracing::error!(%file, error, again_in_seconds = pause.as_secs(), "file was not taken in");
                }
            }
        }
        self.seen = found;
    }

    /// Hands a file to ingest, off the threads that answer requests. What is wrong with the file is its outcome;
    /// what is wrong on our side is an error, and the file is tried again. `None` when the file has gone.
    async fn read(&self, path: &Path, name: &str, stop: &Receiver<bool>) -> Result<Option<String>> {
        let (ingest, handle, stop) = (Arc::clone(&self.ingest), Handle::current(), stop.clone());
        let (path, name) = (path.to_owned(), name.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e).context("opening it"),
            };
            let modified = file.metadata().and_then(|about| about.modified()).context("looking at it")?;
            let stoppable = Stoppable { file, stop: stop.clone() };
            let channel = Channel::Folder { path: name.clone() };
            let mut input = Input::new(&name, stoppable, channel).limits(Limits::generous());
            input.modified = Timestamp::try_from(modified).ok();
            match handle.block_on(ingest.accept(input)) {
                Ok(report) => Ok(Some(format!(
                    "{} accepted, {} duplicates, {} malformed, {} set aside",
                    report.accepted, report.duplicates, report.malformed_count, report.set_aside
                ))),
                Err(IngestError::Read { .. }) if *stop.borrow() => bail!("the process ends"),
                Err(e @ IngestError::Read { .. }) => {
                    sentinel_telemetry::error("ingest");
                    tracing::warn!(error = %e, "file was not read to its end");
                    Ok(Some(e.to_string()))
                }
                Err(e) => Err(e.into()),
            }
        });
        read.await?
    }

    async fn take(&self, path: &Path, stamp: Stamp, stop: &Receiver<bool>) -> Result<()> {
        let name = path.display().to_string();
        let key = Key::new(format!("WATCH#{}", hash::derived_id("", &[&name])), "FILE");
        if let Some(item) = self.table.get(&key).await?
            && item.decode::<Taken>()?.stamp == stamp
        {
            return Ok(());
        }
        let Some(outcome) = self.read(path, &name, stop).await? else { return Ok(()) };
        tracing::info!(file = %name, outcome, "took in a file");
        let expires = time::plus_seconds(self.clock.now(), REMEMBER_DAYS * 86_400);
        let put = Put::new(key, &Taken { path: name, stamp, outcome })?.expiring(Some(expires)).when(Condition::None);
        self.table.write(vec![Write::Put(put)]).await?;
        Ok(())
    }
}

/// The log files of a folder, and what of it could not be looked at, with the reason.
fn files(folder: &Path) -> (HashMap<PathBuf, Stamp>, HashMap<PathBuf, String>) {
    let (mut found, mut unreadable) = (HashMap::new(), HashMap::new());
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                let gone = e.io_error().is_some_and(|e| e.kind() == ErrorKind::NotFound) && e.depth() > 0;
                if !gone {
                    unreadable.insert(e.path().unwrap_or(folder).to_owned(), e.to_string());
                }
                continue;
            }
        };
        if !entry.file_type().is_file() || entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match stamp(entry.path()) {
            Ok(stamp) => {
                found.insert(entry.into_path(), stamp);
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => {
                unreadable.insert(entry.into_path(), e.to_string());
            }
        }
    }
    (found, unreadable)
}

/// A file whose reading breaks off when the process is to end, however long it is.
struct Stoppable {
    file: File,
    stop: Receiver<bool>,
}

impl Read for Stoppable {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if *self.stop.borrow() {
            return Err(std::io::Error::other("the process ends"));
        }
        self.file.read(into)
    }
}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.modified_ms, self.bytes).cmp(&(other.modified_ms, other.bytes))
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let about = std::fs::metadata(path)?;
    let modified_ms = about.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Ok(Stamp { bytes: about.len(), modified_ms })
}

#[cfg(test)]
mod tests;
