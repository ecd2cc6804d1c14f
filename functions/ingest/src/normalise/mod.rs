//! Makes the normalised event of a CloudTrail record: who did what, when, from where, to what, how it ended.
//!
//! In: a record as the reader found it, and how this copy came. Out: [`Event`]. Each fact can also be asked
//! for alone, for those who need few facts of many records.

mod fields;
mod principal;
mod targets;

use std::{borrow::Cow, net::IpAddr};

use sentinel_model::{Action, Event, Network, Outcome, Principal, Provenance, RawRecord, SourceKind, Timestamp, time};
use sonic_rs::{JsonType, JsonValueTrait as _, Value};

use crate::{Envelope, Record, identity, lineage};

pub use fields::is_account;
pub(crate) use fields::{partition, path, text, text_at};
pub use principal::principal;
pub use targets::targets;

/// What stands for an account or service that nothing tells.
pub const UNKNOWN: &str = "unknown";

/// Why a record makes no event.
#[derive(Debug, thiserror::Error)]
pub enum NormaliseError {
    /// The record's text is not JSON for a strict parser.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// A record that came from an account that it does not name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record's recipientAccountId is {record}, but it came from account {sender}")]
pub struct AccountMismatch {
    /// `recipientAccountId`.
    pub record: String,
    /// The account in the envelope or key.
    pub sender: String,
}

/// Checks that the account in the EventBridge envelope, and that in the key, is the record's
/// `recipientAccountId`, where both are there. The owner of a CloudWatch Logs subscription is not compared.
pub fn check_account(value: &Value, envelope: &Envelope) -> Result<(), AccountMismatch> {
    let Some(record) = text(value, "recipientAccountId") else { return Ok(()) };
    for sender in [&envelope.account, &envelope.key.account].into_iter().flatten() {
        if sender != record {
            return Err(AccountMismatch { record: record.to_owned(), sender: sender.clone() });
        }
    }
    Ok(())
}

/// The account in which the event happened: `recipientAccountId`, else the envelope's or the key's, else
/// that of the identity, else the log group's owner, else `unknown`. What is no account id counts as absent.
pub fn account<'a>(value: &'a Value, envelope: &'a Envelope) -> &'a str {
    text(value, "recipientAccountId")
        .filter(|a| is_account(a))
        .or_else(|| envelope.account.as_deref().filter(|a| is_account(a)))
        .or(envelope.key.account.as_deref())
        .or_else(|| text_at(value, &["userIdentity", "accountId"]).filter(|a| is_account(a)))
        .or_else(|| envelope.owner.as_deref().filter(|a| is_account(a)))
        .unwrap_or(UNKNOWN)
}

/// `awsRegion`, else the envelope's or the key's Region.
pub fn region<'a>(value: &'a Value, envelope: &'a Envelope) -> Option<&'a str> {
    text(value, "awsRegion").or(envelope.region.as_deref()).or(envelope.key.region.as_deref())
}

/// The event's time, and whether the record itself told it. Without a readable `eventTime` it is the
/// envelope's, the key's, the file's, and last that of arrival.
pub fn event_time(value: &Value, envelope: &Envelope, received_at: Timestamp) -> (Timestamp, bool) {
    let own = value.get("eventTime").and_then(|t| match t.get_type() {
        JsonType::String => time::parse_event_time(t.as_str()?),
        JsonType::Number => time::epoch(t.as_i64()?),
        _ => None,
    });
    match own {
        Some(t) => (t, true),
        None => (envelope.time.or(envelope.key.time).or(envelope.file_time).unwrap_or(received_at), false),
    }
}

/// How the event ended. A record without `errorCode` was carried out, but for sign-ins, which say so in
/// `responseElements` (AWS CloudTrail User Guide, "AWS Management Console sign-in events").
pub fn outcome(value: &Value) -> Outcome {
    match failure(value) {
        Some(code) => {
            Outcome::Failure { code: code.into_owned(), message: text(value, "errorMessage").map(str::to_owned) }
        }
        None => Outcome::Success,
    }
}

/// The code of what failed; `None` when it was carried out.
fn failure(value: &Value) -> Option<Cow<'_, str>> {
    let code = value.get("errorCode").filter(|c| !c.is_null());
    let code = code.map(|code| match code.as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(sonic_rs::to_string(code).unwrap_or_default()),
    });
    if let Some(code) = code.filter(|c| !c.is_empty()) {
        return Some(code);
    }
    let sign_in = text(value, "eventName").and_then(|name| text_at(value, &["responseElements", name]));
    sign_in.filter(|answer| matches!(*answer, "Failure" | "Failed")).map(Cow::Borrowed)
}

/// Where the event came from.
pub fn network(value: &Value) -> Network {
    let source = text(value, "sourceIPAddress");
    let source_ip = source.and_then(|s| s.trim().parse().ok());
    Network {
        source_ip,
        source_host: source.filter(|_| source_ip.is_none()).map(str::to_owned),
        user_agent: text(value, "userAgent").map(str::to_owned),
        vpc_endpoint: text(value, "vpcEndpointId").map(str::to_owned),
    }
}

/// The access key that signed the call, where the record names one.
pub fn access_key(value: &Value) -> Option<&str> {
    text_at(value, &["userIdentity", "accessKeyId"])
}

/// Makes the event of a record. `provenance` says how this copy came.
pub fn normalise(record: &Record<'_>, provenance: Provenance) -> Result<Event, NormaliseError> {
    let raw = RawRecord::new(record.text.to_owned())?;
    let id = identity::event_id(&record.value, record.text).into_owned();
    let mut event = outline(record, id, identity::content_hash(&record.value), provenance, raw);
    event.targets = targets(&record.value);
    event.lineage = lineage::edges(&record.value, &event);
    Ok(event)
}

/// The event of a record without targets and lineage, from what is known of it already: its id, content hash
/// and text. For those who look at many records and need only who did what; `raw` may then be anything.
pub fn outline(record: &Record<'_>, id: String, content: u64, provenance: Provenance, raw: RawRecord) -> Event {
    let (value, envelope) = (&record.value, record.envelope);
    let (time, own_time) = event_time(value, envelope, provenance.received_at);
    let account = account(value, envelope).to_owned();
    let region = region(value, envelope).map(str::to_owned);
    Event {
        id,
        content,
        time,
        time_text: value.get("eventTime").filter(|_| own_time).map(fields::as_text),
        source: SourceKind::CloudTrail,
        principal: principal(value, &account, region.as_deref()),
        account,
        action: Action {
            service: text(value, "eventSource").unwrap_or(UNKNOWN).to_owned(),
            name: text(value, "eventName").unwrap_or_default().to_owned(),
            read_only: fields::boolean(value, "readOnly"),
        },
        region,
        access_key_id: access_key(value).map(str::to_owned),
        invoked_by: text_at(value, &["userIdentity", "invokedBy"]).map(str::to_owned),
        targets: Vec::new(),
        network: network(value),
        outcome: outcome(value),
        lineage: Vec::new(),
        provenance: vec![provenance],
        raw,
    }
}

/// What [`outline`] tells of a record, borrowed from it: for those who look at very many.
#[derive(Debug)]
pub struct Sketch<'a> {
    /// Event time.
    pub time: Timestamp,
    /// Who.
    pub principal: Principal,
    /// In which account.
    pub account: &'a str,
    /// Region.
    pub region: Option<&'a str>,
    /// Service host name.
    pub service: &'a str,
    /// Operation.
    pub action: &'a str,
    /// Whether it only reads, when the record says so.
    pub read_only: Option<bool>,
    /// Access key that signed the call.
    pub access_key: Option<&'a str>,
    /// The service through which it was done.
    pub invoked_by: Option<&'a str>,
    /// Source address or host as text.
    pub source: Option<Cow<'a, str>>,
    /// User agent.
    pub user_agent: Option<&'a str>,
    /// The error's code, if it failed.
    pub failure: Option<Cow<'a, str>>,
}

/// The sketch of a record. `received_at` is the event's time where nothing else tells one.
pub fn sketch<'a>(value: &'a Value, envelope: &'a Envelope, received_at: Timestamp) -> Sketch<'a> {
    let account = account(value, envelope);
    let region = region(value, envelope);
    let source = text(value, "sourceIPAddress");
    Sketch {
        time: event_time(value, envelope, received_at).0,
        principal: principal(value, account, region),
        account,
        region,
        service: text(value, "eventSource").unwrap_or(UNKNOWN),
        action: text(value, "eventName").unwrap_or_default(),
        read_only: fields::boolean(value, "readOnly"),
        access_key: access_key(value),
        invoked_by: text_at(value, &["userIdentity", "invokedBy"]),
        source: source.map(|text| match text.trim().parse::<IpAddr>() {
            // The usual spelling of an IPv4 address is the only one.
            Ok(IpAddr::V4(_)) if text.trim() == text => Cow::Borrowed(text),
            Ok(ip) => Cow::Owned(ip.to_string()),
            Err(_) => Cow::Borrowed(text),
        }),
        user_agent: text(value, "userAgent"),
        failure: failure(value),
    }
}

#[cfg(test)]
mod tests;
