//! Loads a model's file by its manifest and runs it.

use std::{fs, io, path::Path, sync::Arc};

use sentinel_behaviour::N;
use sha2::{Digest, Sha256};
use tract_onnx::prelude::*;

use super::{manifest::Manifest, op::onnx_with_trees};

/// Name of the model that is part of the product.
pub const ISOLATION_FOREST: &str = "isolation-forest";

const EMBEDDED_MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/isolation-forest.onnx"));
const EMBEDDED_MANIFEST: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/isolation-forest.json"));

/// Why a model was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read.
    #[error("model file {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The manifest is not one, or does not fit this version.
    #[error("the model's manifest is unusable: {0}")]
    Manifest(String),
    /// The file is not the one that the manifest describes.
    #[error("the model's file has hash {found}, its manifest says {wanted}")]
    Hash {
        /// Hash of the file.
        found: String,
        /// Hash in the manifest.
        wanted: String,
    },
    /// The ONNX model is malformed or uses what is not supported, or running it failed.
    #[error("the model failed: {0}")]
    Onnx(String),
}

impl ModelError {
    fn onnx(e: impl std::fmt::Display) -> Self {
        // The alternate form shows the whole chain of causes.
        Self::Onnx(format!("{e:#}"))
    }
}

/// A model ready to run.
#[derive(Clone)]
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    manifest: Arc<Manifest>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({} {})", self.manifest.name, self.manifest.version)
    }
}

impl Model {
    /// The model that is part of the product.
    pub fn embedded() -> Result<Self, ModelError> {
        Self::load(EMBEDDED_MODEL, EMBEDDED_MANIFEST)
    }

    /// `NAME.onnx` and `NAME.json` of a folder.
    pub fn from_folder(folder: &Path, name: &str) -> Result<Self, ModelError> {
        let read = |extension: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            fs::read(&path).map_err(|error| ModelError::File { path: path.display().to_string(), error })
        };
        Self::load(&read("onnx")?, &read("json")?)
    }

    /// A model from its bytes, checked against its manifest.
    pub fn load(onnx: &[u8], manifest: &[u8]) -> Result<Self, ModelError> {
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(|e| ModelError::Manifest(e.to_string()))?;
        manifest.check().map_err(ModelError::Manifest)?;
        let found = hex::encode(Sha256::digest(onnx));
        if found != manifest.sha256 {
            return Err(ModelError::Hash { found, wanted: manifest.sha256 });
        }
        let mut bytes = onnx;
        let plan = onnx_with_trees()
            .model_for_read(&mut bytes)
            .and_then(InferenceModelExt::into_optimized)
            .and_then(IntoRunnable::into_runnable)
            .map_err(ModelError::onnx)?;
        let model = Self { plan, manifest: Arc::new(manifest) };
        // One run shows now, not at the first alert, that the graph takes our rows.
        model.raw(&[[0.0; N]])?;
        Ok(model)
    }

    /// What the model is and how its scores are read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The raw scores of rows, in order.
    pub fn raw(&self, rows: &[[f32; N]]) -> Result<Vec<f32>, ModelError> {
        let input = Tensor::from_shape(&[rows.len(), N], rows.as_flattened()).map_err(ModelError::onnx)?;
        let output = self.plan.run(tvec!(input.into_tvalue())).map_err(ModelError::onnx)?;
        let scores = output.first().ok_or_else(|| ModelError::Onnx("it has no output".into()))?;
        let scores: Vec<f32> = scores.to_plain_array_view::<f32>().map_err(ModelError::onnx)?.iter().copied().collect();
        if scores.len() != rows.len() {
            return Err(ModelError::Onnx(format!("it gave {} scores for {} rows", scores.len(), rows.len())));
        }
        Ok(scores)
    }
}
