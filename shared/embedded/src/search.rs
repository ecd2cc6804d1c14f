//! The search port over SQLite's FTS5.
//!
//! Text and queries are cut into words by the same rule, at everything that is neither letter nor digit,
//! and a query's word must occur as those words in a row, the last one as a prefix. So an address, an ARN,
//! a part of an ARN that begins at a word, an access key id or an API name is found as it is written,
//! whatever stands between its words, at a third of the space that an index of trigrams takes.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, Row, params_from_iter, types::Value as Sql};
use sentinel_model::Timestamp;
use sentinel_search::{Document, DocumentKind, SearchError, SearchIndex, SearchPage, SearchQuery};

use crate::DatabaseError;
use crate::database::{Inner, micros, time};

pub(crate) struct SqliteSearch(pub(crate) Arc<Inner>);

/// Most results of one page.
const MAX_LIMIT: usize = 1_000;
/// Most ids of one query.
const MAX_IDS: usize = 100;
/// Documents removed in one transaction.
const FORGET: u32 = 500;

#[async_trait]
impl SearchIndex for SqliteSearch {
    async fn index(&self, documents: Vec<Document>) -> Result<(), SearchError> {
        if documents.is_empty() {
            return Ok(());
        }
        self.0
            .write(move |c| {
                for document in &documents {
                    replace(c, document)?;
                }
                Ok(())
            })
            .await
    }

    async fn search(&self, query: SearchQuery) -> Result<SearchPage, SearchError> {
        let Some((sql, values)) = statement(&query)? else {
            return Ok(SearchPage { documents: Vec::new(), next: None });
        };
        let limit = query.limit.clamp(1, MAX_LIMIT);
        self.0.read_long(move |c| Ok(run(c, &sql, &values, limit)?)).await
    }

    async fn forget_before(&self, kind: DocumentKind, time: Timestamp) -> Result<u64, SearchError> {
        let before = micros(time);
        let mut total = 0;
        loop {
            let gone = self.0.write(move |c| Ok::<_, SearchError>(forget(c, kind, before)?)).await?;
            total += gone as u64;
            if gone < FORGET as usize {
                return Ok(total);
            }
        }
    }

    async fn count(&self, kind: DocumentKind) -> Result<u64, SearchError> {
        self.0
            .read_long(move |c| {
                let sql = "SELECT count(*) FROM document WHERE kind = ?1";
                let count = c.prepare_cached(sql).and_then(|mut s| s.query_row([kind_name(kind)], |r| r.get(0)));
                Ok(count.map_err(DatabaseError::from)?)
            })
            .await
    }
}

fn kind_name(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Event => "event",
        DocumentKind::Alert => "alert",
    }
}

fn replace(c: &Connection, document: &Document) -> Result<(), DatabaseError> {
    let values = (
        kind_name(document.kind),
        &document.id,
        micros(document.time),
        &document.account,
        &document.principal,
        &document.text,
        &document.body,
    );
    // Most documents are new. One that is replaced keeps its row, and so its place in the order of pages.
    let sql = "INSERT INTO document (kind, id, time, account, principal, text, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (kind, id) DO NOTHING";
    let seq = if c.prepare_cached(sql)?.execute(values)? == 1 {
        c.last_insert_rowid()
    } else {
        let sql = "UPDATE document SET time = ?3, account = ?4, principal = ?5, text = ?6, body = ?7
                   WHERE kind = ?1 AND id = ?2 RETURNING seq";
        let seq: i64 = c.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
        c.prepare_cached("DELETE FROM document_words WHERE rowid = ?1")?.execute([seq])?;
        seq
    };
    c.prepare_cached("INSERT INTO document_words (rowid, text) VALUES (?1, ?2)")?.execute((seq, &document.text))?;
    Ok(())
}

/// The statement for a query and its values; `None` when its words can be in no document.
fn statement(query: &SearchQuery) -> Result<Option<(String, Vec<Sql>)>, SearchError> {
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Sql> = Vec::new();
    let mut add = |condition: &str, value: Sql| {
        conditions.push(condition.to_owned());
        values.push(value);
    };
    if !query.words.trim().is_empty() {
        let Some(words) = match_words(&query.words) else { return Ok(None) };
        add("seq IN (SELECT rowid FROM document_words WHERE document_words MATCH ?)", words.into());
    }
    if let Some(kind) = query.kind {
        add("kind = ?", kind_name(kind).to_owned().into());
    }
    if let Some(account) = &query.account {
        add("account = ?", account.clone().into());
    }
    if let Some(principal) = &query.principal {
        add("principal = ?", principal.clone().into());
    }
    if let Some(from) = query.from {
        add("time >= ?", micros(from).into());
    }
    if let Some(to) = query.to {
        add("time <= ?", micros(to).into());
    }
    if let Some(cursor) = &query.after {
        let (time, seq) = open_cursor(cursor).ok_or(SearchError::BadCursor)?;
        conditions.push("(time, seq) < (?, ?)".to_owned());
        values.extend([time.into(), seq.into()]);
    }
    if !query.ids.is_empty() {
        if query.ids.len() > MAX_IDS {
            return Err(SearchError::TooManyIds(query.ids.len()));
        }
        conditions.push(format!("id IN ({})", vec!["?"; query.ids.len()].join(", ")));
        values.extend(query.ids.iter().cloned().map(Sql::from));
    }
    let filter = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
    let sql = format!(
        "SELECT seq, kind, id, time, account, principal, text, body FROM document WHERE {filter}
         ORDER BY time DESC, seq DESC LIMIT ?"
    );
    // One more than asked for tells whether there is a next page. The limit is at most MAX_LIMIT.
    values.push(i64::try_from(query.limit.clamp(1, MAX_LIMIT) + 1).unwrap_or(i64::MAX).into());
    Ok(Some((sql, values)))
}

/// The words as FTS5 takes them literally: each quoted, as a prefix. What has neither letter nor digit
/// cannot be searched for: it is left out beside other words, and alone it is `None`.
fn match_words(words: &str) -> Option<String> {
    let quoted: Vec<String> = words
        .replace('\0', " ")
        .split_whitespace()
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .map(|word| format!("\"{}\"*", word.replace('"', "\"\"")))
        .collect();
    if quoted.is_empty() { None } else { Some(quoted.join(" ")) }
}

fn run(c: &Connection, sql: &str, values: &[Sql], limit: usize) -> Result<SearchPage, DatabaseError> {
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query_map(params_from_iter(values), stored)?.collect::<Result<Vec<_>, _>>()?;
    let has_next = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_next).map(|(seq, _, at, _)| format!("{at}.{seq}"));
    let documents = rows.into_iter().map(document).collect::<Result<_, _>>()?;
    Ok(SearchPage { documents, next })
}

/// Place, kind, time, and the texts: id, account, principal, text, body.
type Stored = (i64, String, i64, [String; 5]);

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(3)?, [row.get(2)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?]))
}

fn document((_, kind, at, [id, account, principal, text, body]): Stored) -> Result<Document, DatabaseError> {
    let kind = [DocumentKind::Event, DocumentKind::Alert]
        .into_iter()
        .find(|k| kind_name(*k) == kind)
        .ok_or_else(|| DatabaseError::Corrupt(format!("document {id} is of an unknown kind {kind:?}")))?;
    Ok(Document { kind, id, time: time(at)?, account, principal, text, body })
}

fn open_cursor(cursor: &str) -> Option<(i64, i64)> {
    let (time, seq) = cursor.split_once('.')?;
    Some((time.parse().ok()?, seq.parse().ok()?))
}

fn forget(c: &Connection, kind: DocumentKind, before: i64) -> Result<usize, DatabaseError> {
    let old = "SELECT seq FROM document WHERE kind = ?1 AND time < ?2 ORDER BY time, seq LIMIT ?3";
    let limits = (kind_name(kind), before, FORGET);
    c.prepare_cached(&format!("DELETE FROM document_words WHERE rowid IN ({old})"))?.execute(limits)?;
    Ok(c.prepare_cached(&format!("DELETE FROM document WHERE seq IN ({old})"))?.execute(limits)?)
}
