//! The stage's handler: one batch of detections at a time, over ports.
//!
//! In: [`DetectionBatch`] messages, at least once and in any order. Out: stored alerts, lineage, incidents and
//! search documents, and one [`AlertRaised`] per alert and level through the outbox. Every step can be done
//! again without a second effect, so a crash anywhere is healed by the next delivery: an alert, its members
//! and its outbox message are one transaction; everything after it is done again when a message comes again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use sentinel_durable::{
    Clock, Message, Outcome, Queue, Stage,
    codec::{self, CodecError},
    contention::pause,
    outbox::{self, Fresh, OutboxError},
    worker::Handler,
};
use sentinel_model::{
    Detection, Level, OwnRoles,
    incident::AlertBrief,
    message::{AlertRaised, DetectionBatch},
};
use sentinel_search::{SearchError, SearchIndex};
use sentinel_state::{
    Table, TableError,
    alerts::{Alerts, Members, StoredAlert},
    incidents::Incidents,
    lineage::Lineage,
    table::{MAX_BODY_BYTES, MAX_WRITES},
};

use crate::{
    document, grouping,
    intel::{self, Sources},
    merge::{self, Growing, Intel},
    own::{OWN_ROLE_RULE, OwnActions, OwnActionsError},
};

/// Attempts to write against other writers before the message goes back to the queue.
pub(crate) const ATTEMPTS: u32 = 30;
/// Alerts of one batch that are merged at the same time: what they wait for is the store.
const ALERTS_AT_ONCE: usize = 8;

/// Most bytes of a stored alert; the rest of an item is what its score rests on.
const ALERT_BYTES: usize = MAX_BODY_BYTES - 60_000;

/// What the stage works with.
#[derive(Clone)]
pub struct Ports {
    /// Where state is kept.
    pub table: Arc<dyn Table>,
    /// Where messages for respond go.
    pub queue: Arc<dyn Queue>,
    /// Where alerts are indexed.
    pub search: Arc<dyn SearchIndex>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What we did ourselves.
    pub own: Arc<dyn OwnActions>,
}

/// What an operator sets.
#[derive(Clone, Default)]
pub struct Settings {
    /// Respond's own roles.
    pub own_roles: OwnRoles,
    /// Sources of threat intelligence.
    pub sources: Sources,
}

/// What can go wrong with a batch. Policy: all of it brings the message back to the queue.
#[derive(Debug, thiserror::Error)]
pub enum EnrichError {
    /// The message cannot be read; it ends in the dead-letter queue.
    #[error("the message cannot be read: {0}")]
    Message(#[from] CodecError),
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The outbox could not be sent on.
    #[error("the outbox could not be relayed: {0}")]
    Outbox(#[from] OutboxError),
    /// The index failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// An alert cannot be written as JSON.
    #[error("an alert cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The record of our own actions failed.
    #[error(transparent)]
    Own(#[from] OwnActionsError),
    /// Other writers kept changing the same item.
    #[error("{0} was changed by others {ATTEMPTS} times in a row")]
    Contended(String),
}

/// The enrich stage.
#[derive(Clone)]
pub struct Enrich {
    ports: Ports,
    settings: Settings,
    alerts: Alerts,
    pub(crate) incidents: Incidents,
    lineage: Lineage,
}

impl Enrich {
    /// The stage over its ports.
    pub fn new(ports: Ports, settings: Settings) -> Self {
        let table = &ports.table;
        Self {
            alerts: Alerts::new(Arc::clone(table)),
            incidents: Incidents::new(Arc::clone(table)),
            lineage: Lineage::new(Arc::clone(table)),
            ports,
            settings,
        }
    }

    /// Handles one batch. `redelivered` says that it may have been handled in part before: then everything is
    /// looked at again, also what seems unchanged.
    pub async fn handle_batch(&self, mut batch: DetectionBatch, redelivered: bool) -> Result<(), EnrichError> {
        self.drop_ours(&mut batch).await?;
        let recorded = self.lineage.record(&batch.lineage, self.ports.clock.now()).await?;
        let (mut touched, mut told) = (Vec::new(), Vec::new());
        for merged in self.merge_all(&batch).await? {
            told.extend(merged.told);
            if merged.changed || redelivered || merged.stored.incident_id.is_none() {
                touched.push(merged.stored);
            }
        }
        let grouping = grouping::Grouping::new(&self.ports.table, &self.alerts, &self.incidents, &self.lineage);
        // One that turned out to be none is looked at too: its incident is told anew without it.
        for stored in touched.iter().filter(|s| s.alert.level >= Level::Low) {
            grouping.assign_stored(stored).await?;
        }
        grouping.join(if redelivered { &batch.lineage } else { &recorded }).await?;
        self.index(&touched).await?;
        let (table, queue) = (self.ports.table.as_ref(), self.ports.queue.as_ref());
        if redelivered {
            // What was told before the crash is not known here.
            outbox::relay(table, queue).await?;
        } else {
            outbox::send_fresh(table, queue, told).await?;
        }
        tracing::info!(
            correlation_id = batch.correlation_id,
            detections = batch.detections.len(),
            alerts_changed = touched.len(),
            lineage = recorded.len(),
            redelivered,
            "detections merged"
        );
        Ok(())
    }

    /// Takes the events of our own recorded actions out of all detections, and notes them on their actions.
    async fn drop_ours(&self, batch: &mut DetectionBatch) -> Result<(), EnrichError> {
        let own_roles = &self.settings.own_roles;
        let mut known: HashMap<(String, u128), bool> = HashMap::new();
        for detection in &mut batch.detections {
            let own_rule = detection.rule.id == OWN_ROLE_RULE;
            let had = detection.members.len();
            let mut kept = Vec::with_capacity(had);
            for member in std::mem::take(&mut detection.members) {
                if !own_rule && !member.issuer.as_ref().is_some_and(|issuer| own_roles.contains(issuer)) {
                    kept.push(member);
                    continue;
                }
                let key = (detection.account.clone(), member.event.member_key());
                let ours = if let Some(ours) = known.get(&key) {
                    *ours
                } else {
                    // A call of ours is told by one event: whoever notes another one first leaves this one to somebody else.
                    let ours = self.ports.own.is_ours(&detection.account, &member).await?
                        && self.ports.own.note_ours(&detection.account, &member).await?;
                    if ours {
                        tracing::info!(
                            correlation_id = batch.correlation_id,
                            account = detection.account,
                            event_id = member.event.id,
                            action = member.action,
                            "event of our own action left out"
                        );
                    }
                    known.insert(key, ours);
                    ours
                };
                if !ours {
                    kept.push(member);
                }
            }
            let all_ours = kept.is_empty() && had > 0;
            detection.members = kept;
            if all_ours && let Some(correlated) = &mut detection.correlated {
                correlated.superseded_by = Some(String::new());
            }
        }
        let withdraws = |d: &Detection| d.correlated.as_ref().is_some_and(|c| c.superseded_by.is_some());
        batch.detections.retain(|d| !d.members.is_empty() || withdraws(d));
        Ok(())
    }

    /// Merges detections into their stored alerts: those of different alerts side by side, of one alert in their order.
    async fn merge_all(&self, batch: &DetectionBatch) -> Result<Vec<Merged>, EnrichError> {
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        let mut by_alert: Vec<Vec<&Detection>> = Vec::new();
        for detection in &batch.detections {
            let place = *places.entry((&detection.account, &detection.alert_id)).or_insert(by_alert.len());
            if place == by_alert.len() {
                by_alert.push(Vec::new());
            }
            by_alert[place].push(detection);
        }
        let each = by_alert.into_iter().map(|detections| {
            async move {
                let mut merged = Vec::new();
                for detection in detections {
                    merged.extend(self.merge(detection, &batch.correlation_id).await?);
                }
                Ok::<_, EnrichError>(merged)
            }
            .boxed()
        });
        let all: Vec<Vec<Merged>> =
            stream::iter(each.collect::<Vec<_>>()).buffered(ALERTS_AT_ONCE).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Merges a detection into its stored alert.
    async fn merge(&self, detection: &Detection, correlation_id: &str) -> Result<Option<Merged>, EnrichError> {
        for attempt in 1..=ATTEMPTS {
            let began = Instant::now();
            let before = self.alerts.get(&detection.account, &detection.alert_id).await?;
            let known = before.as_ref().and_then(|b| b.basis.revision);
            if let (Some(before), Some(correlated)) = (&before, &detection.correlated)
                && (known > Some(correlated.revision)
                    || (known == Some(correlated.revision) && before.alert.superseded_by.is_some()))
            {
                // What is stored rests on more.
                return Ok(Some(Merged::unchanged(before.clone())));
            }
            let Some((grown, members)) = self.grow(before.as_ref(), detection, correlation_id).await? else {
                return Ok(None);
            };
            let is_new = before.is_none();
            let withdrawn = grown.alert.superseded_by.is_some();
            let rose =
                !withdrawn && grown.alert.level >= Level::Low && grown.raised.is_none_or(|l| grown.alert.level > l);
            // Whoever was told of an alert is told when it is none.
            let tell = rose
                || (withdrawn && grown.raised.is_some())
                || (!withdrawn && grown.alert.level >= Level::Low && uses_new_key(before.as_ref(), &grown));
            let unchanged = before.as_ref().is_some_and(|b| b.alert == grown.alert && b.basis == grown.basis) && !tell;
            if unchanged {
                return Ok(Some(Merged::unchanged(grown)));
            }
            match self.store(before.as_ref(), grown, &members, tell, correlation_id).await {
                Err(EnrichError::Table(e)) if e.is_condition() => pause(attempt, began.elapsed()).await,
                Err(e) => return Err(e),
                Ok(merged) => {
                    let stored = &merged.stored;
                    if is_new {
                        sentinel_telemetry::metrics::alert(stored.alert.level.as_str());
                    }
                    if is_new || rose {
                        tracing::info!(
                            correlation_id,
                            alert_id = stored.alert.alert_id,
                            account = stored.alert.account,
                            rule = stored.alert.rule.id,
                            level = stored.alert.level.as_str(),
                            events = stored.alert.event_count,
                            raised = rose,
                            "{}",
                            if is_new { "alert is new" } else { "alert rose" }
                        );
                    } else {
                        // Routine of a whole day is one alert that grows: a line each time costs more than it says.
                        let (alert_id, events) = (&stored.alert.alert_id, stored.alert.event_count);
                        tracing::debug!(correlation_id, alert_id, events, "alert grew");
                    }
                    return Ok(Some(merged));
                }
            }
        }
        Err(EnrichError::Contended(format!("alert {}", detection.alert_id)))
    }

    /// What the alert is with the detection; `None` when the detection has no members.
    async fn grow(
        &self,
        before: Option<&StoredAlert>,
        detection: &Detection,
        correlation_id: &str,
    ) -> Result<Option<(StoredAlert, Members)>, EnrichError> {
        if let Some(by) = detection.correlated.as_ref().and_then(|c| c.superseded_by.as_ref()) {
            return self.withdrawn(before, detection, by).await;
        }
        // What a correlation says is the whole: a newer version stands in the place of an older one.
        let base = before.filter(|b| {
            let revision = detection.correlated.as_ref().map(|c| c.revision);
            revision.is_none() || b.basis.revision == revision
        });
        let mut members = match base {
            Some(stored) => self.alerts.members(stored).await?,
            None => Members::default(),
        };
        let (mut fresh, mut overflow) = (0, false);
        for member in &detection.members {
            let key = member.event.member_key();
            if members.insert(key) {
                fresh += 1;
            } else {
                overflow |= !members.contains(key);
            }
        }
        // After a failed lookup everything that the alert shows is asked for again.
        let again = base.filter(|b| b.basis.lookup_failed).map(|b| &b.alert);
        let indicators = intel::indicators_of(again, detection);
        let (findings, failures) = intel::lookup_all(&self.settings.sources, &indicators, detection.window.start).await;
        for failure in &failures {
            sentinel_telemetry::error("intelligence");
            tracing::warn!(correlation_id, alert_id = detection.alert_id, error = %failure, "scored without intelligence");
        }
        let intel = Intel { findings, failed: !failures.is_empty() };
        let growing = base.map(|b| Growing { alert: b.alert.clone(), basis: b.basis.clone() });
        let raised_in = before.map_or(correlation_id, |b| b.alert.correlation_id.as_str());
        let Some(grown) = merge::grow(growing, detection, fresh, overflow, &intel, raised_in) else {
            return Ok(None);
        };
        let returns = before.is_some_and(|b| b.alert.superseded_by.is_some());
        let stored = StoredAlert {
            alert: grown.alert,
            basis: grown.basis,
            raised: before.and_then(|b| b.raised).filter(|_| !returns),
            incident_id: before.and_then(|b| b.incident_id.clone()),
            version: before.map_or(0, |b| b.version),
        };
        Ok(Some((stored, members)))
    }

    /// The alert as it was, with what later events showed it to be. Nothing when there is no such alert.
    async fn withdrawn(
        &self,
        before: Option<&StoredAlert>,
        detection: &Detection,
        by: &str,
    ) -> Result<Option<(StoredAlert, Members)>, EnrichError> {
        let Some(before) = before else { return Ok(None) };
        let mut stored = before.clone();
        stored.alert.superseded_by = Some(by.to_owned());
        stored.basis.revision = detection.correlated.as_ref().map(|c| c.revision);
        Ok(Some((stored, self.alerts.members(before).await?)))
    }

    /// Stores a grown alert, its members, the links by which grouping finds it and, when respond is to be told, the
    /// message, in one transaction: whoever sees the alert can find it.
    async fn store(
        &self,
        before: Option<&StoredAlert>,
        mut grown: StoredAlert,
        members: &Members,
        tell: bool,
        correlation_id: &str,
    ) -> Result<Merged, EnrichError> {
        if merge::shrink(&mut grown.alert, ALERT_BYTES)? {
            tracing::warn!(correlation_id, alert_id = grown.alert.alert_id, "alert is too large: its lists were cut");
        }
        let alert = &grown.alert;
        let mut links = Vec::new();
        if alert.level >= Level::Low {
            let linked: BTreeSet<_> =
                before.map(|b| AlertBrief::of(&b.alert).identities().collect()).unwrap_or_default();
            let new: Vec<_> = AlertBrief::of(alert).identities().filter(|i| !linked.contains(i)).collect();
            let now = self.ports.clock.now();
            links = self.incidents.links(&new, alert.window, &alert.account, &alert.alert_id, now)?;
        }
        let mut told = None;
        if tell {
            let raised = AlertRaised {
                correlation_id: correlation_id.to_owned(),
                alert_id: alert.alert_id.clone(),
                account: alert.account.clone(),
                level: alert.level,
            };
            let revision = grown.basis.revision.map(|r| format!("-{r}")).unwrap_or_default();
            let id = format!("raised-{}-{}-{}{revision}", alert.alert_id, alert.level, alert.key_uses.len());
            told = Some(Fresh { id, stage: Stage::Respond, body: codec::encode(&raised)? });
            grown.raised = alert.superseded_by.is_none().then_some(alert.level);
        }
        let mut all = self.alerts.writes(&grown, members)?;
        if let Some(told) = &told {
            all.push(outbox::put(&told.id, told.stage, &told.body)?);
        }
        // More than fit are written before it: then too nobody sees the alert without them.
        let room = MAX_WRITES - all.len();
        while links.len() > room {
            let rest = links.split_off(links.len().min(MAX_WRITES));
            self.ports.table.write(std::mem::replace(&mut links, rest)).await?;
        }
        all.append(&mut links);
        self.ports.table.write(all).await?;
        grown.version += 1;
        Ok(Merged { stored: grown, changed: true, told })
    }

    /// Indexes alerts for search. An alert that grew meanwhile is indexed again, so that whoever is last to
    /// index has indexed the last.
    async fn index(&self, touched: &[StoredAlert]) -> Result<(), EnrichError> {
        if !self.ports.search.keeps_documents() {
            return Ok(());
        }
        let mut open: BTreeMap<String, StoredAlert> =
            touched.iter().map(|s| (s.alert.alert_id.clone(), s.clone())).collect();
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                return Ok(());
            }
            let documents = open.values().map(|s| document::of(&s.alert)).collect::<Result<Vec<_>, _>>()?;
            self.ports.search.index(documents).await?;
            let mut newer = BTreeMap::new();
            for (id, indexed) in open {
                if let Some(now) = self.alerts.get(&indexed.alert.account, &id).await?
                    && now.version != indexed.version
                {
                    newer.insert(id, now);
                }
            }
            open = newer;
        }
        // Whoever grows it so often indexes it too.
        Ok(())
    }

    async fn handle_message(&self, message: &Message) -> Result<(), EnrichError> {
        let batch: DetectionBatch = codec::decode(&message.body)?;
        self.handle_batch(batch, message.receives > 1).await
    }
}

#[async_trait]
impl Handler for Enrich {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in &batch {
            outcomes.push(match self.handle_message(message).await {
                Ok(()) => Outcome::Done,
                Err(e) => Outcome::Retry(e.to_string()),
            });
        }
        outcomes
    }
}

/// How a detection was merged.
struct Merged {
    stored: StoredAlert,
    changed: bool,
    /// What respond is told of it.
    told: Option<Fresh>,
}

impl Merged {
    fn unchanged(stored: StoredAlert) -> Self {
        Self { stored, changed: false, told: None }
    }
}

/// Whether a stored alert now shows a key that it did not: respond has yet to decide about that one, though the
/// alert itself is neither raised nor notified again.
fn uses_new_key(before: Option<&StoredAlert>, grown: &StoredAlert) -> bool {
    before.is_some_and(|before| {
        let known = |id: &str| before.alert.key_uses.iter().any(|k| k.access_key_id == id);
        grown.alert.key_uses.iter().any(|k| !known(&k.access_key_id))
    })
}
