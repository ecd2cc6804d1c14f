//! The file: opening it safely, and the connections to it.
//!
//! Write-ahead logging lets readers go on beside the writer. `synchronous` is FULL, not NORMAL: under NORMAL
//! a commit may be lost when power fails (SQLite, "PRAGMA synchronous"), and a message answered for must
//! not be; the writer's shared commits pay for it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use sentinel_durable::{Clock, Queue, QueueError, Timer, TimerError};
use sentinel_model::{Timestamp, time::plus_seconds};
use sentinel_search::{SearchError, SearchIndex};
use sentinel_state::{Table, TableError};

use crate::writer::Writer;
use crate::{migrations, queue, search, table, timer};

/// How long a connection waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);
/// Prepared statements kept a connection.
const STATEMENTS: usize = 64;
/// Seconds that a message stays in a dead-letter queue: SQS's longest retention, 14 days.
const DEAD_SECONDS: i64 = 14 * 24 * 3600;
/// Rows removed in one transaction.
const PURGE: u32 = 1_000;

/// What can go wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file or its folder cannot be made, or the thread that writes cannot be started.
    #[error("cannot open {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A newer version of this program wrote the file.
    #[error("{file} has schema version {found}, but this program knows only up to {known}: use a newer one")]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        found: i64,
        /// The newest known.
        known: usize,
    },
    /// Another program's database.
    #[error("{file} is a database of another program")]
    NotOurs {
        /// The file.
        file: String,
    },
    /// A transaction was not committed; nothing of it was written.
    #[error("the transaction failed: {0}")]
    Commit(String),
    /// A stored value is out of range: the file was changed by something else.
    #[error("the file holds a bad value: {0}")]
    Corrupt(String),
    /// A job on the connection panicked or was cut short.
    #[error("the work on the database was cut short")]
    Stopped,
}

impl From<DatabaseError> for TableError {
    fn from(e: DatabaseError) -> Self {
        Self::store(e)
    }
}

impl From<DatabaseError> for QueueError {
    fn from(e: DatabaseError) -> Self {
        Self::store(e)
    }
}

impl From<DatabaseError> for TimerError {
    fn from(e: DatabaseError) -> Self {
        Self::Store(Box::new(e))
    }
}

impl From<DatabaseError> for SearchError {
    fn from(e: DatabaseError) -> Self {
        Self::Store(Box::new(e))
    }
}

/// An open file. Clones share it; it is closed when the last one and its last adapter are gone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

/// The connections.
pub(crate) struct Inner {
    writer: Writer,
    /// Reads the table and the queues; `None` in memory, where only one connection sees the data.
    reader: Option<Mutex<Connection>>,
    /// Reads the search index, whose queries may take long.
    searcher: Option<Mutex<Connection>>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Keeps statements prepared. Without a stable plan (SQLite, "The Query Planner Stability Guarantee") each `LIMIT` that is bound
/// has its statement prepared anew, lest another plan were better for so many rows.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens a file, making it and its folder where they are missing, readable by their owner only, and
    /// brings its schema up to date. Blocks for that long.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, DatabaseError> {
        let name = path.display().to_string();
        make_private(path).map_err(|source| DatabaseError::Io { file: name.clone(), source })?;
        let mut connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        keep_statements(&connection)?;
        // Refused before the journal mode is changed, so that another program's file is left as it is.
        migrations::migrate(&mut connection, &name)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;
             PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;",
        )?;
        let reader = || -> Result<_, DatabaseError> {
            let connection =
                Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY)?;
            keep_statements(&connection)?;
            connection.execute_batch("PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;")?;
            Ok(Some(Mutex::new(connection)))
        };
        let (reader, searcher) = (reader()?, reader()?);
        let writer = Writer::start(connection).map_err(|source| DatabaseError::Io { file: name, source })?;
        Ok(Self(Arc::new(Inner { writer, reader, searcher, clock })))
    }

    /// A database in memory, gone with its last handle.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self, DatabaseError> {
        let mut connection = Connection::open_in_memory()?;
        keep_statements(&connection)?;
        migrations::migrate(&mut connection, "memory")?;
        let writer = Writer::start(connection).map_err(|source| DatabaseError::Io { file: "memory".into(), source })?;
        Ok(Self(Arc::new(Inner { writer, reader: None, searcher: None, clock })))
    }

    /// The table.
    pub fn table(&self) -> Arc<dyn Table> {
        Arc::new(table::SqliteTable(Arc::clone(&self.0)))
    }

    /// The queues between stages.
    pub fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(queue::SqliteQueue(Arc::clone(&self.0)))
    }

    /// The timers.
    pub fn timer(&self) -> Arc<dyn Timer> {
        Arc::new(timer::SqliteTimer(Arc::clone(&self.0)))
    }

    /// The search index.
    pub fn search(&self) -> Arc<dyn SearchIndex> {
        Arc::new(search::SqliteSearch(Arc::clone(&self.0)))
    }

    /// Deletes items that have expired and messages dead for over 14 days, which count as absent already;
    /// returns how many. To be called now and then: on AWS the services do this by themselves.
    pub async fn purge(&self) -> Result<u64, DatabaseError> {
        let now = self.0.clock.now();
        let (expired, dead) = (micros(now), micros(plus_seconds(now, -DEAD_SECONDS)));
        let items = "DELETE FROM item WHERE rowid IN (SELECT rowid FROM item WHERE expires_at <= ?1 LIMIT ?2)";
        let messages = "DELETE FROM message WHERE seq IN (SELECT seq FROM message WHERE dead_at <= ?1 LIMIT ?2)";
        Ok(self.purge_with(items, expired).await? + self.purge_with(messages, dead).await?)
    }

    async fn purge_with(&self, statement: &'static str, before: i64) -> Result<u64, DatabaseError> {
        let mut total = 0;
        loop {
            let gone = self.0.write(move |c| Ok::<_, DatabaseError>(c.execute(statement, (before, PURGE))?)).await?;
            total += gone as u64;
            if gone < PURGE as usize {
                return Ok(total);
            }
        }
    }
}

impl Inner {
    /// Runs `work` in a transaction that is durable when this returns.
    pub(crate) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        self.writer.run(work).await
    }

    /// Runs `work`, which only reads, beside the writer. It sees all that was committed before.
    pub(crate) async fn read<T, E>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        self.read_on(|inner| inner.reader.as_ref(), work).await
    }

    /// As [`read`](Self::read), for queries that may take long.
    pub(crate) async fn read_long<T, E>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        self.read_on(|inner| inner.searcher.as_ref(), work).await
    }

    async fn read_on<T, E>(
        self: &Arc<Self>,
        which: fn(&Self) -> Option<&Mutex<Connection>>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        if which(self).is_none() {
            return self.writer.run(work).await;
        }
        let inner = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let connection = which(&inner).ok_or(DatabaseError::Stopped)?;
            // A reader that panicked left no state behind: statements reset themselves when dropped.
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection)
        });
        done.await.map_err(|_| DatabaseError::Stopped)?
    }
}

/// A time as stored.
pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A stored time.
pub(crate) fn time(micros: i64) -> Result<Timestamp, DatabaseError> {
    Timestamp::from_microsecond(micros).map_err(|e| DatabaseError::Corrupt(e.to_string()))
}

/// Makes the folder and the file where they are missing, for their owner only; takes others' rights from a
/// file that is there. SQLite gives its side files the same rights.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut folder = std::fs::DirBuilder::new();
    let mut file = std::fs::OpenOptions::new();
    folder.recursive(true);
    file.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
        folder.mode(0o700);
        file.mode(0o600);
        if path.exists() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        folder.create(parent)?;
    }
    file.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_query_with_a_limit_is_prepared_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        keep_statements(&connection).unwrap();
        migrations::migrate(&mut connection, "memory").unwrap();
        let mut statement = connection.prepare("SELECT body FROM item WHERE pk = ? ORDER BY sk LIMIT ?").unwrap();
        for limit in 1..4 {
            assert!(statement.query(("a", limit)).unwrap().next().unwrap().is_none());
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
