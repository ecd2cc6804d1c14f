//! The behaviour model in a scan: events go in as they are read and are scored in order of event time.
//!
//! A model judges an event by what its principal did before it, so the order matters, and the order of files is
//! not that of time: a trail's folders are read Region by Region. Events wait here, without their text, until
//! [`WAITING`] are there; then the earlier half is scored. An input of fewer events gives the same alerts in
//! whatever order it comes.

use anyhow::{Context, Result};
use sentinel_detect::{Builder, Config, RuleSet, Scorer, ScorerError, models::ModelScorer};
use sentinel_model::{Detection, Event, RawRecord};

/// Events scored at once.
const BATCH: usize = 256;
/// Most events that wait: about 100 MB.
const WAITING: usize = 100_000;

/// A model and the events that wait for it.
pub(super) struct Models {
    scorer: ModelScorer,
    runtime: tokio::runtime::Runtime,
    waiting: Vec<Event>,
    most: usize,
    no_text: RawRecord,
}

impl Models {
    /// The product's own model, with an empty memory.
    pub(super) fn new() -> Result<Self> {
        Self::waiting_for(WAITING)
    }

    fn waiting_for(most: usize) -> Result<Self> {
        Ok(Self {
            scorer: ModelScorer::in_memory().context("loading the behaviour model")?,
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            waiting: Vec::new(),
            most,
            no_text: RawRecord::new("null".into())?,
        })
    }

    /// Takes an event; hands back what the events that are due gave.
    pub(super) fn add(&mut self, mut event: Event, rules: &RuleSet) -> Result<Vec<Detection>, ScorerError> {
        event.raw = self.no_text.clone();
        event.lineage.clear();
        self.waiting.push(event);
        if self.waiting.len() < self.most { Ok(Vec::new()) } else { self.score(self.most / 2, rules) }
    }

    /// Scores all that waits.
    pub(super) fn finish(&mut self, rules: &RuleSet) -> Result<Vec<Detection>, ScorerError> {
        self.score(self.waiting.len(), rules)
    }

    /// Scores the earliest events that wait.
    fn score(&mut self, count: usize, rules: &RuleSet) -> Result<Vec<Detection>, ScorerError> {
        self.waiting.sort_by(|a, b| (a.time, &a.id, a.content).cmp(&(b.time, &b.id, b.content)));
        let due: Vec<Event> = self.waiting.drain(..count).collect();
        let mut found = Vec::new();
        for events in due.chunks(BATCH) {
            let mut builder = Builder::new(rules, Config::default());
            for one in &self.runtime.block_on(self.scorer.score(events))? {
                builder.add_scored(&events[one.index], one);
            }
            found.extend(builder.finish());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_ingest::{Found, Limits, normalise};
    use sentinel_model::{Channel, Provenance, Timestamp};
    use sentinel_simulator::{ScenarioOptions, day_with_attack};

    fn events() -> Vec<Event> {
        let options = ScenarioOptions { people: 5, days: 2, ..ScenarioOptions::default() };
        let mut events = Vec::new();
        for record in day_with_attack(&options).records {
            let text = record.to_string();
            let mut sink = |found: Found<'_>| {
                let Found::Record(record) = found else { panic!("{found:?}") };
                let provenance =
                    Provenance { channel: Channel::Folder { path: "f".into() }, received_at: Timestamp::UNIX_EPOCH };
                events.push(normalise::normalise(&record, provenance).unwrap());
            };
            sentinel_ingest::read(text.as_bytes(), "f", None, &Limits::generous(), &mut sink).unwrap();
        }
        events
    }

    fn alerted(mut models: Models, events: impl Iterator<Item = Event>) -> Vec<(String, String, String)> {
        let rules = RuleSet::default_pack();
        let mut found = Vec::new();
        for event in events {
            found.extend(models.add(event, &rules).unwrap());
            assert!(models.waiting.len() < models.most);
        }
        found.extend(models.finish(&rules).unwrap());
        let mut all: Vec<_> = found
            .into_iter()
            .flat_map(|d| d.members.into_iter().map(move |m| (m.event.time, m.event.id, m.model_score)))
            .map(|(time, id, score)| (time.to_string(), id, format!("{score:?}")))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_order_of_files_does_not_matter() {
        let events = events();
        let straight = alerted(Models::new().unwrap(), events.iter().cloned());
        assert!(!straight.is_empty());
        assert_eq!(alerted(Models::new().unwrap(), events.iter().rev().cloned()), straight);
        // As two Regions are: each in order, one after the other.
        let regions = (0..2).flat_map(|n| events.iter().skip(n).step_by(2)).cloned();
        assert_eq!(alerted(Models::new().unwrap(), regions), straight);
    }

    #[test]
    fn few_events_wait_and_those_nearly_in_order_are_scored_as_in_order() {
        let events = events();
        assert!(events.len() > 500, "{}", events.len());
        let straight = alerted(Models::new().unwrap(), events.iter().cloned());
        let nearly = events.chunks(50).flat_map(|some| some.iter().rev()).cloned();
        assert_eq!(alerted(Models::waiting_for(200).unwrap(), nearly), straight);
    }
}
