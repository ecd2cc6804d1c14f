//! Full-text search over alerts and events behind a port: SQLite FTS5 on one machine, OpenSearch where a deployed
//! stack has it, and [`KeySearch`] where it has not.
//!
//! The index is a copy: everything in it can be made again from the table and the archive.

use async_trait::async_trait;
use sentinel_model::Timestamp;
use serde::{Deserialize, Serialize};

pub mod conformance;
pub mod keys;

pub use keys::KeySearch;

/// What kind of thing a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// A normalised event.
    Event,
    /// An alert.
    Alert,
}

/// A document of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it is.
    pub kind: DocumentKind,
    /// Its id within its kind; indexing it again replaces it.
    pub id: String,
    /// When it happened.
    pub time: Timestamp,
    /// Its account.
    pub account: String,
    /// Its principal as text.
    pub principal: String,
    /// Text that is searched: words of names, ids, addresses.
    pub text: String,
    /// What is shown for it, JSON.
    pub body: String,
}

/// A search.
#[derive(Debug, Clone, Default)]
pub struct SearchQuery {
    /// Which kind; `None`: all.
    pub kind: Option<DocumentKind>,
    /// Words that must all occur (prefixes count); empty: everything. Never a syntax error: the words are
    /// taken literally, without regard to case. Words end at white space; a name with other marks in it, as
    /// an ARN, an address or a part of them, is looked for as it stands.
    pub words: String,
    /// Only this account.
    pub account: Option<String>,
    /// Only this principal.
    pub principal: Option<String>,
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Until this time.
    pub to: Option<Timestamp>,
    /// Only these ids (at most 100).
    pub ids: Vec<String>,
    /// Most results (1 to 1,000).
    pub limit: usize,
    /// Cursor of an earlier page.
    pub after: Option<String>,
}

/// Results, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPage {
    /// The documents.
    pub documents: Vec<Document>,
    /// Cursor of the next page.
    pub next: Option<String>,
}

/// What can go wrong with the index.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A cursor that this index did not give.
    #[error("bad cursor")]
    BadCursor,
    /// More than 100 ids were asked for.
    #[error("a search takes at most 100 ids, not {0}")]
    TooManyIds(usize),
    /// The index itself failed.
    #[error("the search index failed: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How much of what there is an index can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// All that was indexed.
    Full,
    /// Only what the keys of the stores can find; a sentence says to people what that is.
    KeysOnly(&'static str),
}

impl Coverage {
    /// What to tell people who search; `None` when there is nothing to say.
    pub fn limited(self) -> Option<&'static str> {
        match self {
            Self::Full => None,
            Self::KeysOnly(sentence) => Some(sentence),
        }
    }
}

/// A search index.
#[async_trait]
pub trait SearchIndex: Send + Sync {
    /// How much of what there is it can find.
    fn coverage(&self) -> Coverage {
        Coverage::Full
    }

    /// Whether documents are kept at all: where they are not, indexing them is nothing.
    fn keeps_documents(&self) -> bool {
        true
    }

    /// Adds or replaces documents, all or none.
    async fn index(&self, documents: Vec<Document>) -> Result<(), SearchError>;

    /// Finds documents.
    async fn search(&self, query: SearchQuery) -> Result<SearchPage, SearchError>;

    /// Forgets documents older than a time; returns how many.
    async fn forget_before(&self, kind: DocumentKind, time: Timestamp) -> Result<u64, SearchError>;

    /// How many documents of a kind there are.
    async fn count(&self, kind: DocumentKind) -> Result<u64, SearchError>;
}
