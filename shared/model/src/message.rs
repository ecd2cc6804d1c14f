//! The messages that stages send each other.
//!
//! Each is one JSON object with a `correlation_id` that logs repeat from the event to the action.
//! Batches of events are compressed by the queue's codec, not here.

use serde::{Deserialize, Serialize};

use crate::{Detection, Event, Level, LineageEdge};

/// ingest -> detect: accepted events.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventBatch {
    /// Follows the batch through logs.
    pub correlation_id: String,
    /// The events, in order of arrival, each id and content once.
    pub events: Vec<Event>,
}

/// detect -> enrich: what a batch of events adds to alerts, and the lineage it shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DetectionBatch {
    /// Follows the batch through logs.
    pub correlation_id: String,
    /// One entry an alert.
    pub detections: Vec<Detection>,
    /// Lineage of all successful events of the batch.
    pub lineage: Vec<LineageEdge>,
}

/// enrich -> respond: an alert was raised or grew. Carries no content: respond reads the alert again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertRaised {
    /// Follows the batch through logs.
    pub correlation_id: String,
    /// The alert.
    pub alert_id: String,
    /// Its account.
    pub account: String,
    /// Its level when this was sent; each level is notified once.
    pub level: Level,
}
