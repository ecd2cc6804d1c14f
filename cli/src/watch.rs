//! The watched folder: log files dropped into it are taken in once each, again when they change.
//!
//! A file counts as complete when two looks a moment apart find the same size and time. What has been taken
//! in is remembered in the table, after ingest made it durable: a crash between leads to a second reading,
//! which has no second effect.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use sentinel_durable::Clock;
use sentinel_ingest::{Ingest, IngestError, Input, Limits};
use sentinel_model::{Channel, Timestamp, hash, time};
use sentinel_state::{Condition, Key, Put, Table, Write};
use serde::{Deserialize, Serialize};
use tokio::sync::watch::Receiver;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);
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

/// Watches a folder until told to stop.
pub(crate) struct Watch {
    folder: PathBuf,
    ingest: Arc<Ingest>,
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    seen: HashMap<PathBuf, Stamp>,
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
        Ok(Self { folder, ingest, table, clock, seen: HashMap::new() })
    }

    /// Looks again and again until `stop` says so.
    pub(crate) async fn run(mut self, mut stop: Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(e) = self.look().await {
                sentinel_telemetry::error("ingest");
                tracing::error!(error = format!("{e:#}"), folder = %self.folder.display(), "watched folder");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// One look: takes in every file that has not changed since the last look and is new since it was taken in.
    async fn look(&mut self) -> Result<()> {
        let mut found = HashMap::new();
        for entry in walkdir::WalkDir::new(&self.folder).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() && !entry.file_name().to_string_lossy().starts_with('.') {
                found.insert(entry.path().to_owned(), stamp(entry.path())?);
            }
        }
        let mut settled: Vec<_> = found.iter().filter(|(p, s)| self.seen.get(*p) == Some(*s)).collect();
        settled.sort();
        for (path, stamp) in settled {
            self.take(path, *stamp).await?;
        }
        self.seen = found;
        Ok(())
    }

    /// Hands a file to ingest. What is wrong with the file is its outcome; what is wrong on our side is an error,
    /// and the file is tried again.
    async fn read(&self, path: &Path, name: &str) -> Result<String> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) => return Ok(format!("could not be opened: {e}")),
        };
        let mut input = Input::new(name, file, Channel::Folder { path: name.to_owned() }).limits(Limits::generous());
        input.modified = std::fs::metadata(path)?.modified().ok().and_then(|t| Timestamp::try_from(t).ok());
        match self.ingest.accept(input).await {
            Ok(report) => Ok(format!(
                "{} accepted, {} duplicates, {} malformed, {} set aside",
                report.accepted, report.duplicates, report.malformed_count, report.set_aside
            )),
            Err(e @ IngestError::Read { .. }) => {
                sentinel_telemetry::error("ingest");
                tracing::warn!(error = %e, "file was not read to its end");
                Ok(e.to_string())
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn take(&self, path: &Path, stamp: Stamp) -> Result<()> {
        let name = path.display().to_string();
        let key = Key::new(format!("WATCH#{}", hash::derived_id("", &[&name])), "FILE");
        if let Some(item) = self.table.get(&key).await?
            && item.decode::<Taken>()?.stamp == stamp
        {
            return Ok(());
        }
        let outcome = self.read(path, &name).await?;
        tracing::info!(file = %name, outcome, "took in a file");
        let expires = time::plus_seconds(self.clock.now(), REMEMBER_DAYS * 86_400);
        let put = Put::new(key, &Taken { path: name, stamp, outcome })?.expiring(Some(expires)).when(Condition::None);
        self.table.write(vec![Write::Put(put)]).await?;
        Ok(())
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

fn stamp(path: &Path) -> Result<Stamp> {
    let about = std::fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let modified_ms = about.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Ok(Stamp { bytes: about.len(), modified_ms })
}
