//! Metrics in Prometheus' text form, for `/metrics`.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::{TelemetryError, metrics};

/// Bounds in seconds for an event's delay: from at once to a day; `CloudTrail` promises about 5 minutes.
const DELAY_BUCKETS: [f64; 10] = [1.0, 10.0, 30.0, 60.0, 300.0, 600.0, 900.0, 3_600.0, 21_600.0, 86_400.0];
/// Bounds in seconds for a model's time over a batch.
const MODEL_BUCKETS: [f64; 9] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

/// What has been counted since the start.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Starts counting. Once a process.
    pub fn install() -> Result<Self, TelemetryError> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(|e| TelemetryError::AlreadyRunning(e.to_string()))?;
        metrics::describe();
        Ok(Self(handle))
    }

    /// All metrics in Prometheus' text form (`text/plain; version=0.0.4`).
    pub fn render(&self) -> String {
        // Folds what histograms gathered since the last time; nothing else calls it without the listener.
        self.0.run_upkeep();
        self.0.render()
    }
}

fn recorder() -> Result<PrometheusRecorder, TelemetryError> {
    let bad = |e: metrics_exporter_prometheus::BuildError| TelemetryError::Settings(e.to_string());
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(metrics::EVENT_DELAY.into()), &DELAY_BUCKETS)
        .map_err(bad)?
        .set_buckets_for_metric(Matcher::Full(metrics::MODEL_TIME.into()), &MODEL_BUCKETS)
        .map_err(bad)?
        .build_recorder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_appear_under_their_names_and_labels() {
        let recorder = recorder().unwrap();
        let shown = Metrics(recorder.handle());
        ::metrics::with_local_recorder(&recorder, || {
            metrics::describe();
            metrics::events(3);
            metrics::events(4);
            metrics::event_delay(42.0);
            metrics::alert("high");
            metrics::error("detect");
            metrics::model_time(0.002);
            metrics::malformed(1);
            metrics::duplicates(2);
            metrics::conflicting(3);
            metrics::set_aside(4);
            metrics::action("deactivate_key", "done");
            metrics::notification("webhook", "sent");
            metrics::skipped_objects("digest", 2);
            metrics::outbox_relayed(3);
            metrics::silent_sources(7);
            metrics::silent_sources(5);
            metrics::stalled_polls(0);
        });
        let text = shown.render();
        for line in [
            "# HELP sentinel_events_total Events accepted by ingest.",
            "# TYPE sentinel_event_delay_seconds histogram",
            "sentinel_events_total 7",
            "sentinel_errors_total{stage=\"respond\"} 0",
            "sentinel_alerts_total{level=\"critical\"} 0",
            "sentinel_event_delay_seconds_bucket{le=\"30\"} 0",
            "sentinel_event_delay_seconds_bucket{le=\"60\"} 1",
            "sentinel_event_delay_seconds_sum 42",
            "sentinel_alerts_total{level=\"high\"} 1",
            "sentinel_errors_total{stage=\"detect\"} 1",
            "sentinel_model_seconds_bucket{le=\"0.005\"} 1",
            "sentinel_malformed_total 1",
            "sentinel_duplicates_total 2",
            "sentinel_conflicting_total 3",
            "sentinel_set_aside_total 4",
            "sentinel_actions_total{kind=\"deactivate_key\",state=\"done\"} 1",
            "sentinel_notifications_total{channel=\"webhook\",outcome=\"sent\"} 1",
            "sentinel_skipped_objects_total{kind=\"digest\"} 2",
            "sentinel_outbox_relayed_total 3",
            "# TYPE sentinel_silent_sources gauge",
            "sentinel_silent_sources 5",
            "sentinel_stalled_polls 0",
        ] {
            assert!(text.lines().any(|l| l == line), "missing {line:?} in:\n{text}");
        }
    }

    #[test]
    fn installs_once() {
        let metrics = Metrics::install().unwrap();
        metrics::events(1);
        assert!(metrics.render().contains("sentinel_events_total"));
        assert!(matches!(Metrics::install(), Err(TelemetryError::AlreadyRunning(_))));
    }
}
