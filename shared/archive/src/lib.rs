//! The archive of accepted events: written once, kept for a time, read back once each.
//!
//! Objects are named from their account, UTC day and content, so archiving a batch twice writes one object;
//! reading a day back gives every event once even where two objects hold it. Files on one machine
//! ([`FileArchive`]), S3 in a deployed stack; both pass [`conformance`].
//!
//! Every batch makes one object for each account and day that it touches. Where events trickle in, these
//! are many small ones; nothing here merges them. A day is read whole into memory.

use async_trait::async_trait;
use sentinel_model::{Event, Timestamp};

pub mod conformance;
mod file;
pub mod object;

pub use file::FileArchive;

/// What can go wrong with the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An object cannot be read; the others still are.
    #[error("archive object {name}: {reason}")]
    Object {
        /// The object's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An account or day that cannot stand in an object's name.
    #[error("bad {what} for the archive: {text:?}")]
    Name {
        /// `account` or `day`.
        what: &'static str,
        /// The text given.
        text: String,
    },
    /// The archive itself failed.
    #[error("the archive failed: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a day's partition holds.
#[derive(Debug, Default)]
pub struct Day {
    /// The events in order of time, each id and content once, provenances merged.
    pub events: Vec<Event>,
    /// What could not be read, each an [`ArchiveError::Object`]; what is before the damage in such an object
    /// is among the events.
    pub unreadable: Vec<ArchiveError>,
}

/// A place to keep events.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Keeps a batch; when it returns, all of it is durable. The same batch again changes nothing.
    /// Events with one id and two contents are both kept; a copy that comes by another channel adds its
    /// provenance. An account that cannot stand in a name is refused before anything is written.
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError>;

    /// Days (`YYYY-MM-DD`) for which an account has events, ascending. An event before 1970, which no log
    /// has by right, counts to the first day of 1970.
    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError>;

    /// Accounts that have events, ascending.
    async fn accounts(&self) -> Result<Vec<String>, ArchiveError>;

    /// Events of an account and day, and what of it could not be read. A day without events is empty.
    async fn read(&self, account: &str, day: &str) -> Result<Day, ArchiveError>;

    /// Removes days that ended before a time; returns how many day partitions went.
    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError>;
}
