//! Alerts: list, detail, and what analysts say of them.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderName, header},
};
use sentinel_model::{AlertState, EventRef, Level, Provenance, Timestamp, Verdict, alert::AlertView};
use sentinel_search::{DocumentKind, SearchQuery};
use sentinel_state::alerts::{ListAlerts, StoredAlert, Triage, TriageChange, TriageUpdate};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Body, Id, Items, Params, events, incidents, request::page_size};
use crate::{Dashboard, auth::Caller, error::ApiError};

/// Raw records shown with an alert.
const SHOWN_RECORDS: usize = 20;
/// Longest note in characters.
const NOTE_LENGTH: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    level: Option<Level>,
    state: Option<AlertState>,
    account: Option<String>,
    principal: Option<String>,
    rule: Option<String>,
    q: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// An alert as lists show it.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    alert: AlertView<'a>,
    state: AlertState,
    verdict: Option<Verdict>,
    incident_id: Option<&'a str>,
    version: u64,
}

impl<'a> Row<'a> {
    pub(super) fn new(stored: &'a StoredAlert, triage: &Triage) -> Self {
        Self {
            alert: stored.alert.to_view(),
            state: triage.state,
            verdict: triage.verdict,
            incident_id: stored.incident_id.as_deref(),
            version: triage.version,
        }
    }
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    note: Option<&'a str>,
    history: &'a [TriageChange],
    provenance: &'a [Provenance],
    responses: Vec<super::responses::View>,
    events: Vec<Box<RawValue>>,
    /// Why there may be no events to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<&'static str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three things here")]
pub(super) struct Change {
    state: Option<AlertState>,
    /// Absent: as it is; null: none.
    #[serde(default, deserialize_with = "present")]
    verdict: Option<Option<Verdict>>,
    #[serde(default, deserialize_with = "present")]
    note: Option<Option<String>>,
    version: u64,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

pub(super) type JsonText = ([(HeaderName, &'static str); 1], Vec<u8>);

/// Rows borrow from what was read, so they are written to text here.
pub(super) fn json<T: Serialize>(value: &T) -> Result<JsonText, ApiError> {
    let text = serde_json::to_vec(value).map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text))
}

pub(super) async fn list(State(app): State<Arc<Dashboard>>, Params(p): Params<Wanted>) -> Result<JsonText, ApiError> {
    let limit = page_size(p.limit)?;
    if let Some(words) = p.q.clone().filter(|q| !q.trim().is_empty()) {
        return search(&app, p, words, limit).await;
    }
    let wanted = ListAlerts {
        min_level: p.level,
        state: p.state,
        account: p.account,
        principal: p.principal,
        rule: p.rule,
        from: p.from,
        to: p.to,
        limit,
        cursor: p.cursor,
    };
    let (mut found, next_cursor) = app.alerts.list(&wanted).await?;
    incidents::name_as_now(&app, &mut found).await?;
    json(&Items::page(rows(&found), next_cursor))
}

fn rows(found: &[(StoredAlert, Triage)]) -> Vec<Row<'_>> {
    found.iter().map(|(stored, triage)| Row::new(stored, triage)).collect()
}

/// Alerts that hold all the words, by the search index; the other filters are applied to what it finds.
async fn search(app: &Dashboard, p: Wanted, words: String, limit: usize) -> Result<JsonText, ApiError> {
    let query = SearchQuery {
        kind: Some(DocumentKind::Alert),
        words,
        account: p.account,
        principal: p.principal,
        from: p.from,
        to: p.to,
        limit,
        after: p.cursor,
        ..SearchQuery::default()
    };
    let page = app.search.search(query).await?;
    let ids: Vec<_> = page.documents.into_iter().map(|d| (d.account, d.id)).collect();
    let mut found = app.alerts.get_all(&ids).await?;
    found.retain(|(stored, triage)| {
        p.level.is_none_or(|l| stored.alert.level >= l)
            && p.state.is_none_or(|s| triage.state == s)
            && p.rule.as_ref().is_none_or(|r| stored.alert.rule.id == *r)
    });
    incidents::name_as_now(app, &mut found).await?;
    json(&Items::page(rows(&found), page.next).found_by(app.search.coverage()))
}

async fn find(app: &Dashboard, id: &str) -> Result<(StoredAlert, Triage), ApiError> {
    let found = app.alerts.find(id).await?.ok_or_else(|| ApiError::NotFound(format!("alert {id}")))?;
    let mut found = [found];
    incidents::name_as_now(app, &mut found).await?;
    let [found] = found;
    Ok(found)
}

async fn detail(app: &Dashboard, stored: &StoredAlert, triage: &Triage) -> Result<JsonText, ApiError> {
    let alert = &stored.alert;
    let ids = alert.first_events.iter().take(SHOWN_RECORDS).map(EventRef::document_id).collect();
    json(&Detail {
        row: Row::new(stored, triage),
        note: triage.note.as_deref(),
        history: &triage.history,
        provenance: &alert.provenance,
        responses: super::responses::of_alerts(app, &[(alert.account.clone(), alert.alert_id.clone())]).await?,
        events: events::raw_records(app, &alert.account, ids).await?,
        limited: app.search.coverage().limited(),
    })
}

pub(super) async fn show(State(app): State<Arc<Dashboard>>, Id(id): Id) -> Result<JsonText, ApiError> {
    let (stored, triage) = find(&app, &id).await?;
    detail(&app, &stored, &triage).await
}

pub(super) async fn triage(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Id(id): Id,
    Body(change): Body<Change>,
) -> Result<JsonText, ApiError> {
    let by = caller.user()?.username.clone();
    if change.note.iter().flatten().any(|note| note.chars().count() > NOTE_LENGTH) {
        return Err(ApiError::BadRequest(format!("note: at most {NOTE_LENGTH} characters")));
    }
    let (stored, _) = find(&app, &id).await?;
    let update =
        TriageUpdate { state: change.state, verdict: change.verdict, note: change.note, by, at: app.clock.now() };
    let triage = app.alerts.set_triage(&stored.alert.account, &stored.alert.alert_id, update, change.version).await?;
    detail(&app, &stored, &triage).await
}
