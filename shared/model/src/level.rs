//! Severity levels, in Sigma's words and order.

use serde::{Deserialize, Serialize};

/// A Sigma level, ordered from the least to the most severe.
///
/// Source: Sigma specification 2.0, "Level".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Context only: never notified, never part of an incident.
    Informational,
    /// Noteworthy, reviewed in bulk.
    Low,
    /// Worth an analyst's look the same day.
    Medium,
    /// Needs a prompt look.
    High,
    /// Needs somebody now.
    Critical,
}

impl Level {
    /// All levels, least severe first.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The level's name as Sigma writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no level.
#[derive(Debug, thiserror::Error)]
#[error("unknown level {0:?}: expected informational, low, medium, high or critical")]
pub struct UnknownLevel(String);

impl std::str::FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|l| l.as_str().eq_ignore_ascii_case(s)).ok_or_else(|| UnknownLevel(s.to_owned()))
    }
}
