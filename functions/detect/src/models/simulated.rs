//! The simulated companies that the product's model is trained, calibrated and measured on.
//!
//! Shared by the tests and by the example that writes the model's files, so that both mean the same model.

#[cfg(test)]
extern crate self as sentinel_detect;

use sentinel_detect::models::{ForestOptions, TrainError, Trained, TrainingOptions, train};
use sentinel_ingest::{Envelope, Position, Record, normalise::normalise};
use sentinel_json::Document;
use sentinel_model::{Channel, Event, Provenance, RawRecord, Timestamp, time};
use sentinel_simulator::{Company, CompanyOptions};
use serde_json::Value;

/// Seed of the model that is part of the product.
pub const SEED: u64 = 2_025;
/// People in each company.
pub const PEOPLE: usize = 18;
/// Companies to learn from, and as many to calibrate on.
pub const COMPANIES: u64 = 2;
/// Days of each company's activity: long enough that most of it comes from people who are known.
pub const DAYS: u32 = 21;
/// Monday.
const START: &str = "2025-03-03T00:00:00Z";

/// Events of JSON records, normalised as the pipeline does.
pub fn normalised(records: impl Iterator<Item = Value>) -> Vec<Event> {
    let mut events = Vec::new();
    let Ok(nothing) = RawRecord::new("{}".into()) else { return events };
    let envelope = Envelope::default();
    for record in records {
        let text = record.to_string();
        let channel = Channel::Folder { path: "simulated".into() };
        let provenance = Provenance { channel, received_at: Timestamp::UNIX_EPOCH };
        let parsed = Document::parse(&text).map_err(|e| e.to_string());
        let event = parsed.and_then(|document| {
            let record = Record::new(&text, document.root(), &envelope, Position::default());
            normalise(&record, provenance).map_err(|e| e.to_string())
        });
        match event {
            // Models look at the envelope only: without the raw text a month fits into memory.
            Ok(event) => events.push(Event { raw: nothing.clone(), targets: Vec::new(), ..event }),
            Err(e) => panic!("{e}: {text}"),
        }
    }
    events
}

/// A simulated company.
pub fn company(seed: u64, people: usize, days: u32) -> Company {
    let start = time::parse_event_time(START).unwrap_or(Timestamp::UNIX_EPOCH);
    Company::new(CompanyOptions { seed, people, start, days, ..CompanyOptions::default() })
}

/// A simulated company's events, in order of time.
pub fn events(seed: u64, people: usize, days: u32) -> Vec<Event> {
    normalised(company(seed, people, days).events())
}

/// Trains the model on some companies and calibrates it on others, all drawn from `seed`.
pub fn train_from_simulation(seed: u64) -> Result<Trained, TrainError> {
    let companies = |from: u64| (from..from + COMPANIES).map(|n| events(seed + n, PEOPLE, DAYS)).collect::<Vec<_>>();
    let options = TrainingOptions {
        forest: ForestOptions { seed, ..ForestOptions::default() },
        version: format!("1.{seed}"),
        trained_on: format!(
            "simulated companies of {PEOPLE} people over {DAYS} days: {COMPANIES} to learn from, as many to calibrate on"
        ),
        rows_per_actor: 400,
    };
    train(&companies(1), &companies(101), &options)
}
