//! Trains a forest on ordinary activity and calibrates it on other ordinary activity.
//!
//! In: companies' events, each company's in order of time, taken to be benign. Out: the ONNX file, its
//! manifest, and the forest itself. The same input gives the same bytes.

use std::collections::BTreeMap;

use sentinel_behaviour::{FEATURES, Learn, N, PrincipalState, Rarity, RarityBuilder, features};
use sentinel_model::Event;
use sha2::{Digest, Sha256};

use super::{
    forest::{Forest, ForestOptions},
    manifest::Manifest,
    onnx,
    runner::ISOLATION_FOREST,
};

/// How a model is trained.
#[derive(Debug, Clone)]
pub struct TrainingOptions {
    /// How the forest is grown.
    pub forest: ForestOptions,
    /// Version written into the model.
    pub version: String,
    /// What the events are, for readers of the manifest.
    pub trained_on: String,
    /// Most rows that one person or workload gives, evenly spread over their events: the busiest must not
    /// decide what is normal.
    pub rows_per_actor: usize,
}

/// Why a model was not trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// There is too little to learn from.
    #[error("too few events: {rows} to learn from, {held_out} to calibrate on, at least {wanted} of each are needed")]
    TooFew {
        /// Rows to learn from.
        rows: usize,
        /// Events to calibrate on.
        held_out: usize,
        /// Least number of each.
        wanted: usize,
    },
    /// The manifest cannot be written as JSON or does not hold together.
    #[error("the manifest is unusable: {0}")]
    Manifest(String),
}

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
    /// The forest that the file holds.
    pub forest: Forest,
}

impl Trained {
    /// The manifest as the file beside the model.
    pub fn manifest_json(&self) -> Result<Vec<u8>, TrainError> {
        let mut text = serde_json::to_vec_pretty(&self.manifest).map_err(|e| TrainError::Manifest(e.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Fewest rows to learn from, and to calibrate on: below, one event in 1,000 cannot be told.
const FEWEST: usize = 5_000;

/// Trains on some companies and calibrates on others.
pub fn train(
    training: &[Vec<Event>],
    held_out: &[Vec<Event>],
    options: &TrainingOptions,
) -> Result<Trained, TrainError> {
    let mut counts = RarityBuilder::default();
    training.iter().flatten().filter(|e| e.principal.identifies_someone()).for_each(|e| counts.add(e));
    let rarity = counts.build();
    let mut rows = Vec::new();
    for company in training {
        for of_actor in rows_by_actor(company, &rarity).into_values() {
            let step = of_actor.len().div_ceil(options.rows_per_actor.max(1));
            rows.extend(of_actor.into_iter().step_by(step.max(1)));
        }
    }
    let held_out: Vec<[f32; N]> =
        held_out.iter().flat_map(|company| rows_by_actor(company, &rarity).into_values().flatten()).collect();
    let too_few = TrainError::TooFew { rows: rows.len(), held_out: held_out.len(), wanted: FEWEST };
    if rows.len() < FEWEST || held_out.len() < FEWEST {
        return Err(too_few);
    }
    let Some(forest) = Forest::fit(&rows, options.forest) else { return Err(too_few) };
    let onnx = onnx::export(&forest, &options.version);
    let mut raw: Vec<f64> = held_out.iter().map(|row| forest.score(row)).collect();
    raw.sort_by(f64::total_cmp);
    let manifest = Manifest {
        name: ISOLATION_FOREST.into(),
        version: options.version.clone(),
        sha256: hex::encode(Sha256::digest(&onnx)),
        features: FEATURES.iter().map(|f| f.name.to_owned()).collect(),
        trained_on: options.trained_on.clone(),
        calibration: calibration(&raw),
        usual: usual(&held_out),
        rarity,
    };
    manifest.check().map_err(TrainError::Manifest)?;
    Ok(Trained { onnx, manifest, forest })
}

/// The rows of each person or workload, in order: each event's features before it was learned.
pub fn rows_by_actor(events: &[Event], rarity: &Rarity) -> BTreeMap<String, Vec<[f32; N]>> {
    let mut states: BTreeMap<&str, PrincipalState> = BTreeMap::new();
    let mut rows: BTreeMap<String, Vec<[f32; N]>> = BTreeMap::new();
    for event in events.iter().filter(|e| e.principal.identifies_someone()) {
        let state = states.entry(&event.principal.actor).or_default();
        rows.entry(event.principal.actor.clone()).or_default().push(features(event, state, rarity));
        state.update(event, Learn::Habit);
    }
    rows
}

/// The value that a share of a sorted list does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positions"
    )]
    let at = (share * (sorted.len() as f64 - 1.0)).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Raw score to calibrated score.
///
/// 0.4, where alerts begin, lies where one held-out benign event in 4,000 still comes: a margin of four on
/// the promised one in 1,000, because other companies differ from those seen. From there up, equal steps of
/// raw score count alike; their width is a seventh of the way from the median to that point, so that what is
/// two steps beyond nearly all benign activity is critical.
fn calibration(sorted: &[f64]) -> Vec<[f64; 2]> {
    let alert = quantile(sorted, 1.0 - 1.0 / 4_000.0);
    let median = quantile(sorted, 0.5);
    let step = ((alert - median) / 7.0).max(0.01);
    let mut knots = vec![
        [0.0, 0.0],
        [median, 0.05],
        [quantile(sorted, 0.9), 0.1],
        [quantile(sorted, 0.99), 0.2],
        [quantile(sorted, 0.999), 0.33],
        [alert, 0.4],
        [alert + step, 0.6],
        [alert + 2.0 * step, 0.8],
        [alert + 4.0 * step, 1.0],
    ];
    // Ties among the quantiles would make a step without width.
    for i in 1..knots.len() {
        knots[i][0] = knots[i][0].max(knots[i - 1][0] + 1e-6);
    }
    for knot in &mut knots {
        knot[0] = (knot[0] * 1e6).round() / 1e6;
    }
    knots
}

/// Median and 99th percentile of each feature.
fn usual(rows: &[[f32; N]]) -> Vec<[f32; 2]> {
    (0..N)
        .map(|i| {
            let mut values: Vec<f64> = rows.iter().map(|r| f64::from(r[i])).collect();
            values.sort_by(f64::total_cmp);
            #[allow(clippy::cast_possible_truncation, reason = "they were f32")]
            let rounded = |share| ((quantile(&values, share) * 1e4).round() / 1e4) as f32;
            [rounded(0.5), rounded(0.99)]
        })
        .collect()
}
