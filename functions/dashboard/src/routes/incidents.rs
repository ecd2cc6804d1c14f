//! Incidents: list and detail.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use axum::{Json, extract::State};
use sentinel_model::{Incident, Level};
use sentinel_state::{
    alerts::{StoredAlert, Triage},
    incidents::ListIncidents,
};
use serde::{Deserialize, Serialize};

use super::{
    Id, Items, Params,
    alerts::{JsonText, Row, json},
    request::page_size,
};
use crate::{Dashboard, error::ApiError};

/// Alerts shown with an incident, the first ones.
const SHOWN_ALERTS: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    level: Option<Level>,
    account: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    incident: &'a Incident,
    alerts: Vec<Row<'a>>,
    responses: Vec<super::responses::View>,
}

pub(super) async fn list(
    State(app): State<Arc<Dashboard>>,
    Params(p): Params<Wanted>,
) -> Result<Json<Items<Incident>>, ApiError> {
    let limit = page_size(p.limit)?;
    let wanted = ListIncidents { min_level: p.level, account: p.account, limit, cursor: p.cursor };
    let (found, next_cursor) = app.incidents.list(&wanted).await?;
    Ok(Json(Items::page(found.into_iter().map(|s| s.incident).collect(), next_cursor)))
}

pub(super) async fn show(State(app): State<Arc<Dashboard>>, Id(id): Id) -> Result<JsonText, ApiError> {
    let stored = app.incidents.find(&id).await?.ok_or_else(|| ApiError::NotFound(format!("incident {id}")))?;
    let all = stored.alerts();
    let accounts: HashMap<&str, &str> = all.iter().map(|(account, id)| (id.as_str(), account.as_str())).collect();
    let incident = &stored.incident;
    // In time order, as the incident lists them.
    let in_order =
        incident.alert_ids.iter().filter_map(|id| Some(((*accounts.get(id.as_str())?).to_owned(), id.clone())));
    let shown: Vec<_> = in_order.take(SHOWN_ALERTS).collect();
    let mut alerts = app.alerts.get_all(&shown).await?;
    name_as_now(&app, &mut alerts).await?;
    json(&Detail {
        incident,
        alerts: alerts.iter().map(|(a, t)| Row::new(a, t)).collect(),
        responses: super::responses::of_alerts(&app, &all).await?,
    })
}

/// Names of incidents as they are now: one that went into an older one goes by that one's name.
#[derive(Default)]
pub(super) struct Names(HashMap<String, String>);

impl Names {
    pub(super) async fn now(&mut self, app: &Dashboard, id: String) -> Result<String, ApiError> {
        match self.0.entry(id) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(new) => {
                let found = app.incidents.find(new.key()).await?;
                let name = found.map_or_else(|| new.key().clone(), |s| s.incident.incident_id);
                Ok(new.insert(name).clone())
            }
        }
    }
}

/// Gives the incidents of these alerts the names they have now.
pub(super) async fn name_as_now(app: &Dashboard, alerts: &mut [(StoredAlert, Triage)]) -> Result<(), ApiError> {
    let mut names = Names::default();
    for (stored, _) in alerts {
        if let Some(id) = stored.incident_id.take() {
            stored.incident_id = Some(names.now(app, id).await?);
        }
    }
    Ok(())
}
