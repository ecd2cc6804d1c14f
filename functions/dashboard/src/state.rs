//! What the routes work with: stores, ports, and facts about this deployment.

use std::sync::Arc;

use sentinel_durable::{Clock, Queue};
use sentinel_ingest::Ingest;
use sentinel_model::response::Mode;
use sentinel_respond::Respond;
use sentinel_search::SearchIndex;
use sentinel_state::{
    alerts::Alerts, backtests::Backtests, incidents::Incidents, responses::Responses, signing::SigningKeys,
    users::Users,
};

/// Facts about this deployment that health tells.
#[derive(Debug, Clone)]
pub struct Info {
    /// How far responses may go by themselves.
    pub mode: Mode,
    /// Whether the account that responses act on is a simulated one.
    pub simulated_account: bool,
}

/// Everything a request may need.
pub struct Dashboard {
    /// Users and tokens.
    pub users: Users,
    /// The keys that sign tokens.
    pub signing: Arc<dyn SigningKeys>,
    /// Alerts and their triage.
    pub alerts: Alerts,
    /// Incidents.
    pub incidents: Incidents,
    /// Responses and the kill switch.
    pub responses: Responses,
    /// Backtests.
    pub backtests: Backtests,
    /// Full-text search.
    pub search: Arc<dyn SearchIndex>,
    /// The queues, for health.
    pub queue: Arc<dyn Queue>,
    /// Takes posted logs.
    pub ingest: Arc<Ingest>,
    /// Decides about responses.
    pub respond: Arc<Respond>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Renders the metrics in Prometheus' text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Facts about this deployment.
    pub info: Info,
}
