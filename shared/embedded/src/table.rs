//! The table port over SQLite: one row an item, both listing indexes as partial indexes of it.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter, types::Value as Sql};
use sentinel_state::{
    Condition, Index, Item, Key, Page, Put, Query, SkRange, Table, TableError, Write,
    table::{MAX_KEYS, check_writes},
};

use crate::DatabaseError;
use crate::database::{Inner, micros, time};

pub(crate) struct SqliteTable(pub(crate) Arc<Inner>);

const COLUMNS: &str = "pk, sk, body, version, expires_at";

#[async_trait]
impl Table for SqliteTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        let (key, now) = (key.clone(), micros(self.0.clock.now()));
        self.0.read(move |c| get(c, &key, now)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        if keys.len() > MAX_KEYS {
            return Err(TableError::BadRequest(format!("{} keys, over the limit of {MAX_KEYS}", keys.len())));
        }
        let (keys, now) = (keys.iter().cloned().collect::<HashSet<_>>(), micros(self.0.clock.now()));
        self.0.read(move |c| keys.iter().filter_map(|key| get(c, key, now).transpose()).collect()).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let bodies = check_writes(&writes)?;
        if writes.is_empty() {
            return Ok(());
        }
        let now = micros(self.0.clock.now());
        self.0.write(move |c| write(c, &writes, &bodies, now)).await
    }

    async fn query(&self, query: Query) -> Result<Page, TableError> {
        if query.limit == 0 {
            return Err(TableError::BadRequest("a page has at least one item".into()));
        }
        let now = micros(self.0.clock.now());
        self.0.read(move |c| run_query(c, &query, now)).await
    }
}

fn get(c: &Connection, key: &Key, now: i64) -> Result<Option<Item>, TableError> {
    let sql =
        format!("SELECT {COLUMNS} FROM item WHERE pk = ?1 AND sk = ?2 AND (expires_at IS NULL OR expires_at > ?3)");
    let mut statement = c.prepare_cached(&sql).map_err(DatabaseError::from)?;
    let row = statement.query_row((&key.pk, &key.sk, now), stored).optional().map_err(DatabaseError::from)?;
    row.map(item).transpose()
}

/// A row as read, before its values are understood.
type Stored = (String, String, String, i64, Option<i64>);

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn item((pk, sk, body, version, expires_at): Stored) -> Result<Item, TableError> {
    let body = serde_json::from_str(&body)
        .map_err(|e| TableError::Malformed { key: format!("{pk}/{sk}"), reason: e.to_string() })?;
    let version = u64::try_from(version).map_err(|e| DatabaseError::Corrupt(e.to_string()))?;
    let expires_at = expires_at.map(time).transpose()?;
    Ok(Item { key: Key { pk, sk }, body, version, expires_at })
}

fn write(c: &Connection, writes: &[Write], bodies: &[Option<String>], now: i64) -> Result<(), TableError> {
    let mut failed = Vec::new();
    for (position, write) in writes.iter().enumerate() {
        let condition = match write {
            Write::Put(put) => put.condition,
            Write::Delete(_, condition) | Write::Check(_, condition) => *condition,
        };
        if !holds(c, write.key(), condition, now)? {
            failed.push(position);
        }
    }
    if !failed.is_empty() {
        return Err(TableError::ConditionFailed(failed));
    }
    for (write, body) in writes.iter().zip(bodies) {
        match (write, body) {
            (Write::Put(put), Some(body)) => apply(c, put, body, now)?,
            (Write::Delete(key, _), _) => delete(c, key)?,
            (Write::Put(_) | Write::Check(..), _) => {}
        }
    }
    Ok(())
}

fn holds(c: &Connection, key: &Key, condition: Condition, now: i64) -> Result<bool, DatabaseError> {
    if condition == Condition::None {
        return Ok(true);
    }
    let sql = "SELECT version FROM item WHERE pk = ?1 AND sk = ?2 AND (expires_at IS NULL OR expires_at > ?3)";
    let found: Option<i64> = c.prepare_cached(sql)?.query_row((&key.pk, &key.sk, now), |row| row.get(0)).optional()?;
    Ok(match condition {
        Condition::None => true,
        Condition::Absent => found.is_none(),
        Condition::Version(version) => found.and_then(|v| u64::try_from(v).ok()) == Some(version),
    })
}

fn apply(c: &Connection, put: &Put, body: &str, now: i64) -> Result<(), DatabaseError> {
    // An expired item that is still here is absent: what replaces it is new.
    let sql = "INSERT INTO item (pk, sk, body, version, expires_at, one_pk, one_sk, two_pk, two_sk)
               VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8)
               ON CONFLICT (pk, sk) DO UPDATE SET body = ?3, expires_at = ?4, one_pk = ?5, one_sk = ?6,
               two_pk = ?7, two_sk = ?8, version = CASE WHEN expires_at <= ?9 THEN 1 ELSE version + 1 END";
    let (one, two) = (put.index_one.as_ref(), put.index_two.as_ref());
    c.prepare_cached(sql)?.execute((
        &put.key.pk,
        &put.key.sk,
        body,
        put.expires_at.map(micros),
        one.map(|k| &k.pk),
        one.map(|k| &k.sk),
        two.map(|k| &k.pk),
        two.map(|k| &k.sk),
        now,
    ))?;
    Ok(())
}

fn delete(c: &Connection, key: &Key) -> Result<(), DatabaseError> {
    c.prepare_cached("DELETE FROM item WHERE pk = ?1 AND sk = ?2")?.execute((&key.pk, &key.sk))?;
    Ok(())
}

/// Names of an index's columns: its partition, its order.
fn columns(index: Option<Index>) -> (&'static str, &'static str) {
    match index {
        None => ("pk", "sk"),
        Some(Index::One) => ("one_pk", "one_sk"),
        Some(Index::Two) => ("two_pk", "two_sk"),
    }
}

fn run_query(c: &Connection, query: &Query, now: i64) -> Result<Page, TableError> {
    let (partition, order) = columns(query.index);
    let mut conditions = vec![format!("{partition} = ?"), "(expires_at IS NULL OR expires_at > ?)".to_owned()];
    let mut values = vec![Sql::from(query.pk.clone()), Sql::from(now)];
    let mut bound = |operator: &str, value: &str| {
        conditions.push(format!("{order} {operator} ?"));
        values.push(Sql::from(value.to_owned()));
    };
    match &query.sk {
        SkRange::All => {}
        SkRange::Prefix(prefix) => {
            bound(">=", prefix);
            if let Some(end) = prefix_end(prefix) {
                bound("<", &end);
            }
        }
        SkRange::Between(from, to) => {
            bound(">=", from);
            bound("<=", to);
        }
    }
    let (beyond, direction) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
    if let Some(cursor) = &query.after {
        conditions.push(format!("({order}, pk, sk) {beyond} (?, ?, ?)"));
        values.extend(open_cursor(query, cursor)?.map(Sql::from));
    }
    let sql = format!(
        "SELECT {COLUMNS}, {order} FROM item WHERE {}
         ORDER BY {order} {direction}, pk {direction}, sk {direction} LIMIT ?",
        conditions.join(" AND ")
    );
    // One more than asked for tells whether there is a next page.
    let more = query.limit.saturating_add(1);
    values.push(Sql::from(i64::try_from(more).unwrap_or(i64::MAX)));

    let mut rows = c
        .prepare_cached(&sql)
        .and_then(|mut s| {
            let rows = s.query_map(params_from_iter(values.iter().map(|v| v as &dyn ToSql)), |row| {
                Ok((stored(row)?, row.get::<_, String>(5)?))
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        })
        .map_err(DatabaseError::from)?;
    let has_next = rows.len() > query.limit;
    rows.truncate(query.limit);
    let next = rows.last().filter(|_| has_next).map(|(row, place)| close_cursor(query, place, &row.0, &row.1));
    let items = rows.into_iter().map(|(row, _)| item(row)).collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}

/// The first text after all that begin with `prefix`, in the order of UTF-8 bytes, which is that of code
/// points; `None` when there is none.
fn prefix_end(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // Ranges of `char` step over the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

/// A cursor: the query's partition and the place of the last item, as hexadecimal JSON.
fn close_cursor(query: &Query, place: &str, pk: &str, sk: &str) -> String {
    hex::encode(serde_json::json!([columns(query.index).0, query.pk, place, pk, sk]).to_string())
}

fn open_cursor(query: &Query, cursor: &str) -> Result<[String; 3], TableError> {
    let bad = || TableError::BadRequest("bad cursor".into());
    let text = hex::decode(cursor).map_err(|_| bad())?;
    let [index, pk, place, item_pk, item_sk]: [String; 5] = serde_json::from_slice(&text).map_err(|_| bad())?;
    if index != columns(query.index).0 || pk != query.pk {
        return Err(bad());
    }
    Ok([place, item_pk, item_sk])
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix_is_the_next_text_in_byte_order() {
        for (prefix, end) in [
            ("a", Some("b")),
            ("a#", Some("a$")),
            ("a\u{10FFFF}", Some("b")),
            ("\u{D7FF}", Some("\u{E000}")),
            ("\u{7F}", Some("\u{80}")),
            ("\u{10FFFF}", None),
            ("", None),
        ] {
            assert_eq!(prefix_end(prefix).as_deref(), end, "{prefix:?}");
        }
    }
}
