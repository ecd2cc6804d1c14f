//! Threat intelligence behind a port: what is said of addresses, keys, agents and principals.
//!
//! In: the indicators of an alert. Out: what sources say of them. A source that fails never loses an alert:
//! the alert goes on with factor 1.0 and says that the lookup failed. The built-in source is a local list
//! of indicators ([`crate::indicator_list`]).

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use sentinel_model::{Alert, Detection, Member, Principal, Timestamp, alert::IntelFinding};

/// Most findings kept of one alert, the worst first.
pub const FINDING_CAP: usize = 20;

/// Something that a source may know about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Indicator {
    /// An IP address as text.
    Address(String),
    /// An access key id.
    Key(String),
    /// A user agent.
    Agent(String),
    /// A principal as text.
    Principal(String),
}

impl Indicator {
    /// Its kind in words.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Key(_) => "access key",
            Self::Agent(_) => "user agent",
            Self::Principal(_) => "principal",
        }
    }

    /// Its value as seen.
    pub fn value(&self) -> &str {
        match self {
            Self::Address(v) | Self::Key(v) | Self::Agent(v) | Self::Principal(v) => v,
        }
    }
}

/// What can go wrong with a source of intelligence.
///
/// Policy: an alert is never lost or held back for it; it is counted and said in the alert's reasons.
#[derive(Debug, thiserror::Error)]
#[error("threat intelligence {source_name} failed: {reason}")]
pub struct IntelError {
    /// Which source.
    pub source_name: String,
    /// What happened.
    pub reason: String,
}

/// A source of threat intelligence.
#[async_trait]
pub trait Intelligence: Send + Sync {
    /// What it says of these indicators as of `at` (the start of the alert's window, so that the answer does
    /// not depend on when the alert is handled). Indicators it knows nothing of are left out.
    async fn lookup(&self, indicators: &[Indicator], at: Timestamp) -> Result<Vec<IntelFinding>, IntelError>;
}

/// Several sources as one: what any of them says counts. When one fails the whole lookup fails, for what it
/// would have said is missing; what the others said is kept by [`lookup_all`].
#[derive(Clone, Default)]
pub struct Sources(pub Vec<Arc<dyn Intelligence>>);

/// Asks every source; returns what those that answered say, and the failures.
pub async fn lookup_all(
    sources: &Sources,
    indicators: &[Indicator],
    at: Timestamp,
) -> (Vec<IntelFinding>, Vec<IntelError>) {
    let (mut findings, mut failures) = (Vec::new(), Vec::new());
    if indicators.is_empty() {
        return (findings, failures);
    }
    for source in &sources.0 {
        match source.lookup(indicators, at).await {
            Ok(said) => findings.extend(said),
            Err(e) => failures.push(e),
        }
    }
    (findings, failures)
}

/// The indicators of an alert as it stands and of what a batch adds to it, each once.
pub fn indicators_of(alert: Option<&Alert>, detection: &Detection) -> Vec<Indicator> {
    let mut all = BTreeSet::new();
    if let Some(alert) = alert {
        all.extend(alert.indicators.addresses.iter().cloned().map(Indicator::Address));
        all.extend(alert.indicators.keys.iter().cloned().map(Indicator::Key));
        all.extend(alert.indicators.agents.iter().cloned().map(Indicator::Agent));
    }
    all.extend(indicators_in(&detection.principal, &detection.members));
    all.into_iter().collect()
}

/// The indicators in members of one principal.
pub(crate) fn indicators_in(principal: &Principal, members: &[Member]) -> BTreeSet<Indicator> {
    let mut all = BTreeSet::new();
    for member in members {
        all.extend(member.source_ip.clone().map(Indicator::Address));
        all.extend(member.access_key_id.clone().map(Indicator::Key));
        all.extend(member.user_agent.clone().map(Indicator::Agent));
    }
    if principal.identifies_someone() {
        all.insert(Indicator::Principal(principal.id.clone()));
    }
    all
}
