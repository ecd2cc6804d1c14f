//! The normalised event: one typed envelope for every kind of log, with the raw record untouched.
//!
//! Rules look at the raw record under its own field names; the envelope is what the stages need to know
//! of any record: who did what, when, where from, to what, and with what outcome.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{LineageEdge, Principal, Provenance, Timestamp};

/// The kind of log that a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// An AWS CloudTrail record (management, data or network activity event).
    CloudTrail,
    /// A CloudTrail Insights event.
    CloudTrailInsight,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Service host name as CloudTrail writes it, e.g. `iam.amazonaws.com`.
    pub service: String,
    /// Operation as recorded, e.g. `UpdateFunctionCode20150331v2`.
    pub name: String,
    /// Whether the operation only reads, when the record says so.
    pub read_only: Option<bool>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was carried out.
    Success,
    /// It was refused or failed.
    Failure {
        /// CloudTrail's `errorCode`, e.g. `AccessDenied`.
        code: String,
        /// CloudTrail's `errorMessage`.
        message: Option<String>,
    },
}

impl Outcome {
    /// Whether it was carried out.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }
}

/// Where it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// `sourceIPAddress` when it is an IP address.
    pub source_ip: Option<std::net::IpAddr>,
    /// `sourceIPAddress` when it is something else: a service's host name, `AWS Internal`.
    pub source_host: Option<String>,
    /// `userAgent`.
    pub user_agent: Option<String>,
    /// `vpcEndpointId`.
    pub vpc_endpoint: Option<String>,
}

/// Something acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// ARN where the record gives one, else the name as the request gave it.
    pub id: String,
    /// CloudFormation-like type where the record gives one (`AWS::S3::Bucket`), else the parameter's name.
    pub kind: String,
    /// Owner account where the record gives one.
    pub account: Option<String>,
}

/// A record's JSON text, exactly as it came (white space between tokens may be lost in transit).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawRecord(pub Arc<RawValue>);

impl RawRecord {
    /// Takes JSON text; an error when it is not one JSON value.
    pub fn new(json: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(json).map(|v| Self(Arc::from(v)))
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The record parsed.
    pub fn parse(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

/// One normalised event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// The event's identity: `eventID`, or `sha256:` and the hash of the record with sorted keys.
    pub id: String,
    /// Hash of the record's JSON value: tells a duplicate from a conflict of one id.
    pub content: u64,
    /// Event time.
    pub time: Timestamp,
    /// The time as the record wrote it; `None` when it was taken from the envelope, the key or the file.
    pub time_text: Option<String>,
    /// Kind of log.
    pub source: SourceKind,
    /// The account the event happened in (12 digits), or `unknown`.
    pub account: String,
    /// `awsRegion`.
    pub region: Option<String>,
    /// What was done.
    pub action: Action,
    /// Who did it.
    pub principal: Principal,
    /// Access key id that signed the call.
    pub access_key_id: Option<String>,
    /// AWS service that made the call on the principal's behalf (`userIdentity.invokedBy`).
    pub invoked_by: Option<String>,
    /// What it was done to.
    pub targets: Vec<Target>,
    /// Where it came from.
    pub network: Network,
    /// How it ended.
    pub outcome: Outcome,
    /// Identities that this event made, changed or assumed (successful events only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<LineageEdge>,
    /// The copies seen, one a channel.
    pub provenance: Vec<Provenance>,
    /// The record untouched.
    pub raw: RawRecord,
}
