//! Logs: one line an event on standard error, for people as text or for programs as JSON.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::TelemetryError;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line, with the fields of the event and of its spans.
    Json,
}

/// Starts logging to standard error. `filter` is a list of `tracing` directives, e.g.
/// `info,sentinel_detect=debug`; the environment is not read. Once a process.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false)).try_init()
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(std::io::stderr))
            .try_init(),
    };
    started.map_err(|e| TelemetryError::AlreadyRunning(e.to_string()))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|e| TelemetryError::Filter { filter: filter.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named_and_a_second_start_refused() {
        let bad = init_logs(LogFormat::Json, "sentinel=loud").unwrap_err();
        assert!(bad.to_string().contains("sentinel=loud"), "{bad}");
        init_logs(LogFormat::Json, "warn,sentinel_detect=debug").unwrap();
        assert!(matches!(init_logs(LogFormat::Text, "info"), Err(TelemetryError::AlreadyRunning(_))));
    }
}
