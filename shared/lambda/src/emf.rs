//! Metrics in CloudWatch's embedded metric format (CloudWatch User Guide, "Specification: Embedded metric
//! format"): one JSON line a set of dimensions on standard output, which Lambda turns into metrics without a
//! call.
//!
//! Names are those of `/metrics`. Every metric has the dimension `stage`: the one it is counted under, or the
//! function's own. Counters tell what was added since the last flush and are left out when that is nothing;
//! gauges are told when they were set: at once where that changed them, else once a minute, so that not every invocation
//! pays for a line. One that nobody sets any more is not told again: an alarm on it must see that data is missing.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use metrics::{Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::{Map, Value, json};

/// The namespace of all metrics.
const NAMESPACE: &str = "CloudSentinel";
/// The dimension that every metric has.
const STAGE: &str = "stage";
/// Most values of one metric in one line.
const MAX_VALUES: usize = 100;
/// Milliseconds after which a gauge that was set to the same is told again: a little less than a minute, so that what is set
/// every minute is told every minute.
const GAUGE_MILLISECONDS: u64 = 50_000;
/// Most dimensions of one metric.
const MAX_DIMENSIONS: usize = 30;

type Labels = BTreeMap<String, String>;

/// What has been counted since the last flush. Clones share it.
#[derive(Clone)]
pub struct Emf(Arc<Inner>);

struct Inner {
    stage: &'static str,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    metrics: BTreeMap<Labels, BTreeMap<String, Metric>>,
    units: BTreeMap<String, Unit>,
}

enum Metric {
    Counter(Arc<AtomicU64>),
    /// Its value, and what was told last (as bits) and when.
    Gauge(Arc<Level>, Option<(u64, u64)>),
    Histogram(Arc<Samples>),
}

impl std::fmt::Debug for Emf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Emf({})", self.0.stage)
    }
}

impl Emf {
    /// Nothing counted yet, in the function of this stage.
    pub fn new(stage: &'static str) -> Self {
        Self(Arc::new(Inner { stage, kept: Mutex::default() }))
    }

    /// Writes what was counted, one line a set of dimensions, and starts anew.
    pub fn flush(&self, mut out: impl Write) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let lines = self.lines(u64::try_from(now).unwrap_or(u64::MAX));
        for line in lines {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }

    fn lines(&self, timestamp: u64) -> Vec<Value> {
        let mut kept = self.kept();
        let Kept { metrics, units } = &mut *kept;
        metrics.iter_mut().filter_map(|(labels, metrics)| line(labels, metrics, units, timestamp)).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        if let Some(unit) = unit {
            self.kept().units.insert(name.as_str().to_owned(), unit);
        }
    }

    /// The metric of a key, made by `make` the first time; `None` when it has too many dimensions or is of
    /// another kind already.
    fn of<T>(&self, key: &Key, make: fn() -> Metric, take: fn(&Metric) -> Option<&Arc<T>>) -> Option<Arc<T>> {
        let mut labels: Labels = key.labels().map(|l| (l.key().to_owned(), l.value().to_owned())).collect();
        labels.entry(STAGE.to_owned()).or_insert_with(|| self.0.stage.to_owned());
        let mut kept = self.kept();
        let metric = (labels.len() <= MAX_DIMENSIONS)
            .then(|| kept.metrics.entry(labels).or_default().entry(key.name().to_owned()).or_insert_with(make));
        let found = metric.and_then(|metric| take(metric)).cloned();
        drop(kept);
        if found.is_none() {
            tracing::error!(metric = key.name(), "a metric of too many dimensions or of two kinds is not counted");
        }
        found
    }
}

impl Recorder for Emf {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit.or(Some(Unit::Count)));
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let counter = self.of(
            key,
            || Metric::Counter(Arc::default()),
            |metric| match metric {
                Metric::Counter(value) => Some(value),
                _ => None,
            },
        );
        counter.map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let gauge = self.of(
            key,
            || Metric::Gauge(Arc::default(), None),
            |metric| match metric {
                Metric::Gauge(value, _) => Some(value),
                _ => None,
            },
        );
        gauge.map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let histogram = self.of(
            key,
            || Metric::Histogram(Arc::default()),
            |metric| match metric {
                Metric::Histogram(samples) => Some(samples),
                _ => None,
            },
        );
        histogram.map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

/// One line, if there is anything to tell.
fn line(
    labels: &Labels,
    metrics: &mut BTreeMap<String, Metric>,
    units: &BTreeMap<String, Unit>,
    timestamp: u64,
) -> Option<Value> {
    let mut told: Map<String, Value> = labels.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    let mut directives = Vec::new();
    for (name, metric) in metrics {
        let Some(value) = metric.take(timestamp) else { continue };
        let unit = units.get(name).copied().map_or("None", unit);
        directives.push(json!({ "Name": name, "Unit": unit }));
        told.insert(name.clone(), value);
    }
    if directives.is_empty() {
        return None;
    }
    let dimensions: Vec<&String> = labels.keys().collect();
    let about = json!({ "Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": directives });
    told.insert("_aws".to_owned(), json!({ "Timestamp": timestamp, "CloudWatchMetrics": [about] }));
    Some(Value::Object(told))
}

/// CloudWatch's name of a unit (API reference, `MetricDatum`).
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "Count",
        Unit::Percent => "Percent",
        Unit::Seconds => "Seconds",
        Unit::Milliseconds => "Milliseconds",
        Unit::Microseconds => "Microseconds",
        Unit::Bytes => "Bytes",
        _ => "None",
    }
}

impl Metric {
    /// What there is to tell of it, which is forgotten.
    fn take(&mut self, now: u64) -> Option<Value> {
        match self {
            Self::Counter(value) => Some(value.swap(0, Ordering::Relaxed)).filter(|v| *v != 0).map(Value::from),
            Self::Gauge(level, told) => {
                // The mark first: what is set between the two is told now, and once more.
                if !level.set.swap(false, Ordering::AcqRel) {
                    return None;
                }
                let bits = level.bits.load(Ordering::Acquire);
                let known = |(before, at): (u64, u64)| before == bits && now.saturating_sub(at) < GAUGE_MILLISECONDS;
                if told.is_some_and(known) {
                    return None;
                }
                *told = Some((bits, now));
                Some(Value::from(f64::from_bits(bits)))
            }
            Self::Histogram(samples) => Some(samples.take()).filter(|v| !v.is_empty()).map(Value::from),
        }
    }
}

/// The value of a gauge, and whether it was set since it was told.
#[derive(Default)]
struct Level {
    bits: AtomicU64,
    set: AtomicBool,
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        GaugeFn::increment(&self.bits, value);
        self.set.store(true, Ordering::Release);
    }

    fn decrement(&self, value: f64) {
        GaugeFn::decrement(&self.bits, value);
        self.set.store(true, Ordering::Release);
    }

    fn set(&self, value: f64) {
        GaugeFn::set(&self.bits, value);
        self.set.store(true, Ordering::Release);
    }
}

/// Values of a histogram: all of them while they fit into one line, else evenly spaced ones in the order in
/// which they came, so that percentiles stay true however many events one batch has.
#[derive(Default)]
struct Samples(Mutex<Sampled>);

#[derive(Default)]
struct Sampled {
    values: Vec<f64>,
    /// Of so many values (2 to this power) one is kept.
    halvings: u32,
    seen: u64,
}

impl Samples {
    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).values
    }
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let mut sampled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stride = 1_u64 << sampled.halvings.min(63);
        let turn = sampled.seen.is_multiple_of(stride);
        sampled.seen += 1;
        if !turn {
            return;
        }
        if sampled.values.len() == MAX_VALUES {
            let mut at = 0;
            sampled.values.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            sampled.halvings += 1;
        }
        sampled.values.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(what: impl FnOnce()) -> (Emf, Vec<Value>) {
        let emf = Emf::new("detect");
        metrics::with_local_recorder(&emf, what);
        let lines = emf.lines(1_700_000_000_000);
        (emf, lines)
    }

    #[test]
    fn a_line_is_what_the_specification_asks_for() {
        let (emf, lines) = counted(|| {
            sentinel_telemetry::metrics::describe();
            sentinel_telemetry::metrics::events(3);
            sentinel_telemetry::metrics::events(4);
            sentinel_telemetry::metrics::event_delay(42.5);
            sentinel_telemetry::metrics::alert("high");
            sentinel_telemetry::error("outbox");
        });
        assert_eq!(
            lines,
            [
                json!({
                    "_aws": { "Timestamp": 1_700_000_000_000_u64, "CloudWatchMetrics": [{
                        "Namespace": "CloudSentinel", "Dimensions": [["level", "stage"]],
                        "Metrics": [{ "Name": "sentinel_alerts_total", "Unit": "Count" }] }] },
                    "level": "high", "stage": "detect", "sentinel_alerts_total": 1
                }),
                json!({
                    "_aws": { "Timestamp": 1_700_000_000_000_u64, "CloudWatchMetrics": [{
                        "Namespace": "CloudSentinel", "Dimensions": [["stage"]],
                        "Metrics": [
                            { "Name": "sentinel_event_delay_seconds", "Unit": "Seconds" },
                            { "Name": "sentinel_events_total", "Unit": "Count" }] }] },
                    "stage": "detect", "sentinel_event_delay_seconds": [42.5], "sentinel_events_total": 7
                }),
                json!({
                    "_aws": { "Timestamp": 1_700_000_000_000_u64, "CloudWatchMetrics": [{
                        "Namespace": "CloudSentinel", "Dimensions": [["stage"]],
                        "Metrics": [{ "Name": "sentinel_errors_total", "Unit": "Count" }] }] },
                    "stage": "outbox", "sentinel_errors_total": 1
                }),
            ]
        );
        assert!(emf.lines(0).is_empty(), "what was told is not told again");
    }

    #[test]
    fn gauges_are_told_when_they_change_and_once_a_minute_even_when_zero_while_they_are_set() {
        let (emf, lines) = counted(|| metrics::gauge!("alarm").set(0.0));
        assert_eq!(lines[0]["alarm"], 0.0);
        let minute = |n: u64| 1_700_000_000_000 + n * GAUGE_MILLISECONDS;
        let set = |value: f64| metrics::with_local_recorder(&emf, || metrics::gauge!("alarm").set(value));
        set(0.0);
        assert!(emf.lines(minute(1) - 1).is_empty());
        assert!(emf.lines(minute(1)).is_empty(), "what was set long ago is not told as of now");
        set(0.0);
        assert_eq!(emf.lines(minute(1))[0]["alarm"], 0.0);
        set(1.0);
        assert_eq!(emf.lines(minute(1) + 1)[0]["alarm"], 1.0);
        assert!(emf.lines(minute(1) + 2).is_empty());
        assert!(emf.lines(minute(9)).is_empty(), "nobody set it: an alarm has to see that");
        set(1.0);
        assert_eq!(emf.lines(minute(9) + 1)[0]["alarm"], 1.0);
    }

    #[test]
    fn more_values_than_fit_are_thinned_evenly() {
        let (emf, lines) = counted(|| {
            let histogram = metrics::histogram!("delay");
            (0..100_000).for_each(|i| histogram.record(f64::from(i)));
            histogram.record(f64::NAN);
        });
        let values: Vec<f64> = serde_json::from_value(lines[0]["delay"].clone()).unwrap();
        assert!(values.len() > 40 && values.len() <= MAX_VALUES, "{}", values.len());
        let steps: Vec<f64> = values.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(steps.iter().all(|s| (s - steps[0]).abs() < 0.5), "{steps:?}");
        assert!(values[values.len() - 1] > 90_000.0 && values[0] == 0.0);
        metrics::with_local_recorder(&emf, || metrics::histogram!("delay").record(5.0));
        assert_eq!(emf.lines(0)[0]["delay"], json!([5.0]), "a new batch is thinned anew");
    }

    #[test]
    fn one_name_of_two_kinds_breaks_nothing() {
        let (_, lines) = counted(|| {
            metrics::counter!("twice").increment(1);
            metrics::gauge!("twice").set(5.0);
        });
        assert_eq!(lines[0]["twice"], 1);
    }

    #[test]
    fn a_flush_writes_one_json_object_a_line() {
        let emf = Emf::new("enrich");
        metrics::with_local_recorder(&emf, || {
            metrics::counter!("a", "kind" => "x").increment(1);
            metrics::counter!("a", "kind" => "y").increment(2);
        });
        let mut out = Vec::new();
        emf.flush(&mut out).unwrap();
        let lines: Vec<Value> =
            String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|l| l["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000));
    }
}
