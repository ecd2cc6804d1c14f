//! Trains the isolation forest that is part of the product, and writes it to `functions/detect/models/`.
//!
//! Run `cargo run --release -p sentinel-detect --example train_forest` after a change of features, simulator or
//! training, and commit what it writes: a test holds the files against what the code would train.

#[allow(dead_code, unreachable_pub, reason = "shared with tests, which use more of it")]
#[path = "../src/models/simulated.rs"]
mod simulated;

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let trained = simulated::train_from_simulation(simulated::SEED)?;
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"));
    fs::create_dir_all(folder)?;
    fs::write(folder.join("isolation-forest.onnx"), &trained.onnx)?;
    fs::write(folder.join("isolation-forest.json"), trained.manifest_json()?)?;
    println!("{} bytes, calibration {:?}", trained.onnx.len(), trained.manifest.calibration);
    Ok(())
}
