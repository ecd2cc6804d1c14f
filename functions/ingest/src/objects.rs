//! The port by which log objects of a bucket are read, and the slices of them that are to be read.

use std::io::Read;

use async_trait::async_trait;
use sentinel_model::Timestamp;
use serde::{Deserialize, Serialize};

/// What of an object is to be read: all of it, or what follows some records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// The bucket.
    pub bucket: String,
    /// The key, as it is (not URL-encoded).
    pub key: String,
    /// The object's version, in a bucket that keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The entity tag of its content, without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Its size in bytes, as the notification says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Records at its start that were handed on before.
    #[serde(default)]
    pub skip_records: u64,
}

/// An object being read.
pub struct OpenObject {
    /// Its bytes as stored. Reading blocks.
    pub reader: Box<dyn Read + Send>,
    /// When it was written.
    pub modified: Option<Timestamp>,
    /// The version that is read.
    pub version: Option<String>,
    /// The entity tag of what is read, without quotes.
    pub etag: Option<String>,
}

/// Why an object could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object or version (any more).
    #[error("object {key} of bucket {bucket} is gone")]
    Gone {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// Another object stands under its key now: what was begun cannot be continued.
    #[error("object {key} of bucket {bucket} was replaced since it was announced")]
    Replaced {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// The store failed, or refuses to give it.
    #[error("object {key} of bucket {bucket} could not be opened: {error}")]
    Store {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What happened.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A place where log objects lie.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Opens an object: the version and entity tag that the slice names, where it names them, and no other.
    async fn open(&self, slice: &Slice) -> Result<OpenObject, ObjectError>;
}
