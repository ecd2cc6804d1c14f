//! Where a copy of a record came from, and how far that can be trusted.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The way a copy of a record reached us.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "channel", rename_all = "snake_case")]
pub enum Channel {
    /// The account's own EventBridge bus.
    Bus {
        /// Name of the bus.
        bus: String,
        /// The envelope's account.
        account: String,
    },
    /// An object in a bucket.
    Object {
        /// Name of the bucket.
        bucket: String,
        /// The object's key.
        key: String,
        /// Whether configuration names the bucket as one that only CloudTrail can write.
        only_cloudtrail_writes: bool,
    },
    /// The account's own CloudTrail API (`LookupEvents`).
    CloudTrailApi {
        /// The account asked.
        account: String,
        /// The Region asked.
        region: String,
    },
    /// Our own `POST /api/v1/logs`.
    Api {
        /// The user or token that sent it.
        user: String,
    },
    /// A watched or scanned folder or file.
    Folder {
        /// The file's path as given.
        path: String,
    },
    /// The demonstration's simulated account.
    Simulated {
        /// The simulated account's id.
        account: String,
    },
}

impl Channel {
    /// Whether a copy by this channel proves that the account itself recorded the event, so that an
    /// automatic action may rest on it. A simulated account's copy counts only towards that simulated
    /// account, so the caller says whether the account behind the IAM port is a simulated one.
    pub fn is_accounts_own(&self, iam_is_simulated: bool) -> bool {
        match self {
            Self::Bus { .. } | Self::CloudTrailApi { .. } => true,
            Self::Object { only_cloudtrail_writes, .. } => *only_cloudtrail_writes,
            Self::Simulated { .. } => iam_is_simulated,
            Self::Api { .. } | Self::Folder { .. } => false,
        }
    }
}

/// One copy of a record: by which channel it came, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The channel; two copies by one channel are one provenance.
    #[serde(flatten)]
    pub channel: Channel,
    /// When this copy first reached ingest.
    pub received_at: Timestamp,
}

/// Adds copies to a set of provenances: one entry a channel, with its earliest arrival, sorted by channel.
pub fn merge(into: &mut Vec<Provenance>, from: impl IntoIterator<Item = Provenance>) {
    for copy in from {
        match into.binary_search_by(|p| p.channel.cmp(&copy.channel)) {
            Ok(i) => into[i].received_at = into[i].received_at.min(copy.received_at),
            Err(i) => into.insert(i, copy),
        }
    }
}

/// [`merge`], cloning only the copies that are new.
pub fn merge_from(into: &mut Vec<Provenance>, from: &[Provenance]) {
    for copy in from {
        match into.binary_search_by(|p| p.channel.cmp(&copy.channel)) {
            Ok(i) => into[i].received_at = into[i].received_at.min(copy.received_at),
            Err(i) => into.insert(i, copy.clone()),
        }
    }
}
