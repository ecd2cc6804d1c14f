//! The file itself: who may read it, what it survives, several handles on it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use sentinel_durable::{Outgoing, Stage, SystemClock};
use sentinel_embedded::{Database, DatabaseError};
use sentinel_model::{Timestamp, time::plus_seconds};
use sentinel_search::{Document, DocumentKind, SearchQuery};
use sentinel_state::{Condition, Key, Put, Query, TableError, Write};
use serde_json::json;

fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock)
}

fn put(sk: &str) -> Put {
    Put::new(Key::new("pk", sk), &json!({ "sk": sk })).unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/deep/sentinel.db");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let database = Database::open(&path, clock()).unwrap();
    database.table().write(vec![Write::Put(put("a"))]).await.unwrap();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(database);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let database = Database::open(&path, clock()).unwrap();
    assert_eq!(mode(&path), 0o600, "a file that others could read is closed to them");
    assert!(database.table().get(&Key::new("pk", "a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentinel.db");
    drop(Database::open(&path, clock()).unwrap());
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 999").unwrap();
    let error = Database::open(&path, clock()).unwrap_err();
    assert!(matches!(error, DatabaseError::Newer { found: 999, .. }), "{error}");
    assert!(error.to_string().contains("schema version 999") && error.to_string().contains("sentinel.db"), "{error}");
    let version: i64 =
        rusqlite::Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 999);
}

#[tokio::test]
async fn another_programs_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(matches!(Database::open(&path, clock()), Err(DatabaseError::NotOurs { .. })));
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a database, but longer than a page header of one hundred bytes: ".repeat(20)).unwrap();
    assert!(matches!(Database::open(&text, clock()), Err(DatabaseError::Sqlite(_))));
    let tables: Vec<String> = rusqlite::Connection::open(&path)
        .unwrap()
        .prepare("SELECT name FROM sqlite_schema")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(tables, ["theirs"]);
}

#[tokio::test]
async fn an_unusable_place_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Database::open(&folder.path().join("file/sentinel.db"), clock()).unwrap_err();
    assert!(error.to_string().contains("file/sentinel.db"), "{error}");
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_file_without_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentinel.db");
    let database = Database::open(&path, clock()).unwrap();
    database.table().write(vec![Write::Put(put("a"))]).await.unwrap();
    database.queue().send(Stage::Detect, vec![Outgoing::now("m".into())]).await.unwrap();
    // What a crash would leave: the files as they are while the database is open.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["sentinel.db", "sentinel.db-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let found = Database::open(&crashed.path().join("sentinel.db"), clock()).unwrap();
    assert!(found.table().get(&Key::new("pk", "a")).await.unwrap().is_some());
    assert_eq!(found.queue().receive(Stage::Detect, 10, 60).await.unwrap()[0].body, "m");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_handles_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentinel.db");
    // Opened at the same moment, while the file is new: as several processes would.
    let opened: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Database::open(&path, clock()).unwrap())
        })
        .collect();
    let mut databases = Vec::new();
    for database in opened {
        databases.push(database.await.unwrap());
    }
    let tasks: Vec<_> = databases
        .iter()
        .enumerate()
        .map(|(n, database)| {
            let (table, queue) = (database.table(), database.queue());
            tokio::spawn(async move {
                for i in 0..25 {
                    table.write(vec![Write::Put(put(&format!("{n}-{i:02}")))]).await.unwrap();
                    queue.send(Stage::Detect, vec![Outgoing::now("m".into())]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for database in &databases {
        let page = database.table().query(Query::partition("pk", 1_000)).await.unwrap();
        assert_eq!(page.items.len(), 100, "each sees what the others wrote");
    }
    let mut ids = std::collections::HashSet::new();
    for round in 0.. {
        let some = databases[round % 4].queue().receive(Stage::Detect, 10, 600).await.unwrap();
        if some.is_empty() {
            break;
        }
        assert!(some.into_iter().all(|m| ids.insert(m.id)), "no message twice");
    }
    assert_eq!(ids.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_that_share_a_commit_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("sentinel.db"), clock()).unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let table = database.table();
            let condition = if i % 2 == 0 { Condition::Absent } else { Condition::Version(5) };
            let writes =
                vec![Write::Put(put(&format!("{i:03}"))), Write::Check(Key::new("other", i.to_string()), condition)];
            tokio::spawn(async move { (i, table.write(writes).await) })
        })
        .collect();
    for task in tasks {
        match task.await.unwrap() {
            (i, Ok(())) => assert_eq!(i % 2, 0),
            (i, Err(TableError::ConditionFailed(at))) => assert_eq!((i % 2, at), (1, vec![1])),
            (_, Err(e)) => panic!("{e}"),
        }
    }
    let page = database.table().query(Query::partition("pk", 1_000)).await.unwrap();
    let keys: Vec<usize> = page.items.iter().map(|item| item.key.sk.parse().unwrap()).collect();
    assert_eq!(keys, (0..200).step_by(2).collect::<Vec<_>>());
}

#[tokio::test]
async fn purging_removes_what_is_absent_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentinel.db");
    let start = Timestamp::from_second(1_704_067_200).unwrap();
    let clock = Arc::new(sentinel_durable::ManualClock::new(start));
    let database = Database::open(&path, clock.clone()).unwrap();
    let table = database.table();
    let short_lived = |i: usize| put(&i.to_string()).expiring((i > 0).then(|| plus_seconds(start, 10)));
    for from in (0..1_500).step_by(100) {
        table.write((from..from + 100).map(|i| Write::Put(short_lived(i))).collect()).await.unwrap();
    }
    database.queue().send(Stage::Enrich, vec![Outgoing::now("poison".into())]).await.unwrap();
    for _ in 0..6 {
        database.queue().receive(Stage::Enrich, 10, 1).await.unwrap();
        clock.advance(1);
    }
    assert_eq!(database.purge().await.unwrap(), 0);
    clock.advance(10);
    assert_eq!(database.purge().await.unwrap(), 1_499);
    assert_eq!(database.queue().depth(Stage::Enrich).await.unwrap().dead, 1, "to be looked at for two weeks");
    clock.advance(14 * 24 * 3600);
    assert_eq!(database.purge().await.unwrap(), 1);
    drop((table, database));
    let rows =
        |sql: &str| -> i64 { rusqlite::Connection::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(rows("SELECT count(*) FROM item"), 1);
    assert_eq!(rows("SELECT count(*) FROM message"), 0);
}

#[tokio::test]
async fn search_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentinel.db");
    let document = Document {
        kind: DocumentKind::Alert,
        id: "al-1".into(),
        time: Timestamp::from_second(1_704_067_200).unwrap(),
        account: "123456789012".into(),
        principal: "unknown".into(),
        text: "ConsoleLogin 203.0.113.7".into(),
        body: "{}".into(),
    };
    Database::open(&path, clock()).unwrap().search().index(vec![document.clone()]).await.unwrap();
    let query = SearchQuery { words: "203.0.113.7".into(), limit: 10, ..SearchQuery::default() };
    let found = Database::open(&path, clock()).unwrap().search().search(query).await.unwrap();
    assert_eq!(found.documents, [document]);
}
