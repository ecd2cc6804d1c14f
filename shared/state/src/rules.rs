//! Where operators' rules are stored: a port with versions, so that what was in force can be read again. It stands
//! here and not in detect, so that adapters and the other functions do not carry detect's models with them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// One version of one stored object. Ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleObject {
    /// Its name below the prefix.
    pub name: String,
    /// Its version, as the store names it.
    pub version_id: String,
    /// The store's mark of its content.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

/// What can go wrong with the source.
#[derive(Debug, thiserror::Error)]
pub enum RuleSourceError {
    /// This object cannot be used, now or later: its version is gone, or it is no text. The others can.
    #[error("rule file {name}: {reason}")]
    Object {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The source cannot be read.
    #[error("operators' rules cannot be read: {0}")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RuleSourceError {
    /// Wraps an adapter's own error.
    pub fn unreadable(e: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unreadable(Box::new(e))
    }
}

/// Stored rules.
#[async_trait]
pub trait RuleSource: Send + Sync {
    /// The current version of every object, in any order. An error unless the list is complete.
    async fn list(&self) -> Result<Vec<RuleObject>, RuleSourceError>;

    /// The text of exactly this version.
    async fn read(&self, object: &RuleObject) -> Result<String, RuleSourceError>;
}
