//! Which objects a message tells of: S3's notifications in each of their wrappings, and our own messages that
//! continue an object where it was cut.
//!
//! S3 sends to SQS itself, to an SNS topic (whose messages come wrapped, or raw where the subscription says
//! so), or to EventBridge ("Amazon S3 Event Notifications" and "EventBridge event message structure", Amazon S3
//! User Guide); a trail can tell a topic of its files by itself ("Configuring Amazon SNS notifications for
//! CloudTrail"). In goes the body of a message, out come the log objects that it tells of; digests, Insights and
//! everything else that a trail's bucket holds are left out and counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::objects::Slice;

/// Wrappings inside each other that are undone.
const MAX_WRAPPINGS: usize = 3;

/// Why an object is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// A digest file, by which CloudTrail's files can be validated; it holds no records.
    Digest,
    /// An Insights file: it tells of unusual rates, not of calls.
    Insight,
    /// Another file than a log of CloudTrail.
    NoLog,
    /// Nothing was created: an object was removed, restored, tagged.
    NotCreated,
    /// The message that S3 sends when notifications are configured.
    Test,
}

impl Skipped {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Insight => "insight",
            Self::NoLog => "no_log",
            Self::NotCreated => "not_created",
            Self::Test => "test",
        }
    }
}

/// What a message tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Log objects to be read, in the message's order.
    pub objects: Vec<Slice>,
    /// What is not read, and how many of each.
    pub skipped: BTreeMap<Skipped, u64>,
}

/// Why a message is no notification. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// Not JSON, or not of the form that its kind has.
    #[error("not a notification: {0}")]
    Json(#[from] serde_json::Error),
    /// A JSON object of no kind that is known.
    #[error("not a notification of S3, SNS, EventBridge or CloudTrail")]
    Unknown,
    /// A key that is not URL-encoded UTF-8.
    #[error("the key {0:?} is not URL-encoded UTF-8")]
    Key(String),
    /// Wrapped too often.
    #[error("wrapped more than {MAX_WRAPPINGS} times")]
    TooDeep,
}

/// Any of the forms; which one is told by the members that are there.
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "continue")]
    continued: Option<Slice>,
    #[serde(rename = "Records")]
    records: Option<Vec<S3Record>>,
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    source: Option<String>,
    detail: Option<serde_json::Value>,
    #[serde(rename = "s3Bucket")]
    trail_bucket: Option<String>,
    #[serde(rename = "s3ObjectKey")]
    trail_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct S3Record {
    #[serde(rename = "eventName")]
    event_name: String,
    s3: S3Entity,
}

#[derive(Deserialize)]
struct S3Entity {
    bucket: S3Bucket,
    object: S3Object,
}

#[derive(Deserialize)]
struct S3Bucket {
    name: String,
}

#[derive(Deserialize)]
struct S3Object {
    key: String,
    size: Option<u64>,
    #[serde(alias = "eTag")]
    etag: Option<String>,
    #[serde(alias = "versionId", rename = "version-id")]
    version: Option<String>,
}

/// Reads the body of a message.
pub fn read(body: &str) -> Result<Notice, NoticeError> {
    let mut notice = Notice::default();
    unwrap(body, 0, &mut notice)?;
    Ok(notice)
}

/// The body of the message by which a slice is read later.
pub fn continuation(slice: &Slice) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Continue<'a> {
        #[serde(rename = "continue")]
        slice: &'a Slice,
    }
    serde_json::to_string(&Continue { slice })
}

fn unwrap(body: &str, depth: usize, notice: &mut Notice) -> Result<(), NoticeError> {
    if depth > MAX_WRAPPINGS {
        return Err(NoticeError::TooDeep);
    }
    let body: Body = serde_json::from_str(body)?;
    if let Some(slice) = body.continued {
        notice.objects.push(slice);
    } else if let Some(records) = body.records {
        for record in records {
            // Over SQS and SNS, keys are URL-encoded as in a form.
            let key = decode(&record.s3.object.key).ok_or_else(|| NoticeError::Key(record.s3.object.key.clone()))?;
            let created = record.event_name.trim_start_matches("s3:").starts_with("ObjectCreated:");
            notice.object(created, record.s3.bucket.name, key, record.s3.object);
        }
    } else if body.event.as_deref() == Some("s3:TestEvent") {
        notice.skip(Skipped::Test);
    } else if let (Some("Notification"), Some(message)) = (body.kind.as_deref(), &body.message) {
        unwrap(message, depth + 1, notice)?;
    } else if let (Some("aws.s3"), Some(kind), Some(detail)) = (body.source.as_deref(), body.detail_type, body.detail) {
        let entity: S3Entity = serde_json::from_value(detail)?;
        let key = entity.object.key.clone();
        notice.object(kind == "Object Created", entity.bucket.name, key, entity.object);
    } else if let (Some(bucket), Some(keys)) = (body.trail_bucket, body.trail_keys) {
        for key in keys {
            let object = S3Object { key: String::new(), size: None, etag: None, version: None };
            notice.object(true, bucket.clone(), key, object);
        }
    } else {
        return Err(NoticeError::Unknown);
    }
    Ok(())
}

impl Notice {
    fn object(&mut self, created: bool, bucket: String, key: String, object: S3Object) {
        if !created {
            return self.skip(Skipped::NotCreated);
        }
        if let Some(why) = not_a_log(&key) {
            return self.skip(why);
        }
        // Objects of a bucket that keeps no versions have an empty version, or the version `null`.
        let version = object.version.filter(|v| !v.is_empty() && v != "null");
        let etag = object.etag.map(|tag| tag.trim_matches('"').to_owned()).filter(|tag| !tag.is_empty());
        self.objects.push(Slice { bucket, key, version, etag, size: object.size, skip_records: 0 });
    }

    fn skip(&mut self, why: Skipped) {
        *self.skipped.entry(why).or_default() += 1;
    }
}

/// Why an object of a trail's bucket is no log of CloudTrail, by its key; `None` when it is one: a `.json.gz`
/// or `.json` below a folder `CloudTrail` (AWS CloudTrail User Guide, "Finding your CloudTrail log files").
pub fn not_a_log(key: &str) -> Option<Skipped> {
    let Some((folders, file)) = key.rsplit_once('/') else { return Some(Skipped::NoLog) };
    let below = |folder: &str| folders.split('/').any(|part| part == folder);
    if below("CloudTrail-Digest") {
        return Some(Skipped::Digest);
    }
    if below("CloudTrail-Insight") {
        return Some(Skipped::Insight);
    }
    let is_json = [".json.gz", ".json"].into_iter().any(|suffix| file.ends_with(suffix));
    if below("CloudTrail") && is_json { None } else { Some(Skipped::NoLog) }
}

/// Undoes the encoding of forms (WHATWG URL, "application/x-www-form-urlencoded parsing"); `None` when an escape
/// is broken or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests;
