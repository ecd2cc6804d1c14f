//! Settings of `serve`, read once at start from a TOML file; every mistake is named, nothing is guessed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sentinel_model::response::Mode;
use serde::Deserialize;

/// All settings; each has a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) ingest: IngestConfig,
    pub(crate) detect: DetectConfig,
    pub(crate) enrich: EnrichConfig,
    pub(crate) respond: RespondConfig,
    pub(crate) logs: LogsConfig,
}

/// Settings of ingest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IngestConfig {
    /// Days that archived events are kept.
    pub(crate) archive_days: u32,
    /// Days that events stay searchable.
    pub(crate) search_days: u32,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self { archive_days: 365, search_days: 30 }
    }
}

/// Settings of detect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DetectConfig {
    /// Folders of operators' Sigma rules.
    pub(crate) rules: Vec<PathBuf>,
    /// Whether our own rules count.
    pub(crate) default_rules: bool,
    /// Whether the behaviour model scores events.
    pub(crate) models: bool,
    /// Values for the placeholders of rules.
    pub(crate) placeholders: Option<PathBuf>,
    /// Exceptions: what raises no alert.
    pub(crate) exceptions: Option<PathBuf>,
}

impl Default for DetectConfig {
    fn default() -> Self {
        Self { rules: Vec::new(), default_rules: true, models: true, placeholders: None, exceptions: None }
    }
}

/// Settings of enrich.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EnrichConfig {
    /// A list of indicators.
    pub(crate) indicators: Option<PathBuf>,
}

/// Settings of respond.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RespondConfig {
    /// How far responses may go by themselves.
    pub(crate) mode: Mode,
    /// ARN of the role that our own calls are made with.
    pub(crate) own_role: Option<String>,
    /// ARNs or user names that are never touched.
    pub(crate) protected: Vec<String>,
    /// Break-glass principals (ARNs or user names): never touched either, and said so.
    pub(crate) break_glass: Vec<String>,
    /// Most actions an hour and account before a person is asked.
    pub(crate) hourly_cap: Option<u32>,
    /// A folder of playbooks instead of the built-in ones.
    pub(crate) playbooks: Option<PathBuf>,
    /// Where notifications go.
    pub(crate) webhook: Option<WebhookConfig>,
}

/// A webhook.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookConfig {
    /// `https://...` (or `http://` to this machine).
    pub(crate) url: String,
    /// File that holds the secret that signs bodies.
    pub(crate) secret_file: Option<PathBuf>,
}

/// Settings of our own logs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogsConfig {
    /// One JSON object a line instead of text.
    pub(crate) json: bool,
    /// What is logged, e.g. `info,sentinel_respond=debug`.
    pub(crate) filter: Option<String>,
}

/// The name of the settings file in a data folder.
pub(crate) const FILE_NAME: &str = "sentinel.toml";

/// Reads the file named, else the data folder's own, else takes the defaults.
pub(crate) fn load(named: Option<&Path>, data: &Path) -> Result<Config> {
    let own = data.join(FILE_NAME);
    let path = match named {
        Some(path) => path,
        None if own.is_file() => &own,
        None => return Ok(Config::default()),
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("reading settings {}", path.display()))?;
    parse(&text).with_context(|| format!("settings {}", path.display()))
}

fn parse(text: &str) -> Result<Config> {
    let config: Config = toml::from_str(text)?;
    for (name, days) in [("archive_days", config.ingest.archive_days), ("search_days", config.ingest.search_days)] {
        ensure!(days > 0, "ingest.{name}: at least 1; nothing would be kept");
    }
    if let Some(role) = &config.respond.own_role {
        // Compared with the issuer that CloudTrail names: anything else would never match, and go unnoticed.
        let is_role = role.starts_with("arn:") && role.contains(":iam::") && role.contains(":role/");
        ensure!(is_role, "respond.own_role: the ARN of an IAM role, not {role:?}");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_named() {
        let error = toml::from_str::<Config>("[respond]\nmoed = \"observe\"\n").unwrap_err().to_string();
        assert!(error.contains("moed"), "{error}");
    }

    #[test]
    fn settings_that_could_only_do_harm_are_refused_and_named() {
        for (text, named) in [
            ("[ingest]\narchive_days = 0", "archive_days"),
            ("[ingest]\nsearch_days = 0", "search_days"),
            ("[respond]\nown_role = \"CloudSentinelRespond\"", "own_role"),
            ("[respond]\nown_role = \"arn:aws:sts::111122223333:assumed-role/CloudSentinelRespond/x\"", "own_role"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        parse("[respond]\nown_role = \"arn:aws:iam::111122223333:role/security/CloudSentinelRespond\"").unwrap();
    }

    #[test]
    fn the_default_only_observes() {
        assert_eq!(toml::from_str::<Config>("").unwrap().respond.mode, Mode::Observe);
    }
}
