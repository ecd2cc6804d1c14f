//! Secrets of AWS Secrets Manager: a plain one that is only read, and the keys that sign tokens.
//!
//! The signing keys are one secret, `{"keys":[{"kid","secret","created_at"}]}`. Secrets Manager knows no
//! conditional write, but it moves a staging label only away from the version that is named as its holder
//! (API Reference, `UpdateSecretVersionStage`): a new set is written under a label of its own, and becomes
//! `AWSCURRENT` only if nobody else's did since the old set was read. Nothing here is ever logged but ids.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use sentinel_durable::Clock;
use sentinel_model::{Timestamp, time};
use sentinel_state::{
    TableError,
    signing::{SigningKey, SigningKeys},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::sdk::CallError;

/// IAM actions that reading a secret needs.
pub const READ: &[&str] = &[GET];
/// IAM actions that keeping signing keys needs beside [`READ`].
pub const WRITE: &[&str] = &[PUT, STAGE];
/// All IAM actions of this module.
pub const ACTIONS: &[&str] = &[GET, PUT, STAGE];

const GET: &str = "secretsmanager:GetSecretValue";
const PUT: &str = "secretsmanager:PutSecretValue";
const STAGE: &str = "secretsmanager:UpdateSecretVersionStage";

/// The label of the version in force.
const CURRENT: &str = "AWSCURRENT";
/// The label of a set of keys that is not in force yet.
const PENDING: &str = "SENTINELPENDING";
/// Seconds for which a set of keys that was read is used without asking again.
const FRESH_SECONDS: i64 = 300;
/// Fewest seconds between two readings that unknown key ids ask for: a flood of forged tokens costs no more.
const UNKNOWN_SECONDS: i64 = 5;
/// Tries of a change while others change the secret too.
const TRIES: u64 = 12;
/// Milliseconds before the second try; a random part of this times the number of tries.
const PAUSE_MS: u64 = 50;

/// A secret that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The secret has no text.
    #[error("secret {0} holds no text")]
    NoText(String),
    /// The secret's text is no set of keys. What it is stays untold.
    #[error("secret {0} holds no set of signing keys, at line {1} column {2}")]
    Malformed(String, usize, usize),
    /// Others kept changing the secret.
    #[error("secret {0} kept changing")]
    Contended(String),
}

impl From<SecretError> for TableError {
    fn from(e: SecretError) -> Self {
        Self::store(e)
    }
}

/// A secret as read.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its text.
    pub text: String,
    /// Its version: another one when it was changed.
    pub version_id: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("version_id", &self.version_id).finish_non_exhaustive()
    }
}

/// A client of Secrets Manager.
pub fn client(config: &aws_config::SdkConfig) -> Client {
    Client::new(config)
}

/// Reads a secret of text by its ARN or name, without white space around it.
pub async fn read_secret(client: &Client, id: &str) -> Result<Secret, SecretError> {
    let secret = current(client, id).await?.ok_or_else(|| SecretError::NoText(id.to_owned()))?;
    Ok(Secret { text: secret.text.trim().to_owned(), version_id: secret.version_id })
}

/// The version in force; `None` while the secret has none yet.
async fn current(client: &Client, id: &str) -> Result<Option<Secret>, SecretError> {
    let answer = match client.get_secret_value().secret_id(id).send().await {
        Ok(answer) => answer,
        Err(e) if has_no_version(&e) => return Ok(None),
        Err(e) => return Err(CallError::new(GET, &e).into()),
    };
    match (answer.secret_string, answer.version_id) {
        (Some(text), Some(version_id)) => Ok(Some(Secret { text, version_id })),
        _ => Err(SecretError::NoText(id.to_owned())),
    }
}

/// A secret that was made without a value answers as one that is not there, in other words.
fn has_no_version<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let Some(error) = error.as_service_error() else { return false };
    error.code() == Some("ResourceNotFoundException") && error.message().is_some_and(|m| m.contains("staging label"))
}

#[derive(Default, Serialize, Deserialize)]
struct KeySet {
    #[serde(default)]
    keys: Vec<SigningKey>,
}

impl KeySet {
    fn sort(&mut self) {
        self.keys.sort_by(|a, b| (b.created_at, &b.kid).cmp(&(a.created_at, &a.kid)));
    }
}

/// What was read last.
struct Known {
    keys: Vec<SigningKey>,
    version_id: Option<String>,
    read_at: Timestamp,
}

/// Signing keys in one secret.
pub struct SecretSigningKeys {
    client: Client,
    id: String,
    clock: Arc<dyn Clock>,
    /// Held while reading, so that many requests at once read once.
    known: Mutex<Option<Known>>,
}

impl SecretSigningKeys {
    /// The keys of the secret with this ARN or name.
    pub fn new(client: Client, id: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self { client, id: id.into(), clock, known: Mutex::new(None) }
    }

    async fn read(&self) -> Result<Known, SecretError> {
        let read_at = self.clock.now();
        let Some(secret) = current(&self.client, &self.id).await? else {
            return Ok(Known { keys: Vec::new(), version_id: None, read_at });
        };
        // The error's own words could quote the secret.
        let mut set: KeySet = serde_json::from_str(&secret.text)
            .map_err(|e| SecretError::Malformed(self.id.clone(), e.line(), e.column()))?;
        set.sort();
        Ok(Known { keys: set.keys, version_id: Some(secret.version_id), read_at })
    }

    /// What is known, read again when it is older than so many seconds.
    async fn known<T>(&self, seconds: i64, use_it: impl FnOnce(&[SigningKey]) -> T) -> Result<T, SecretError> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        let fresh = |k: &Known| (0..seconds).contains(&time::seconds_between(k.read_at, now));
        let set = match known.take() {
            Some(set) if fresh(&set) => set,
            _ => self.read().await?,
        };
        let set = known.insert(set);
        let living: Vec<SigningKey> = set.keys.iter().filter(|key| now < key.ends_at()).cloned().collect();
        Ok(use_it(&living))
    }

    /// Puts a set in the place of the version that was read; `false` when another one is there by now.
    async fn replace(&self, before: Option<&str>, set: &KeySet) -> Result<Option<String>, SecretError> {
        let version = uuid::Uuid::new_v4().to_string();
        let text = serde_json::to_string(set).map_err(|_| SecretError::NoText(self.id.clone()))?;
        let put = self.client.put_secret_value().secret_id(&self.id).client_request_token(&version);
        put.secret_string(text).version_stages(PENDING).send().await.map_err(|e| CallError::new(PUT, &e))?;
        let stage = self.client.update_secret_version_stage().secret_id(&self.id).version_stage(CURRENT);
        let stage = stage.move_to_version_id(&version).set_remove_from_version_id(before.map(str::to_owned));
        match stage.send().await {
            Ok(_) => Ok(Some(version)),
            Err(e) => {
                let error = CallError::new(STAGE, &e);
                // An attempt that was repeated by the client after its answer was lost is refused as well.
                let moved = current(&self.client, &self.id).await?.is_some_and(|now| now.version_id == version);
                match moved {
                    true => Ok(Some(version)),
                    false if error.is("InvalidParameterException") => Ok(None),
                    false => Err(error.into()),
                }
            }
        }
    }
}

#[async_trait]
impl SigningKeys for SecretSigningKeys {
    async fn list(&self) -> Result<Vec<SigningKey>, TableError> {
        Ok(self.known(FRESH_SECONDS, <[SigningKey]>::to_vec).await?)
    }

    async fn find(&self, kid: &str) -> Result<Option<SigningKey>, TableError> {
        let find = |keys: &[SigningKey]| keys.iter().find(|key| key.kid == kid).cloned();
        if let Some(key) = self.known(FRESH_SECONDS, find).await? {
            return Ok(Some(key));
        }
        Ok(self.known(UNKNOWN_SECONDS, find).await?)
    }

    async fn add(&self, key: &SigningKey) -> Result<(), TableError> {
        let mut known = self.known.lock().await;
        for tried in 0..TRIES {
            let before = self.read().await?;
            let now = self.clock.now();
            let mut set = KeySet { keys: before.keys };
            set.keys.retain(|old| now < old.ends_at() && old.kid != key.kid);
            set.keys.push(key.clone());
            set.sort();
            if let Some(version) = self.replace(before.version_id.as_deref(), &set).await? {
                tracing::info!(kid = key.kid, version, keys = set.keys.len(), "signing key added");
                *known = Some(Known { keys: set.keys, version_id: Some(version), read_at: before.read_at });
                return Ok(());
            }
            let longest = PAUSE_MS * (tried + 1);
            let pause = rand::Rng::random_range(&mut rand::rng(), 0..=longest);
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
        Err(SecretError::Contended(self.id.clone()).into())
    }
}

#[cfg(test)]
mod tests;
