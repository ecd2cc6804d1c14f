//! The archive port over S3: `PREFIX{account}/{day}/{hash}.ndjson.gz`, objects as [`sentinel_archive::object`]
//! makes them, so that an archive of files can be copied into a bucket as it is.
//!
//! In go batches of events, one object for each account and day; out come the events of a day. An object is
//! put on the condition that there is none of its name, so a batch that comes again changes nothing and costs
//! no further request. On AWS the bucket's lifecycle forgets old days; [`Archive::forget_before`] is for
//! buckets without one.

use std::collections::VecDeque;

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{Delete, ObjectIdentifier},
};
use aws_smithy_types::body::SdkBody;
use sentinel_archive::{
    Archive, ArchiveError, Day,
    object::{DayReader, Object, SUFFIX, check_account, check_day, day_of, objects},
};
use sentinel_model::{Event, Timestamp};
use tokio::task::JoinHandle;

use crate::sdk::CallError;

/// What [`Archive::put`] calls.
pub const WRITE: &[&str] = &["s3:PutObject"];
/// What [`Archive::read`], [`Archive::days`] and [`Archive::accounts`] call.
pub const READ: &[&str] = &["s3:GetObject", "s3:ListBucket"];
/// What [`Archive::forget_before`] calls.
pub const FORGET: &[&str] = &["s3:DeleteObject", "s3:ListBucket"];

const LIST: &str = "s3:ListBucket";
/// Most requests under way at once for one batch or day.
const AT_ONCE: usize = 8;
/// Most objects of one `DeleteObjects` (S3 API Reference).
const DELETE_BATCH: usize = 1000;
/// Tries of a put beside another of the same name, and of a read whose body is cut off.
const TRIES: u32 = 3;

/// An archive in a bucket.
#[derive(Debug, Clone)]
pub struct S3Archive {
    client: Client,
    bucket: String,
    prefix: String,
}

impl S3Archive {
    /// An archive in this bucket, under a prefix that is empty or ends with `/`, as `archive/`.
    pub fn new(client: Client, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into(), prefix: prefix.into() }
    }

    async fn write(self, object: Object) -> Result<(), ArchiveError> {
        let key = format!("{}{}/{}/{}", self.prefix, object.account, object.day, object.name);
        let bytes = SdkBody::from(object.bytes);
        // What is in memory can be sent again.
        let mut attempt = 0;
        while let Some(body) = bytes.try_clone() {
            attempt += 1;
            let call = self.client.put_object().bucket(&self.bucket).key(&key).body(ByteStream::new(body));
            // Not `content_encoding`: clients would decompress what is stored compressed on purpose.
            let put = call.content_type("application/gzip").if_none_match("*").send().await;
            match put.map_err(|e| CallError::new(WRITE[0], &e)) {
                Err(e) if e.status == Some(412) => return Ok(()),
                // Another put of this name is under way: it may yet fail.
                Err(e) if e.status == Some(409) && attempt < TRIES => {}
                done => return done.map(drop).map_err(store),
            }
        }
        Err(store(CallError::answer(WRITE[0], None, "the object could not be read again")))
    }

    /// Names directly under a prefix, each without it: of folders when `folders`, else of objects.
    async fn names(&self, prefix: &str, folders: bool) -> Result<Vec<String>, ArchiveError> {
        let mut names = Vec::new();
        let mut next = None;
        loop {
            let call = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).delimiter("/");
            let page = call.set_continuation_token(next).send().await;
            let page = page.map_err(|e| store(CallError::new(LIST, &e)))?;
            let found: Vec<&str> = if folders {
                page.common_prefixes().iter().filter_map(|p| p.prefix()?.strip_suffix('/')).collect()
            } else {
                page.contents().iter().filter_map(|o| o.key()).collect()
            };
            names.extend(found.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned));
            next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() {
                names.sort_unstable();
                return Ok(names);
            }
        }
    }

    /// An object's bytes, or why they cannot be read. An error when S3 does not answer.
    async fn object(self, key: String) -> Result<Result<Vec<u8>, String>, CallError> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let answer = self.client.get_object().bucket(&self.bucket).key(&key).send().await;
            match answer.map_err(|e| CallError::new(READ[0], &e)) {
                Ok(answer) => match answer.body.collect().await {
                    Ok(bytes) => return Ok(Ok(bytes.to_vec())),
                    Err(e) => last = format!("cut off: {e}"),
                },
                // Gone since the listing, under a key that may not be used, or damaged: so it is each time.
                Err(e) if e.status.is_some_and(|s| (400..500).contains(&s) && s != 429) => {
                    return Ok(Err(e.to_string()));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Err(last))
    }

    async fn delete(&self, keys: &[String]) -> Result<(), ArchiveError> {
        for keys in keys.chunks(DELETE_BATCH) {
            let named = |key: &String| ObjectIdentifier::builder().key(key).build().map_err(store);
            let objects = keys.iter().map(named).collect::<Result<Vec<_>, _>>()?;
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(store)?;
            let answer = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await;
            let answer = answer.map_err(|e| store(CallError::new(FORGET[0], &e)))?;
            if let Some(first) = answer.errors().first() {
                let (key, why) = (first.key().unwrap_or_default(), first.message().unwrap_or_default());
                let detail = format!("{} objects stay, as {key}: {why}", answer.errors().len());
                return Err(store(CallError::answer(FORGET[0], first.code().map(str::to_owned), detail)));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Archive for S3Archive {
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError> {
        let mut waiting = VecDeque::new();
        for object in objects(events)? {
            if waiting.len() == AT_ONCE {
                ended(waiting.pop_front()).await??;
            }
            waiting.push_back(tokio::spawn(self.clone().write(object)));
        }
        while !waiting.is_empty() {
            ended(waiting.pop_front()).await??;
        }
        Ok(())
    }

    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        check_account(account)?;
        let mut days = self.names(&format!("{}{account}/", self.prefix), true).await?;
        days.retain(|day| check_day(day).is_ok());
        Ok(days)
    }

    async fn accounts(&self) -> Result<Vec<String>, ArchiveError> {
        let mut accounts = self.names(&self.prefix, true).await?;
        accounts.retain(|account| check_account(account).is_ok());
        Ok(accounts)
    }

    async fn read(&self, account: &str, day: &str) -> Result<Day, ArchiveError> {
        check_account(account)?;
        check_day(day)?;
        let folder = format!("{}{account}/{day}/", self.prefix);
        let mut names = VecDeque::from(self.names(&folder, false).await?);
        names.retain(|name| name.ends_with(SUFFIX));
        let mut waiting = VecDeque::new();
        let mut reader = DayReader::default();
        loop {
            while waiting.len() < AT_ONCE
                && let Some(name) = names.pop_front()
            {
                let object = tokio::spawn(self.clone().object(format!("{folder}{name}")));
                waiting.push_back((format!("{account}/{day}/{name}"), object));
            }
            let Some((name, object)) = waiting.pop_front() else { return Ok(reader.finish()) };
            match ended(Some(object)).await?.map_err(store)? {
                Ok(bytes) => reader = added(reader, name, bytes).await?,
                Err(reason) => reader.problem(&name, reason),
            }
        }
    }

    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError> {
        let first_kept = day_of(time);
        let mut gone = 0;
        for account in self.accounts().await? {
            for day in self.days(&account).await?.into_iter().take_while(|day| *day < first_kept) {
                let folder = format!("{}{account}/{day}/", self.prefix);
                let names = self.names(&folder, false).await?;
                let keys: Vec<String> = names.iter().map(|name| format!("{folder}{name}")).collect();
                self.delete(&keys).await?;
                gone += 1;
            }
        }
        Ok(gone)
    }
}

/// Reads an object's events where it does not hold up the runtime.
async fn added(mut reader: DayReader, name: String, bytes: Vec<u8>) -> Result<DayReader, ArchiveError> {
    let work = tokio::task::spawn_blocking(move || {
        reader.add(&name, &*bytes);
        reader
    });
    work.await.map_err(store)
}

/// What a task returned. It fails when the task panicked or the runtime ends.
async fn ended<T>(task: Option<JoinHandle<T>>) -> Result<T, ArchiveError> {
    let Some(task) = task else { return Err(store(std::io::Error::other("no task is left"))) };
    task.await.map_err(store)
}

fn store(e: impl std::error::Error + Send + Sync + 'static) -> ArchiveError {
    ArchiveError::Store(Box::new(e))
}

#[cfg(test)]
mod tests;
