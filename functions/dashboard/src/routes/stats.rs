//! Counts for the overview, over the newest alerts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use axum::{Json, extract::State};
use sentinel_model::{AlertState, Level};
use sentinel_search::{Coverage, DocumentKind};
use sentinel_state::alerts::ListAlerts;
use serde::Serialize;

use super::incidents::Names;
use crate::{Dashboard, error::ApiError};

/// Alerts, incidents and responses counted at the most, each; `truncated` says when there are more.
const COUNTED: usize = 5_000;
const PAGE: usize = 200;
const TOP: usize = 10;

#[derive(Serialize)]
struct TopPrincipal {
    principal: String,
    alerts: u64,
}

#[derive(Serialize)]
pub(super) struct Stats {
    alerts_by_level: BTreeMap<&'static str, u64>,
    alerts_by_state: BTreeMap<&'static str, u64>,
    incidents_open: u64,
    responses_by_state: BTreeMap<&'static str, u64>,
    top_principals: Vec<TopPrincipal>,
    /// Events that can be searched; `None` where there is no index of them.
    events_total: Option<u64>,
    truncated: bool,
}

fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::New => "new",
        AlertState::Acknowledged => "acknowledged",
        AlertState::Closed => "closed",
    }
}

pub(super) async fn stats(State(app): State<Arc<Dashboard>>) -> Result<Json<Stats>, ApiError> {
    let mut stats = Stats {
        alerts_by_level: Level::ALL.iter().map(|l| (l.as_str(), 0)).collect(),
        alerts_by_state: ["new", "acknowledged", "closed"].into_iter().map(|s| (s, 0)).collect(),
        incidents_open: 0,
        responses_by_state: BTreeMap::new(),
        top_principals: Vec::new(),
        events_total: match app.search.coverage() {
            Coverage::Full => Some(app.search.count(DocumentKind::Event).await?),
            Coverage::KeysOnly(_) => None,
        },
        truncated: false,
    };
    let mut principals: HashMap<String, u64> = HashMap::new();
    let mut open: HashSet<String> = HashSet::new();
    let mut names = Names::default();
    let (mut cursor, mut seen) = (None, 0);
    loop {
        let (page, next) = app.alerts.list(&ListAlerts { limit: PAGE, cursor, ..ListAlerts::default() }).await?;
        for (stored, triage) in page {
            seen += 1;
            *stats.alerts_by_level.entry(stored.alert.level.as_str()).or_default() += 1;
            *stats.alerts_by_state.entry(state_name(triage.state)).or_default() += 1;
            if stored.alert.level > Level::Informational {
                *principals.entry(stored.alert.principal.id).or_default() += 1;
            }
            if let (Some(id), true) = (stored.incident_id, triage.state != AlertState::Closed) {
                open.insert(names.now(&app, id).await?);
            }
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
        if seen >= COUNTED {
            stats.truncated = true;
            break;
        }
    }
    stats.incidents_open = open.len() as u64;
    let (responses, more) = super::responses::newest(&app, COUNTED).await?;
    stats.truncated |= more;
    for response in responses {
        *stats.responses_by_state.entry(response.state.as_str()).or_default() += 1;
    }
    let mut top: Vec<_> =
        principals.into_iter().map(|(principal, alerts)| TopPrincipal { principal, alerts }).collect();
    top.sort_by(|a, b| b.alerts.cmp(&a.alerts).then_with(|| a.principal.cmp(&b.principal)));
    top.truncate(TOP);
    stats.top_principals = top;
    Ok(Json(stats))
}
