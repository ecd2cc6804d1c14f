//! Makes the normalised event of a CloudTrail record: who did what, when, from where, to what, how it ended.
//!
//! In: a record as the reader found it, and how this copy came. Out: [`Event`]. Each fact can also be asked
//! for alone, for those who need few facts of many records.

mod fields;
mod principal;
mod sketch;
mod targets;

use std::borrow::Cow;

use sentinel_json::Kind;
use sentinel_model::{Action, Event, Network, Outcome, Provenance, RawRecord, SourceKind, Timestamp, time};

use crate::{Envelope, Record, head, head::Head, identity, lineage};

pub use fields::is_account;
pub(crate) use fields::{partition, text, text_at};
use principal::principal;
pub use sketch::{Met, Sketch, Sketcher};
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
pub fn check_account(head: &Head<'_>, envelope: &Envelope) -> Result<(), AccountMismatch> {
    let Some(record) = head::text(head.account) else { return Ok(()) };
    for sender in [&envelope.account, &envelope.key.account].into_iter().flatten() {
        if sender != record {
            return Err(AccountMismatch { record: record.to_owned(), sender: sender.clone() });
        }
    }
    Ok(())
}

/// The account in which the event happened: `recipientAccountId`, else the envelope's or the key's, else
/// that of the identity, else the log group's owner, else `unknown`. What is no account id counts as absent.
pub fn account<'a>(head: &Head<'a>, envelope: &'a Envelope) -> &'a str {
    account_of(head, &head.who(), envelope)
}

fn account_of<'a>(head: &Head<'a>, who: &head::Identity<'a>, envelope: &'a Envelope) -> &'a str {
    head::text(head.account)
        .filter(|a| is_account(a))
        .or_else(|| envelope.account.as_deref().filter(|a| is_account(a)))
        .or(envelope.key.account.as_deref())
        .or_else(|| head::text(who.account).filter(|a| is_account(a)))
        .or_else(|| envelope.owner.as_deref().filter(|a| is_account(a)))
        .unwrap_or(UNKNOWN)
}

/// `awsRegion`, else the envelope's or the key's Region.
pub fn region<'a>(head: &Head<'a>, envelope: &'a Envelope) -> Option<&'a str> {
    head::text(head.region).or(envelope.region.as_deref()).or(envelope.key.region.as_deref())
}

/// The event's time, and whether the record itself told it. Without a readable `eventTime` it is the
/// envelope's, the key's, the file's, and last that of arrival.
pub fn event_time(head: &Head<'_>, envelope: &Envelope, received_at: Timestamp) -> (Timestamp, bool) {
    let own = head.event_time.and_then(|t| match t.kind() {
        Kind::String => time::parse_event_time(t.as_str()?),
        Kind::Number => time::epoch(t.as_i64()?),
        _ => None,
    });
    match own {
        Some(t) => (t, true),
        None => (envelope.time.or(envelope.key.time).or(envelope.file_time).unwrap_or(received_at), false),
    }
}

/// How the event ended. A record without `errorCode` was carried out, but for sign-ins, which say so in
/// `responseElements` (AWS CloudTrail User Guide, "AWS Management Console sign-in events").
pub fn outcome(head: &Head<'_>) -> Outcome {
    match failure(head) {
        Some(code) => {
            Outcome::Failure { code: code.into_owned(), message: head::text(head.error_message).map(str::to_owned) }
        }
        None => Outcome::Success,
    }
}

/// The code of what failed; `None` when it was carried out.
fn failure<'a>(head: &Head<'a>) -> Option<Cow<'a, str>> {
    let code = head.error_code.filter(|c| !c.is_null());
    let code = code.map(|code| match code.as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(code.compact()),
    });
    if let Some(code) = code.filter(|c| !c.is_empty()) {
        return Some(code);
    }
    let sign_in = head::text(head.event_name).and_then(|name| text(head.response?, name));
    sign_in.filter(|answer| matches!(*answer, "Failure" | "Failed")).map(Cow::Borrowed)
}

/// Where the event came from.
pub fn network(head: &Head<'_>) -> Network {
    let source = head::text(head.source);
    let source_ip = source.and_then(|s| s.trim().parse().ok());
    Network {
        source_ip,
        source_host: source.filter(|_| source_ip.is_none()).map(str::to_owned),
        user_agent: head::text(head.user_agent).map(str::to_owned),
        vpc_endpoint: head::text(head.vpc_endpoint).map(str::to_owned),
    }
}

/// Makes the event of a record. `provenance` says how this copy came.
pub fn normalise(record: &Record<'_>, provenance: Provenance) -> Result<Event, NormaliseError> {
    let raw = RawRecord::new(record.text.to_owned())?;
    let id = identity::event_id(&record.head, record.value, record.text).into_owned();
    let mut event = outline(record, id, identity::content_hash(record.value), provenance, raw);
    event.targets = targets(record.value);
    event.lineage = lineage::edges(record.value, &event);
    Ok(event)
}

/// The event of a record without targets and lineage, from what is known of it already: its id, content hash
/// and text. For those who look at many records and need only who did what; `raw` may then be anything.
pub fn outline(record: &Record<'_>, id: String, content: u64, provenance: Provenance, raw: RawRecord) -> Event {
    let envelope = record.envelope;
    let head = record.head;
    let who = head.who();
    let (time, own_time) = event_time(&head, envelope, provenance.received_at);
    let account = account_of(&head, &who, envelope);
    let region = region(&head, envelope);
    Event {
        id,
        content,
        time,
        time_text: head.event_time.filter(|_| own_time).map(fields::as_text),
        source: SourceKind::CloudTrail,
        principal: principal(&head, &who, account, region),
        account: account.to_owned(),
        action: Action {
            service: head::text(head.event_source).unwrap_or(UNKNOWN).to_owned(),
            name: head.name().to_owned(),
            read_only: fields::boolean(head.read_only),
        },
        region: region.map(str::to_owned),
        access_key_id: head::text(who.access_key).map(str::to_owned),
        invoked_by: head::text(who.invoked_by).map(str::to_owned),
        targets: Vec::new(),
        network: network(&head),
        outcome: outcome(&head),
        lineage: Vec::new(),
        provenance: vec![provenance],
        raw,
    }
}

#[cfg(test)]
mod tests;
