//! Backtests: what is to be replayed, how far it has come, and what came out.
//!
//! In: a person's request, from the API; a runner's progress and result. Out: the same for the API, and the requests that
//! are still to be done for the runner. Every change is conditional on the version that was read, so a runner that was
//! overtaken by a cancellation, or by another runner, notices.
//!
//! Keys: `BACKTEST#ID` / `BACKTEST` (listed in [`Index::One`] under `BACKTESTS` by time), / `RULES` (the texts of the rules
//! to try), / `RESULT`; `OPEN-BACKTESTS` / time and id, while there is something left to do. All expire.

use std::sync::Arc;

use sentinel_model::{Timestamp, time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Condition, Index, IndexKey, Key, Put, Query, Table, TableError, Write, sort_time};

/// Days that a backtest and its result are kept.
pub const KEPT_DAYS: i64 = 30;
/// Backtests that may be open at once.
pub const MOST_OPEN: usize = 10;
/// Most bytes of all texts of rules of one backtest.
pub const RULE_BYTES: usize = 256 * 1024;
/// Most texts of rules of one backtest.
pub const RULE_FILES: usize = 200;
/// Most bytes of a result as JSON.
pub const RESULT_BYTES: usize = 360 * 1024;

const LISTING: &str = "BACKTESTS";
const OPEN: &str = "OPEN-BACKTESTS";
/// Tries of a change that somebody else was faster with.
const TRIES: usize = 20;

/// How far a backtest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BacktestState {
    /// It waits.
    Queued,
    /// It is being done.
    Running,
    /// The result is there.
    Done,
    /// It could not be done; the error says why.
    Failed,
    /// Somebody asked to leave it.
    Cancelled,
}

impl BacktestState {
    /// Whether there is something left to do.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// What the rules are compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The rules in force here.
    #[default]
    InForce,
    /// The rules that are part of the product.
    Shipped,
}

/// How far a backtest has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Days of accounts read.
    pub days_done: u64,
    /// Days of accounts that are to be read.
    pub days_total: u64,
    /// Events replayed.
    pub events: u64,
}

/// A backtest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backtest {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub state: BacktestState,
    /// First instant of the history replayed.
    pub from: Timestamp,
    /// Last instant of the history replayed.
    pub to: Timestamp,
    /// Accounts whose history is replayed; all when empty.
    pub accounts: Vec<String>,
    /// What the rules are compared with.
    pub baseline: Baseline,
    /// Whether the rules come on top of the baseline, instead of in its place.
    pub on_top: bool,
    /// Names of the texts of the rules.
    pub files: Vec<String>,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub requested_at: Timestamp,
    /// When it was last begun.
    pub started_at: Option<Timestamp>,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// How far it has come.
    pub progress: Progress,
    /// How often it was begun.
    pub attempts: u32,
    /// Why it failed.
    pub error: Option<String>,
}

impl Backtest {
    fn key(&self) -> Key {
        key(&self.id)
    }

    fn place(&self) -> String {
        format!("{}#{}", sort_time(self.requested_at), self.id)
    }

    fn mark(&self) -> Key {
        Key::new(OPEN, self.place())
    }

    fn expires(&self) -> Timestamp {
        time::plus_seconds(self.requested_at, KEPT_DAYS * 86_400)
    }

    fn put(&self, condition: Condition) -> Result<Write, TableError> {
        let put = Put::new(self.key(), self)?.listed(Index::One, IndexKey::new(LISTING, self.place()));
        Ok(Write::Put(put.expiring(Some(self.expires())).when(condition)))
    }
}

fn key(id: &str) -> Key {
    Key::new(format!("BACKTEST#{id}"), "BACKTEST")
}

fn part(id: &str, name: &str) -> Key {
    Key::new(format!("BACKTEST#{id}"), name)
}

/// A backtest and the version it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBacktest {
    /// The backtest.
    pub backtest: Backtest,
    /// What a change of it must still find.
    pub version: u64,
}

/// One text of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    /// What messages call it.
    pub name: String,
    /// YAML.
    pub text: String,
}

#[derive(Serialize, Deserialize)]
struct Texts {
    files: Vec<RuleText>,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    id: String,
}

/// What asking for a cancellation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled.
    Done(Box<StoredBacktest>),
    /// It had come to its end before.
    Ended(BacktestState),
}

/// The store of backtests.
#[derive(Clone)]
pub struct Backtests {
    table: Arc<dyn Table>,
}

impl Backtests {
    /// A store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The table, for leases.
    pub fn table(&self) -> &dyn Table {
        self.table.as_ref()
    }

    /// Adds one that waits, with the texts of its rules. `false`, and nothing is added, when [`MOST_OPEN`] are open.
    pub async fn add(&self, backtest: &Backtest, files: Vec<RuleText>) -> Result<bool, TableError> {
        if self.open(MOST_OPEN).await?.len() >= MOST_OPEN {
            return Ok(false);
        }
        let expires = Some(backtest.expires());
        let rules = Put::new(part(&backtest.id, "RULES"), &Texts { files })?.expiring(expires);
        let mark = Put::new(backtest.mark(), &Mark { id: backtest.id.clone() })?.expiring(expires);
        let writes = vec![backtest.put(Condition::Absent)?, Write::Put(rules), Write::Put(mark)];
        self.table.write(writes).await.map(|()| true)
    }

    /// One by its id.
    pub async fn find(&self, id: &str) -> Result<Option<StoredBacktest>, TableError> {
        let Some(item) = self.table.get(&key(id)).await? else { return Ok(None) };
        Ok(Some(StoredBacktest { backtest: item.decode()?, version: item.version }))
    }

    /// The texts of one's rules.
    pub async fn rules(&self, id: &str) -> Result<Vec<RuleText>, TableError> {
        let Some(item) = self.table.get(&part(id, "RULES")).await? else { return Ok(Vec::new()) };
        Ok(item.decode::<Texts>()?.files)
    }

    /// The result of one that is done.
    pub async fn result(&self, id: &str) -> Result<Option<Value>, TableError> {
        Ok(self.table.get(&part(id, "RESULT")).await?.map(|item| item.body))
    }

    /// A page of all, newest first, and the cursor of the next one.
    pub async fn list(
        &self,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<(Vec<Backtest>, Option<String>), TableError> {
        let page = self.table.query(Query::listing(Index::One, LISTING, limit).after(cursor)).await?;
        let all = page.items.iter().map(crate::Item::decode).collect::<Result<_, _>>()?;
        Ok((all, page.next))
    }

    /// Ids of those with something left to do, the first asked for first, up to `limit`.
    pub async fn open(&self, limit: usize) -> Result<Vec<String>, TableError> {
        let page = self.table.query(Query::partition(OPEN, limit)).await?;
        page.items.iter().map(|item| Ok(item.decode::<Mark>()?.id)).collect()
    }

    /// Changes one; the condition of the version that was read fails when somebody else was faster.
    pub async fn update(&self, read: &StoredBacktest, to: Backtest) -> Result<StoredBacktest, TableError> {
        self.write(read, to, None).await
    }

    /// Changes one to its end, with its result if it has one.
    pub async fn finish(
        &self,
        read: &StoredBacktest,
        to: Backtest,
        result: Option<&Value>,
    ) -> Result<StoredBacktest, TableError> {
        self.write(read, to, result).await
    }

    async fn write(
        &self,
        read: &StoredBacktest,
        to: Backtest,
        result: Option<&Value>,
    ) -> Result<StoredBacktest, TableError> {
        let mut writes = vec![to.put(Condition::Version(read.version))?];
        if !to.state.is_open() {
            writes.push(Write::Delete(to.mark(), Condition::None));
        }
        if let Some(result) = result {
            writes.push(Write::Put(Put::new(part(&to.id, "RESULT"), result)?.expiring(Some(to.expires()))));
        }
        self.table.write(writes).await?;
        Ok(StoredBacktest { backtest: to, version: read.version + 1 })
    }

    /// Takes the mark of one that is not to be found any more, or is at its end.
    pub async fn forget_mark(&self, id: &str) -> Result<(), TableError> {
        let page = self.table.query(Query::partition(OPEN, MOST_OPEN * 10)).await?;
        for item in page.items {
            if item.decode::<Mark>()?.id == id {
                self.table.write(vec![Write::Delete(item.key, Condition::None)]).await?;
            }
        }
        Ok(())
    }

    /// Cancels one; `None` when there is none of this id.
    pub async fn cancel(&self, id: &str, now: Timestamp) -> Result<Option<Cancelled>, TableError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(stored) = self.find(id).await? else { return Ok(None) };
            if !stored.backtest.state.is_open() {
                return Ok(Some(Cancelled::Ended(stored.backtest.state)));
            }
            let to = Backtest { state: BacktestState::Cancelled, finished_at: Some(now), ..stored.backtest.clone() };
            match self.update(&stored, to).await {
                Ok(cancelled) => return Ok(Some(Cancelled::Done(Box::new(cancelled)))),
                // Its runner told of its progress at the same moment.
                Err(e) if e.is_condition() && tries < TRIES => {}
                Err(e) => return Err(e),
            }
        }
    }
}
