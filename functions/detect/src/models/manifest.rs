//! What is recorded beside a model's file: what it is, what it takes, and how its scores are to be read.

use sentinel_behaviour::{FEATURES, Rarity};
use serde::{Deserialize, Serialize};

/// A model's manifest, a JSON file beside the ONNX file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, e.g. `isolation-forest`; alerts name it as `model:NAME`.
    pub name: String,
    /// Version: changes with every training.
    pub version: String,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub sha256: String,
    /// Features in the order in which the model takes them.
    pub features: Vec<String>,
    /// What it was trained and calibrated on, for readers.
    pub trained_on: String,
    /// Raw and calibrated score, both growing: between two, the line that joins them.
    pub calibration: Vec<[f64; 2]>,
    /// For each feature its median, and the value that one benign event in 100 exceeds.
    pub usual: Vec<[f32; 2]>,
    /// How rare APIs and services are.
    pub rarity: Rarity,
}

impl Manifest {
    /// What is wrong with the manifest, if anything.
    pub fn check(&self) -> Result<(), String> {
        if !self.features.iter().map(String::as_str).eq(FEATURES.iter().map(|f| f.name)) {
            return Err("its features are not those of this version".into());
        }
        if self.usual.len() != FEATURES.len() || !self.usual.iter().flatten().all(|v| v.is_finite()) {
            return Err("its usual values do not fit its features".into());
        }
        let grows = |w: &[[f64; 2]]| w[0][0] < w[1][0] && w[0][1] <= w[1][1];
        let within = self.calibration.iter().all(|[raw, score]| raw.is_finite() && (0.0..=1.0).contains(score));
        if self.calibration.len() < 2 || !within || !self.calibration.windows(2).all(grows) {
            return Err("its calibration does not grow from 0 to 1".into());
        }
        Ok(())
    }

    /// The calibrated score of a raw one, 0 to 1.
    pub fn calibrate(&self, raw: f64) -> f64 {
        calibrate(&self.calibration, raw)
    }
}

/// Piecewise linear, flat beyond the ends; 0 for what is no number.
pub fn calibrate(knots: &[[f64; 2]], raw: f64) -> f64 {
    if raw.is_nan() {
        return 0.0;
    }
    let above = knots.partition_point(|[at, _]| *at <= raw);
    let (Some(low), Some(high)) = (above.checked_sub(1).and_then(|i| knots.get(i)), knots.get(above)) else {
        return if above == 0 { knots.first() } else { knots.last() }.map_or(0.0, |k| k[1]);
    };
    low[1] + (high[1] - low[1]) * (raw - low[0]) / (high[0] - low[0])
}
