//! Holds the adapters to the suites of their ports: in memory, and in a file that is closed and opened.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sentinel_durable::{Clock, ManualClock, Queue, Timer};
use sentinel_embedded::Database;
use sentinel_model::Timestamp;
use sentinel_state::Table;

/// A database on a clock of its own; in a file when it has a folder.
struct Fixture {
    clock: Arc<ManualClock>,
    database: Mutex<Option<Database>>,
    folder: Option<tempfile::TempDir>,
}

impl Fixture {
    fn in_memory() -> Self {
        Self::new(None)
    }

    fn in_file() -> Self {
        Self::new(Some(tempfile::tempdir().unwrap()))
    }

    fn new(folder: Option<tempfile::TempDir>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_704_067_200).unwrap()));
        let fixture = Self { clock, database: Mutex::new(None), folder };
        let database = match fixture.path() {
            Some(path) => Database::open(&path, fixture.clock.clone()),
            None => Database::in_memory(fixture.clock.clone()),
        };
        *fixture.database.lock().unwrap() = Some(database.unwrap());
        fixture
    }

    fn path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|f| f.path().join("sentinel.db"))
    }

    fn database(&self) -> Database {
        self.database.lock().unwrap().clone().unwrap()
    }

    fn reopen(&self) {
        let Some(path) = self.path() else { return };
        let mut database = self.database.lock().unwrap();
        drop(database.take());
        *database = Some(Database::open(&path, self.clock.clone()).unwrap());
    }

    fn advance(&self, seconds: u32) {
        self.clock.advance(i64::from(seconds));
    }
}

#[async_trait]
impl sentinel_state::conformance::Setup for Fixture {
    fn table(&self) -> Arc<dyn Table> {
        self.database().table()
    }
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    async fn pass(&self, seconds: u32) {
        self.advance(seconds);
    }
    async fn restart(&self) {
        self.reopen();
    }
}

#[async_trait]
impl sentinel_durable::conformance::Setup for Fixture {
    fn queue(&self) -> Arc<dyn Queue> {
        self.database().queue()
    }
    fn timer(&self) -> Arc<dyn Timer> {
        self.database().timer()
    }
    fn table(&self) -> Arc<dyn Table> {
        self.database().table()
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }
    async fn pass(&self, seconds: u32) {
        self.advance(seconds);
    }
    async fn restart(&self) {
        self.reopen();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn table_in_memory() {
    sentinel_state::conformance::table(async || Fixture::in_memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn table_in_a_file() {
    sentinel_state::conformance::table(async || Fixture::in_file()).await;
}

macro_rules! durable_suites {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn in_memory() {
                sentinel_durable::conformance::$name::suite(&async || Fixture::in_memory()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn in_a_file() {
                sentinel_durable::conformance::$name::suite(&async || Fixture::in_file()).await;
            }
        }
    )*};
}

durable_suites!(queue timer lease outbox worker);

#[tokio::test]
async fn search_in_memory() {
    sentinel_search::conformance::suite(async || Fixture::in_memory().database().search()).await;
}

#[tokio::test]
async fn search_in_a_file() {
    let folders = Mutex::new(Vec::new());
    sentinel_search::conformance::suite(async || {
        let fixture = Fixture::in_file();
        let index = fixture.database().search();
        // The folder must outlive the index.
        folders.lock().unwrap().push(fixture);
        index
    })
    .await;
}

/// Signing keys in the table: every process sees the same item at once.
struct Keys(Fixture);

#[async_trait]
impl sentinel_state::conformance::signing::Setup for Keys {
    fn process(&self) -> Arc<dyn sentinel_state::signing::SigningKeys> {
        Arc::new(sentinel_state::signing::TableSigningKeys::new(self.0.database().table()))
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    async fn pass(&self, seconds: i64) {
        self.0.clock.advance(seconds);
    }
}

#[tokio::test]
async fn signing_keys_in_the_table_conform() {
    sentinel_state::conformance::signing::check(async || Keys(Fixture::in_memory())).await;
}
