//! When a source counts as silent: a pure function of its heartbeats and the time.
//!
//! Sources differ: a busy Region delivers every few minutes, a quiet one twice a day. So the longest pause that
//! a source made of itself decides, and a fixed time only where that is shorter. CloudTrail promises nothing
//! of a Region in which nothing happens, so a source without enough history is not judged.

use sentinel_model::{Timestamp, time};
use sentinel_state::sources::Heartbeat;

/// Seconds of history that a source must have before its silence means anything.
pub const HISTORY_SECONDS: i64 = 3_600;
/// How much longer than its longest pause a source must be quiet.
const PAUSES: i64 = 3;
/// Most seconds that a source's own pauses can ask for.
const CAP_SECONDS: i64 = 86_400;

/// Seconds of quiet from which a source counts as silent.
pub fn threshold(heartbeat: &Heartbeat, silence_minutes: u32) -> i64 {
    let own = heartbeat.longest_pause().saturating_mul(PAUSES).min(CAP_SECONDS);
    own.max(i64::from(silence_minutes) * 60)
}

/// Whether a source that used to deliver has been quiet for too long.
pub fn is_silent(heartbeat: &Heartbeat, silence_minutes: u32, now: Timestamp) -> bool {
    let quiet = time::seconds_between(heartbeat.last_seen, now);
    heartbeat.history() >= HISTORY_SECONDS && quiet > threshold(heartbeat, silence_minutes)
}

#[cfg(test)]
mod tests {
    use sentinel_state::sources::{Delivery, Source};

    use super::*;

    fn heartbeat(history: i64, pauses: &[i64]) -> Heartbeat {
        let last_seen: Timestamp = "2024-05-06T08:00:00Z".parse().unwrap();
        let source = Source { account: "111122223333".into(), region: "eu-west-1".into(), delivery: Delivery::Bus };
        Heartbeat {
            source,
            first_seen: time::plus_seconds(last_seen, -history),
            last_seen,
            pauses: pauses.iter().enumerate().map(|(i, pause)| (format!("2024-05-0{}", i + 1), *pause)).collect(),
            silent_since: None,
            silence_ended: None,
        }
    }

    #[test]
    fn the_longest_pause_sets_the_threshold_between_the_setting_and_a_day() {
        for (pauses, wanted) in [
            (&[][..], 3_600),
            (&[600, 300], 3_600),
            (&[600, 7_200, 300], 21_600),
            (&[40_000], 86_400),
            (&[i64::MAX], 86_400),
        ] {
            assert_eq!(threshold(&heartbeat(86_400, pauses), 60), wanted, "{pauses:?}");
        }
        assert_eq!(threshold(&heartbeat(86_400, &[40_000]), 2 * 24 * 60), 2 * 86_400, "a longer setting is obeyed");
    }

    #[test]
    fn a_source_is_silent_once_the_threshold_has_passed_and_only_with_a_history() {
        let known = heartbeat(HISTORY_SECONDS, &[300]);
        let at = |seconds| time::plus_seconds(known.last_seen, seconds);
        assert!(!is_silent(&known, 60, at(0)));
        assert!(!is_silent(&known, 60, at(3_600)));
        assert!(is_silent(&known, 60, at(3_601)));
        assert!(!is_silent(&known, 60, at(-100)), "a clock that went back");
        assert!(!is_silent(&heartbeat(HISTORY_SECONDS - 1, &[300]), 60, at(80_000)));
    }
}
