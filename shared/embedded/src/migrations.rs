//! The file's schema, as the list of steps that lead from an empty file to it.
//!
//! A step is never changed once released; a new schema is a new step. The file carries the number of steps
//! taken as SQLite's `user_version`. Times are microseconds since 1970.

use rusqlite::{Connection, TransactionBehavior};

use crate::DatabaseError;

/// Marks the file as ours (`application_id`): `CSen` in ASCII.
const APPLICATION_ID: i32 = 0x4353_656e;

/// The steps. Text keys compare by their bytes (SQLite's `BINARY`), as the table port wants.
pub(crate) const STEPS: [&str; 2] = [
    // 1: table, queues, timers.
    "CREATE TABLE item (
        pk TEXT NOT NULL, sk TEXT NOT NULL, body TEXT NOT NULL, version INTEGER NOT NULL, expires_at INTEGER,
        one_pk TEXT, one_sk TEXT, two_pk TEXT, two_sk TEXT, UNIQUE (pk, sk));
     CREATE INDEX item_one ON item (one_pk, one_sk, pk, sk) WHERE one_pk IS NOT NULL;
     CREATE INDEX item_two ON item (two_pk, two_sk, pk, sk) WHERE two_pk IS NOT NULL;
     CREATE INDEX item_expiry ON item (expires_at) WHERE expires_at IS NOT NULL;
     CREATE TABLE message (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, stage TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
        sent_at INTEGER NOT NULL, visible_at INTEGER NOT NULL, receives INTEGER NOT NULL DEFAULT 0,
        receipt TEXT, dead_at INTEGER);
     CREATE INDEX message_live ON message (stage, visible_at, seq) WHERE dead_at IS NULL;
     CREATE INDEX message_dead ON message (stage, dead_at, seq) WHERE dead_at IS NOT NULL;
     CREATE TABLE timer (
        id TEXT PRIMARY KEY, due INTEGER NOT NULL, stage TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
     CREATE INDEX timer_due ON timer (due);",
    // 2: search. The words' index keeps no text of its own: the document has it.
    "CREATE TABLE document (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL, time INTEGER NOT NULL,
        account TEXT NOT NULL, principal TEXT NOT NULL, text TEXT NOT NULL, body TEXT NOT NULL,
        UNIQUE (kind, id));
     CREATE INDEX document_time ON document (time, seq);
     CREATE INDEX document_kind ON document (kind, time, seq);
     CREATE INDEX document_account ON document (account, time, seq);
     CREATE INDEX document_principal ON document (principal, time, seq);
     CREATE VIRTUAL TABLE document_words USING fts5(
        text, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2');",
];

/// Brings a file to the present schema; `name` is for errors. Refuses a file of a newer version of the
/// program, which this one might damage, and a file that is some other program's.
pub(crate) fn migrate(connection: &mut Connection, name: &str) -> Result<(), DatabaseError> {
    migrate_to(connection, name, STEPS.len())
}

/// As [`migrate`], but only up to a version.
pub(crate) fn migrate_to(connection: &mut Connection, name: &str, version: usize) -> Result<(), DatabaseError> {
    // Takes the write lock first, so that of two processes that open a new file one waits for the other.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |pragma: &str| transaction.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let found = number("user_version")?;
    let application = number("application_id")?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != i64::from(APPLICATION_ID) && (tables > 0 || found != 0 || application != 0) {
        return Err(DatabaseError::NotOurs { file: name.to_owned() });
    }
    let taken = match usize::try_from(found) {
        Ok(taken) if taken <= STEPS.len() => taken,
        _ => return Err(DatabaseError::Newer { file: name.to_owned(), found, known: STEPS.len() }),
    };
    for (done, step) in STEPS.iter().enumerate().take(version).skip(taken) {
        transaction.execute_batch(step)?;
        transaction.execute_batch(&format!("PRAGMA user_version = {}", done + 1))?;
    }
    transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use sentinel_durable::{Stage, SystemClock};
    use sentinel_search::{DocumentKind, SearchQuery};
    use sentinel_state::{Key, Query};

    use super::*;
    use crate::Database;

    /// A file as the first version of the program left it.
    fn version_one(path: &Path) {
        let mut connection = Connection::open(path).unwrap();
        migrate_to(&mut connection, "old", 1).unwrap();
        connection
            .execute_batch(
                r#"INSERT INTO item VALUES ('pk', 'sk', '{"n":1}', 3, NULL, 'ALL', '1', NULL, NULL);
                   INSERT INTO message (stage, id, body, sent_at, visible_at) VALUES ('detect', 'm', 'body', 0, 0);
                   INSERT INTO timer VALUES ('t', 0, 'respond', 'due');"#,
            )
            .unwrap();
        assert!(connection.prepare("SELECT * FROM document").is_err(), "it had no search");
    }

    #[tokio::test]
    async fn a_file_of_version_one_is_brought_up_to_date_with_all_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sentinel.db");
        version_one(&path);
        for _ in 0..2 {
            let database = Database::open(&path, Arc::new(SystemClock)).unwrap();
            let item = database.table().get(&Key::new("pk", "sk")).await.unwrap().unwrap();
            assert_eq!((item.version, item.body["n"].as_i64()), (3, Some(1)));
            let listing = Query::listing(sentinel_state::Index::One, "ALL", 10);
            assert_eq!(database.table().query(listing).await.unwrap().items, [item]);
            assert_eq!(database.queue().depth(Stage::Detect).await.unwrap().ready, 1);
            assert_eq!(database.search().count(DocumentKind::Event).await.unwrap(), 0);
            let query = SearchQuery { words: "x".into(), limit: 1, ..SearchQuery::default() };
            assert!(database.search().search(query).await.unwrap().documents.is_empty());
        }
        let database = Database::open(&path, Arc::new(SystemClock)).unwrap();
        assert_eq!(database.timer().fire_due().await.unwrap(), 1);
        let connection = Connection::open(&path).unwrap();
        let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, STEPS.len());
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, "old", 1).unwrap();
        connection.execute_batch("CREATE TABLE document_words (in_the_way)").unwrap();
        assert!(migrate(&mut connection, "old").is_err());
        let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(connection.prepare("SELECT * FROM document").is_err());
        connection.execute_batch("DROP TABLE document_words").unwrap();
        migrate(&mut connection, "old").unwrap();
    }
}
