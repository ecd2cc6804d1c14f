//! The archive of accepted events: written once, kept for a time, read back once each.
//!
//! Objects are named from their account, UTC day and content, so archiving a batch twice writes one object;
//! reading a day back gives every event once even where two objects hold it. Files on one machine, S3 later.

use async_trait::async_trait;
use sentinel_model::{Event, Timestamp};

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
    /// The archive itself failed.
    #[error("the archive failed: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A place to keep events.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Keeps a batch; when it returns, all of it is durable. The same batch again changes nothing.
    /// Events with one id and two contents are both kept; a copy that comes by another channel adds its provenance.
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError>;

    /// Days (`YYYY-MM-DD`) for which an account has events, ascending.
    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError>;

    /// Accounts that have events, ascending.
    async fn accounts(&self) -> Result<Vec<String>, ArchiveError>;

    /// Events of an account and day in order of time, each id and content once, provenances merged.
    async fn read(&self, account: &str, day: &str) -> Result<Vec<Event>, ArchiveError>;

    /// Removes days before a time; returns how many day partitions went.
    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError>;
}
