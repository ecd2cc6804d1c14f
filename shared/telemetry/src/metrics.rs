//! The metrics: their names, what they mean, and one function for each way of counting, so that no stage
//! spells a name or a label by itself.
//!
//! Counting costs next to nothing where no recorder is installed.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Events accepted by ingest.
pub const EVENTS: &str = "sentinel_events_total";
/// Seconds from an event's time to its arrival.
pub const EVENT_DELAY: &str = "sentinel_event_delay_seconds";
/// Alerts raised, by `level`.
pub const ALERTS: &str = "sentinel_alerts_total";
/// Failures that will be tried again or were given up, by `stage`.
pub const ERRORS: &str = "sentinel_errors_total";
/// Seconds that models took for a batch of events.
pub const MODEL_TIME: &str = "sentinel_model_seconds";
/// Pieces of input that are no record.
pub const MALFORMED: &str = "sentinel_malformed_total";
/// Copies of a record that was there already.
pub const DUPLICATES: &str = "sentinel_duplicates_total";
/// Records with a known id and other content.
pub const CONFLICTING: &str = "sentinel_conflicting_total";
/// Records set aside because their account is not the one that sent them.
pub const SET_ASIDE: &str = "sentinel_set_aside_total";
/// Containment actions, by `kind` and `state`.
pub const ACTIONS: &str = "sentinel_actions_total";
/// Notifications, by `channel` and `outcome`.
pub const NOTIFICATIONS: &str = "sentinel_notifications_total";
/// Objects of a trail's bucket that are not read, by `kind`.
pub const SKIPPED_OBJECTS: &str = "sentinel_skipped_objects_total";
/// Messages that a crash had left in the outbox.
pub const OUTBOX_RELAYED: &str = "sentinel_outbox_relayed_total";
/// Rule hits that an operator's exception took, by `exception`.
pub const SUPPRESSED: &str = "sentinel_suppressed_total";
/// Alerts of correlations that had to leave events out, by `rule`.
pub const CORRELATION_CAPPED: &str = "sentinel_correlation_capped_total";
/// Sources that used to deliver and stopped; written in every round of the watch.
pub const SILENT_SOURCES: &str = "sentinel_silent_sources";
/// Polls of the CloudTrail API that have stalled; written in every round of the watch.
pub const STALLED_POLLS: &str = "sentinel_stalled_polls";

/// Whether operators' rules could not be taken over as they are stored: 0 or 1.
pub const RULES_ALARM: &str = "sentinel_rules_alarm";
/// Refused pieces of the operators' rules that were read last.
pub const RULES_REFUSED: &str = "sentinel_rules_refused";

/// Stages whose errors are counted from the start; parts of stages appear with their first error.
const STAGES: [&str; 4] = ["ingest", "detect", "enrich", "respond"];
/// Levels of alerts.
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

/// Every counter and histogram: name, whether it is a histogram of seconds (else a counter), meaning.
pub const ALL: [(&str, bool, &str); 15] = [
    (EVENTS, false, "Events accepted by ingest."),
    (EVENT_DELAY, true, "Seconds from an event's time to its arrival at ingest."),
    (ALERTS, false, "Alerts raised, by level."),
    (ERRORS, false, "Failures, by stage."),
    (MODEL_TIME, true, "Seconds that models took for a batch of events."),
    (MALFORMED, false, "Pieces of input that are no record."),
    (DUPLICATES, false, "Copies of a record that was there already."),
    (CONFLICTING, false, "Records with a known id and other content."),
    (SET_ASIDE, false, "Records whose account is not the one that delivered them."),
    (ACTIONS, false, "Containment actions, by kind and state."),
    (NOTIFICATIONS, false, "Notifications, by channel and outcome."),
    (SKIPPED_OBJECTS, false, "Objects of a trail's bucket that are not read, by kind."),
    (OUTBOX_RELAYED, false, "Messages that a crash had left in the outbox."),
    (SUPPRESSED, false, "Rule hits that an operator's exception took, by exception."),
    (CORRELATION_CAPPED, false, "Alerts of correlations that had to leave events out, by rule."),
];

/// Every gauge: name, meaning.
pub const GAUGES: [(&str, &str); 2] = [
    (SILENT_SOURCES, "Sources that used to deliver and stopped."),
    (STALLED_POLLS, "Polls of the CloudTrail API that have stalled."),
];

/// Tells the recorder what each metric means. Called when one is installed.
pub fn describe() {
    for (name, seconds, meaning) in ALL {
        if seconds {
            describe_histogram!(name, Unit::Seconds, meaning);
        } else {
            describe_counter!(name, meaning);
        }
    }
    for (name, meaning) in GAUGES {
        describe_gauge!(name, meaning);
    }
    describe_gauge!(RULES_ALARM, "1 while operators' rules cannot be taken over as they are stored.");
    describe_gauge!(RULES_REFUSED, "Refused pieces of the operators' rules that were read last.");
    // There from the start, so that the first failure and the first alert are seen as an increase.
    for stage in STAGES {
        counter!(ERRORS, "stage" => stage).increment(0);
    }
    for level in LEVELS {
        counter!(ALERTS, "level" => level).increment(0);
    }
}

/// Counts accepted events.
pub fn events(count: u64) {
    counter!(EVENTS).increment(count);
}

/// Records how late an event came, in seconds.
pub fn event_delay(seconds: f64) {
    histogram!(EVENT_DELAY).record(seconds);
}

/// Counts a raised alert.
pub fn alert(level: &str) {
    counter!(ALERTS, "level" => level.to_owned()).increment(1);
}

/// Counts a failure of a stage.
pub fn error(stage: &str) {
    counter!(ERRORS, "stage" => stage.to_owned()).increment(1);
}

/// Counts a rule hit that an exception took.
pub fn suppressed(exception: &str) {
    counter!(SUPPRESSED, "exception" => exception.to_owned()).increment(1);
}

/// Counts an alert of a correlation that had to leave events out.
pub fn correlation_capped(rule: &str) {
    counter!(CORRELATION_CAPPED, "rule" => rule.to_owned()).increment(1);
}

/// Records how long models took for a batch, in seconds.
pub fn model_time(seconds: f64) {
    histogram!(MODEL_TIME).record(seconds);
}

/// Counts malformed pieces of input.
pub fn malformed(count: u64) {
    counter!(MALFORMED).increment(count);
}

/// Counts duplicates.
pub fn duplicates(count: u64) {
    counter!(DUPLICATES).increment(count);
}

/// Counts conflicting records.
pub fn conflicting(count: u64) {
    counter!(CONFLICTING).increment(count);
}

/// Counts records set aside.
pub fn set_aside(count: u64) {
    counter!(SET_ASIDE).increment(count);
}

/// Counts a containment action that reached a state.
pub fn action(kind: &str, state: &str) {
    counter!(ACTIONS, "kind" => kind.to_owned(), "state" => state.to_owned()).increment(1);
}

/// Counts a notification and how it ended.
pub fn notification(channel: &str, outcome: &str) {
    counter!(NOTIFICATIONS, "channel" => channel.to_owned(), "outcome" => outcome.to_owned()).increment(1);
}

/// Counts objects that are not read, by kind.
pub fn skipped_objects(kind: &'static str, count: u64) {
    counter!(SKIPPED_OBJECTS, "kind" => kind).increment(count);
}

/// Counts messages that lay in the outbox and were sent by the watch.
pub fn outbox_relayed(count: u64) {
    counter!(OUTBOX_RELAYED).increment(count);
}

/// Says how many sources are silent.
pub fn silent_sources(count: u64) {
    gauge!(SILENT_SOURCES).set(number(count));
}

/// Says how many polls have stalled.
pub fn stalled_polls(count: u64) {
    gauge!(STALLED_POLLS).set(number(count));
}

/// A count as metrics take it, exact up to 2^32.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Says whether operators' rules could not be taken over as they are stored.
pub fn rules_alarm(raised: bool) {
    gauge!(RULES_ALARM).set(if raised { 1.0 } else { 0.0 });
}

/// Says how many pieces of the operators' rules were refused.
pub fn rules_refused(count: u32) {
    gauge!(RULES_REFUSED).set(f64::from(count));
}
