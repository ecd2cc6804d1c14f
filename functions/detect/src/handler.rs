//! The detect stage's handler: event batches in, detection batches out.
//!
//! In: messages of stage detect, each an [`EventBatch`]. Out: messages to stage enrich, each a
//! [`DetectionBatch`] with what the batch adds to alerts and the lineage that its events show; nothing when
//! there is neither. Of its own it keeps what correlations and models remember; alerts have derived identities, so
//! a batch that comes twice adds nothing the second time. A record that cannot be parsed is counted and costs only itself; a model that
//! fails makes the batch come again, after what the rules found was sent.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use sentinel_durable::{
    Message, Outcome, Outgoing, Queue, QueueError, Stage,
    codec::{self, CodecError},
    worker::Handler,
};
use sentinel_json::Document;
use sentinel_model::{
    Detection, LineageEdge,
    message::{DetectionBatch, EventBatch},
};
use tracing::{debug, warn};

use crate::{
    correlations::{Correlated, CorrelationError, StoredCorrelations},
    detection::{Builder, Config},
    rules::{RuleSet, SharedRules},
    scorer::{Scorer, ScorerError},
};

/// Members that one sent detection carries. Larger ones are sent in parts, which merge into one alert.
const MEMBERS_PER_DETECTION: usize = 1_000;

/// The detect stage.
pub struct Detect {
    rules: Arc<SharedRules>,
    scorer: Option<Arc<dyn Scorer>>,
    queue: Arc<dyn Queue>,
    correlations: Option<StoredCorrelations>,
    config: Config,
}

/// Why a batch could not be handled; it comes again.
#[derive(Debug, thiserror::Error)]
enum DetectError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Scorer(#[from] ScorerError),
    #[error(transparent)]
    Correlation(#[from] CorrelationError),
}

impl Detect {
    /// A handler that matches with the rules in force at each batch, scores with the models if there are any,
    /// and sends to enrich's queue.
    pub fn new(
        rules: Arc<SharedRules>,
        scorer: Option<Arc<dyn Scorer>>,
        queue: Arc<dyn Queue>,
        config: Config,
    ) -> Self {
        Self { rules, scorer, queue, correlations: None, config }
    }

    /// With correlations, kept in a store. Without, those of the rules are not evaluated.
    #[must_use]
    pub fn with_correlations(mut self, correlations: StoredCorrelations) -> Self {
        self.correlations = Some(correlations);
        self
    }

    async fn batch(&self, body: &str) -> Result<(), DetectError> {
        let batch: EventBatch = codec::decode(body)?;
        let rules = self.rules.current();
        let (mut detections, correlated) = self.matched(&rules, &batch);
        let correlated = self.correlated(&rules, correlated).await;
        // What the rules found is sent even when the models fail; the batch that comes again adds nothing to it.
        let scored = self.scored(&batch).await;
        let mut failure = scored.map(|scored| detections.extend(scored)).err().map(DetectError::from);
        match correlated {
            Ok(correlated) => detections.extend(correlated),
            Err(error) => failure = failure.or(Some(error.into())),
        }
        let lineage: Vec<LineageEdge> =
            batch.events.iter().filter(|e| e.outcome.is_success()).flat_map(|e| e.lineage.iter().cloned()).collect();
        debug!(
            correlation_id = batch.correlation_id,
            events = batch.events.len(),
            detections = detections.len(),
            lineage = lineage.len(),
            "matched a batch"
        );
        self.send(&batch.correlation_id, detections, lineage).await?;
        failure.map_or(Ok(()), Err)
    }

    /// What the correlations say of a batch.
    async fn correlated(
        &self,
        rules: &RuleSet,
        correlated: Vec<Correlated>,
    ) -> Result<Vec<Detection>, CorrelationError> {
        match &self.correlations {
            Some(correlations) if !correlated.is_empty() => correlations.handle(rules, correlated).await,
            _ => Ok(Vec::new()),
        }
    }

    /// What the models say of a batch.
    async fn scored(&self, batch: &EventBatch) -> Result<Vec<Detection>, ScorerError> {
        let Some(scorer) = &self.scorer else { return Ok(Vec::new()) };
        let started = Instant::now();
        let all = scorer.score(&batch.events).await?;
        sentinel_telemetry::metrics::model_time(started.elapsed().as_secs_f64());
        let rules = self.rules.current();
        // The events were searched for our own role's activity already.
        let mut builder = Builder::new(&rules, Config::default());
        for scored in &all {
            let Some(event) = batch.events.get(scored.index) else {
                warn!(
                    correlation_id = batch.correlation_id,
                    model = scored.model,
                    "a model scored an event that is not there"
                );
                continue;
            };
            builder.add_scored(event, scored);
        }
        Ok(builder.finish())
    }

    /// What the rules say of a batch, and what its events count for correlations.
    fn matched(&self, rules: &RuleSet, batch: &EventBatch) -> (Vec<Detection>, Vec<Correlated>) {
        let mut builder = Builder::new(rules, self.config.clone());
        let (mut hits, mut correlated) = (Vec::new(), Vec::new());
        for event in &batch.events {
            hits.clear();
            match Document::parse(event.raw.text()) {
                Ok(record) => {
                    rules.matches(record.root(), &mut hits);
                    rules.suppress(event, &mut hits);
                    if rules.feeds_correlations(&hits) {
                        correlated.extend(rules.correlated(event, record.root(), &hits));
                    }
                }
                Err(error) => {
                    sentinel_telemetry::error(Stage::Detect.as_str());
                    sentinel_telemetry::metrics::malformed(1);
                    warn!(correlation_id = batch.correlation_id, event = event.id, %error, "a record cannot be matched");
                }
            }
            builder.add(event, &hits);
        }
        (builder.finish(), correlated)
    }

    async fn send(
        &self,
        correlation_id: &str,
        detections: Vec<Detection>,
        lineage: Vec<LineageEdge>,
    ) -> Result<(), DetectError> {
        if detections.is_empty() && lineage.is_empty() {
            return Ok(());
        }
        for body in bodies(correlation_id, detections, lineage)? {
            self.queue.send(Stage::Enrich, vec![Outgoing::now(body)]).await?;
        }
        Ok(())
    }
}

/// One message where it fits, else as many as it takes.
fn bodies(
    correlation_id: &str,
    detections: Vec<Detection>,
    lineage: Vec<LineageEdge>,
) -> Result<Vec<String>, CodecError> {
    let wrap = |detections, lineage| DetectionBatch { correlation_id: correlation_id.to_owned(), detections, lineage };
    let whole = wrap(detections.into_iter().flat_map(in_parts).collect(), lineage);
    match codec::encode(&whole) {
        Err(CodecError::TooLarge(_) | CodecError::DecodedTooLarge) => {}
        done => return done.map(|body| vec![body]),
    }
    let mut bodies = codec::encode_split(whole.lineage, |lineage| wrap(Vec::new(), lineage))?;
    bodies.extend(codec::encode_split(whole.detections, |detections| wrap(detections, Vec::new()))?);
    Ok(bodies)
}

fn in_parts(mut detection: Detection) -> Vec<Detection> {
    if detection.members.len() <= MEMBERS_PER_DETECTION {
        return vec![detection];
    }
    let members = std::mem::take(&mut detection.members);
    members
        .chunks(MEMBERS_PER_DETECTION)
        .map(|part| Detection { members: part.to_vec(), ..detection.clone() })
        .collect()
}

#[async_trait]
impl Handler for Detect {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in batch {
            outcomes.push(match self.batch(&message.body).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Retry(error.to_string()),
            });
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        scorer::Scored,
        testing::{self, event},
    };
    use sentinel_durable::ManualClock;
    use sentinel_embedded::Database;
    use sentinel_model::{Event, Identity, RawRecord, lineage::LineageKind};

    const RULE: &str = "title: Key made\nid: r1\nlogsource: {product: aws}\ndetection: {s: {eventName: CreateAccessKey}, condition: s}\n";

    struct Fixture {
        queue: Arc<dyn Queue>,
        _database: Database,
    }

    fn fixture() -> Fixture {
        let clock = Arc::new(ManualClock::new("2026-03-02T10:00:00Z".parse().unwrap()));
        let database = Database::in_memory(clock).unwrap();
        Fixture { queue: database.queue(), _database: database }
    }

    impl Fixture {
        fn detect(&self, scorer: Option<Arc<dyn Scorer>>) -> Detect {
            let rules = Arc::new(SharedRules::new(testing::rules(RULE)));
            Detect::new(rules, scorer, Arc::clone(&self.queue), Config::default())
        }

        /// What arrived at enrich.
        async fn sent(&self) -> Vec<DetectionBatch> {
            let mut sent = Vec::new();
            loop {
                let messages = self.queue.receive(Stage::Enrich, 10, 60).await.unwrap();
                if messages.is_empty() {
                    return sent;
                }
                sent.extend(messages.iter().map(|m| codec::decode(&m.body).unwrap()));
            }
        }
    }

    fn message(body: String) -> Message {
        let sent_at = "2026-03-02T10:00:00Z".parse().unwrap();
        Message { id: "m".into(), receipt: "r".into(), body, receives: 1, sent_at }
    }

    fn batch(events: Vec<Event>) -> Message {
        message(codec::encode(&EventBatch { correlation_id: "c1".into(), events }).unwrap())
    }

    fn edge(id: &str) -> LineageEdge {
        LineageEdge {
            maker: Identity::Principal("a".into()),
            maker_key: None,
            made: Identity::AccessKey("AKIA".into()),
            how: LineageKind::Made,
            time: "2026-03-02T10:00:00Z".parse().unwrap(),
            event_id: id.into(),
        }
    }

    fn key_made(id: &str) -> Event {
        event(id, "2026-03-02T09:15:00Z", "CreateAccessKey")
    }

    #[tokio::test]
    async fn detections_and_lineage_go_to_enrich_and_silence_sends_nothing() {
        let f = fixture();
        let mut made = key_made("e1");
        made.lineage = vec![edge("e1")];
        let mut failed = event("e2", "2026-03-02T09:15:00Z", "CreateUser");
        failed.outcome = sentinel_model::Outcome::Failure { code: "AccessDenied".into(), message: None };
        failed.lineage = vec![edge("e2")];
        let quiet = event("e3", "2026-03-02T09:15:00Z", "ListUsers");
        let outcomes = f.detect(None).handle(vec![batch(vec![made, failed]), batch(vec![quiet])]).await;
        assert!(outcomes.iter().all(|o| matches!(o, Outcome::Done)), "{outcomes:?}");
        let sent = f.sent().await;
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].correlation_id.as_str(), sent[0].detections.len()), ("c1", 1));
        assert_eq!(sent[0].lineage, [edge("e1")], "lineage is of successful events alone");
    }

    #[tokio::test]
    async fn a_bad_message_or_record_costs_only_itself() {
        let f = fixture();
        let mut broken = key_made("e1");
        // Valid for serde_json, which holds the text as it is, and not for the matcher.
        broken.raw = RawRecord::new(String::from(r#"{"eventName":"\ud800"}"#)).unwrap();
        let outcomes =
            f.detect(None).handle(vec![message("nonsense".into()), batch(vec![broken, key_made("e2")])]).await;
        assert!(matches!(outcomes[..], [Outcome::Retry(_), Outcome::Done]), "{outcomes:?}");
        let sent = f.sent().await;
        assert_eq!(sent[0].detections[0].members.len(), 1);
        assert_eq!(sent[0].detections[0].members[0].event.id, "e2");
    }

    #[tokio::test]
    async fn a_batch_that_comes_again_says_the_same() {
        let f = fixture();
        let detect = f.detect(None);
        detect.handle(vec![batch(vec![key_made("e1")])]).await;
        detect.handle(vec![batch(vec![key_made("e1")])]).await;
        let sent = f.sent().await;
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[0].detections, sent[1].detections);
    }

    #[tokio::test]
    async fn what_fits_no_single_message_is_sent_in_parts_that_lose_nothing() {
        let f = fixture();
        let events: Vec<_> = (0..9_000_u64)
            .map(|i| {
                let mut event = key_made(&format!("{:032x}", sentinel_model::hash::hash_128(&i.to_le_bytes())));
                let noise = |n| sentinel_model::hash::hash_128(&[i, n].map(u64::to_le_bytes).concat());
                event.network.user_agent = Some(format!("{:?}", [0, 1, 2, 3, 4, 5, 6, 7].map(noise)));
                event
            })
            .collect();
        let rules = testing::rules(RULE);
        let mut builder = Builder::new(&rules, Config::default());
        let mut hits = Vec::new();
        for event in &events {
            rules.matches(Document::parse(event.raw.text()).unwrap().root(), &mut hits);
            rules.suppress(event, &mut hits);
            builder.add(event, &hits);
        }
        let detect = f.detect(None);
        detect.send("c1", builder.finish(), vec![edge("e1")]).await.unwrap();
        let sent = f.sent().await;
        assert!(sent.len() > 1, "{} messages", sent.len());
        let mut ids: Vec<_> =
            sent.iter().flat_map(|b| &b.detections).flat_map(|d| &d.members).map(|m| m.event.id.clone()).collect();
        assert_eq!(ids.len(), 9_000);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 9_000);
        assert_eq!(sent.iter().map(|b| b.lineage.len()).sum::<usize>(), 1);
        let alerts: std::collections::BTreeSet<_> =
            sent.iter().flat_map(|b| &b.detections).map(|d| d.alert_id.clone()).collect();
        assert_eq!(alerts.len(), 1);
    }

    struct Fixed(Result<Vec<Scored>, ()>);

    #[async_trait]
    impl Scorer for Fixed {
        async fn score(&self, _: &[Event]) -> Result<Vec<Scored>, ScorerError> {
            self.0.clone().map_err(|()| ScorerError::Model { model: "forest".into(), reason: "broken".into() })
        }
    }

    #[tokio::test]
    async fn models_add_alerts_and_their_failure_brings_the_batch_back() {
        let f = fixture();
        let quiet = || batch(vec![event("e3", "2026-03-02T09:15:00Z", "ListUsers")]);
        let scored = |index, score| Scored { index, score, reasons: Vec::new(), model: "forest".into() };
        let good = Fixed(Ok(vec![scored(0, 0.9), scored(7, 0.9)]));
        assert!(matches!(f.detect(Some(Arc::new(good))).handle(vec![quiet()]).await[..], [Outcome::Done]));
        assert_eq!(f.sent().await[0].detections[0].rule.id, "model:forest");
        let bad = f.detect(Some(Arc::new(Fixed(Err(())))));
        assert!(matches!(bad.handle(vec![quiet()]).await[..], [Outcome::Retry(_)]));
        assert!(f.sent().await.is_empty());
        assert!(matches!(bad.handle(vec![batch(vec![key_made("e1")])]).await[..], [Outcome::Retry(_)]));
        assert_eq!(f.sent().await[0].detections[0].rule.id, "r1", "what the rules found does not wait for the models");
    }
}
