//! How documents lie in OpenSearch: their fields, their ids and the indices they go to.

use sentinel_model::{
    Timestamp,
    time::{plus_seconds, utc_day},
};
use sentinel_search::{Document, DocumentKind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Days before now for which events have an index each.
const DAYS_BEFORE: i64 = 400;
/// Days after now, for clocks that are ahead.
const DAYS_AFTER: i64 = 2;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// The index of all other days.
const OTHER: &str = "other";
/// Longest `_id` in bytes (OpenSearch documentation, "Index document").
const MAX_ID_BYTES: usize = 512;
/// Longest prefix of a word that is indexed as such; the most that `index_prefixes` takes.
const PREFIX_CHARS: u32 = 19;
/// Most characters of a value to filter by: Lucene's limit of 32,766 bytes, in any script.
const KEYWORD_CHARS: u32 = 8_000;

/// A kind's part of names.
pub(super) fn name_of(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Event => "event",
        DocumentKind::Alert => "alert",
    }
}

/// The words of a text, as index and query have them: in lower case, each separated from the next by a space.
pub(super) fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// A document and its key: unique among all kinds, what pages go on from.
pub(super) struct Stored {
    document: Document,
    key: String,
}

impl Stored {
    pub(super) fn new(document: Document) -> Self {
        let plain = format!("{}:{}", name_of(document.kind), document.id);
        let key = if plain.len() <= MAX_ID_BYTES {
            plain
        } else {
            format!("{}#{}", name_of(document.kind), hex::encode(Sha256::digest(document.id.as_bytes())))
        };
        Self { document, key }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn kind(&self) -> DocumentKind {
        self.document.kind
    }

    pub(super) fn time(&self) -> Timestamp {
        self.document.time
    }

    /// What is indexed. `at` orders; `document` is what is given back.
    pub(super) fn source(&self) -> Value {
        let document = &self.document;
        json!({
            "key": self.key,
            "kind": name_of(document.kind),
            "id": document.id,
            "at": document.time.as_microsecond(),
            "account": document.account,
            "principal": document.principal,
            "words": words(&document.text),
            "document": document,
        })
    }
}

/// The template of all indices that begin with a prefix.
pub(super) fn template(prefix: &str) -> Value {
    let keyword = json!({"type": "keyword", "ignore_above": KEYWORD_CHARS});
    json!({
        "index_patterns": [format!("{prefix}-event-*"), format!("{prefix}-alert-*")],
        "template": {
            "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1"},
            "mappings": {
                "dynamic": "strict",
                // Searched, never shown: the text itself is in the document.
                "_source": {"excludes": ["words"]},
                "properties": {
                    "key": keyword,
                    "kind": keyword,
                    "id": keyword,
                    "at": {"type": "long"},
                    "account": keyword,
                    "principal": keyword,
                    "words": {
                        "type": "text", "analyzer": "whitespace", "norms": false,
                        "index_prefixes": {"min_chars": 1, "max_chars": PREFIX_CHARS},
                    },
                    "document": {"type": "object", "enabled": false},
                },
            },
        },
    })
}

/// The index that a document goes to.
pub(super) fn day_index(prefix: &str, kind: DocumentKind, time: Timestamp, now: Timestamp) -> String {
    let near = plus_seconds(now, -DAYS_BEFORE * DAY_SECONDS)..plus_seconds(now, DAYS_AFTER * DAY_SECONDS);
    let part = match kind {
        DocumentKind::Event if near.contains(&time) => utc_day(time),
        DocumentKind::Event | DocumentKind::Alert => OTHER.to_owned(),
    };
    format!("{prefix}-{}-{part}", name_of(kind))
}

/// Whether an index is of a day that ended before a time.
pub(super) fn is_older(index: &str, time: Timestamp) -> bool {
    let Some(day) = index.len().checked_sub("YYYY-MM-DD".len()).and_then(|at| index.get(at..)) else { return false };
    let Ok(begin) = format!("{day}T00:00:00Z").parse::<Timestamp>() else { return false };
    plus_seconds(begin, DAY_SECONDS) <= time
}
