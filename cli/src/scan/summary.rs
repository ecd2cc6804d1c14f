//! What a scan found, counted: printed at its end and written for programs.

use std::{collections::BTreeMap, time::Duration};

use sentinel_model::Level;
use serde::Serialize;

/// Something in the input that could not be read as a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Malformed {
    /// The file.
    pub(crate) file: String,
    /// Where in it: `line N, byte M`.
    pub(crate) position: String,
    /// What is wrong, and what was expected.
    pub(crate) reason: String,
}

/// The counts of one scan; as JSON, the object that `--summary` writes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Files read.
    pub(crate) files: u64,
    /// `CloudTrail` records read, duplicates included.
    pub(crate) records: u64,
    /// Records seen before, with the same content.
    pub(crate) duplicates: u64,
    /// Records whose id was seen before with other content.
    pub(crate) conflicting: u64,
    /// What could not be read as a record.
    pub(crate) malformed: Vec<Malformed>,
    /// Other kinds of log, counted by kind.
    pub(crate) unknown: BTreeMap<String, u64>,
    /// Alerts by level, of every level whatever was printed.
    pub(crate) alerts: BTreeMap<&'static str, u64>,
    /// Wall time.
    pub(crate) seconds: f64,
    /// Records whose account is not the one of their folder or envelope.
    pub(crate) account_mismatches: u64,
    /// Rules in force.
    pub(crate) rules: usize,
    /// Rules refused.
    pub(crate) rules_refused: usize,
    /// Paths and streams that could not be opened or decompressed.
    pub(crate) unreadable: Vec<Unreadable>,
}

/// A path or stream that could not be opened or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unreadable {
    /// The path.
    pub(crate) file: String,
    /// Why.
    pub(crate) reason: String,
}

/// Malformed entries printed for people; the JSON summary has all.
const PRINTED: usize = 20;

impl Summary {
    /// A summary with every level at zero.
    pub(crate) fn new() -> Self {
        Self { alerts: Level::ALL.iter().map(|l| (l.as_str(), 0)).collect(), ..Self::default() }
    }

    /// Counts an alert.
    pub(crate) fn count_alert(&mut self, level: Level) {
        *self.alerts.entry(level.as_str()).or_default() += 1;
    }

    /// Sets the wall time.
    pub(crate) fn finish(&mut self, elapsed: Duration) {
        self.seconds = elapsed.as_secs_f64();
    }

    /// The summary for people, one fact a line.
    pub(crate) fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        // Writing to a String cannot fail.
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = if self.seconds > 0.0 { self.records as f64 / self.seconds } else { 0.0 };
        line(format_args!("files        {}", self.files));
        line(format_args!("records      {} ({rate:.0} per second, {:.2} s)", self.records, self.seconds));
        line(format_args!("duplicates   {}", self.duplicates));
        line(format_args!("conflicting  {}", self.conflicting));
        if self.account_mismatches > 0 {
            line(format_args!(
                "accounts     {} records name another account than their folder or envelope",
                self.account_mismatches
            ));
        }
        line(format_args!("malformed    {}", self.malformed.len()));
        for m in self.malformed.iter().take(PRINTED) {
            line(format_args!("  {}: {}: {}", m.file, m.position, m.reason));
        }
        if self.malformed.len() > PRINTED {
            line(format_args!("  and {} more: --summary FILE lists all", self.malformed.len() - PRINTED));
        }
        line(format_args!("other kinds  {}", self.unknown.values().sum::<u64>()));
        for (kind, count) in &self.unknown {
            line(format_args!("  {kind}: {count}"));
        }
        line(format_args!("rules        {} ({} refused)", self.rules, self.rules_refused));
        let alerts: Vec<_> =
            Level::ALL.iter().rev().map(|l| format!("{} {l}", self.alerts.get(l.as_str()).unwrap_or(&0))).collect();
        line(format_args!("alerts       {}", alerts.join(", ")));
        for u in &self.unreadable {
            line(format_args!("NOT READ     {}: {}", u.file, u.reason));
        }
        out
    }
}
