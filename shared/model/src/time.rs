//! Event time: reading it in the forms that logs use, and cutting it into windows by the UTC clock.

use jiff::{SignedDuration, tz::TimeZone};

/// An instant in UTC; RFC 3339 when written.
pub use jiff::Timestamp;

/// Reads an event time: RFC 3339 (`2024-07-30T21:31:21Z`, with or without an offset or fraction), the
/// replay form with a space and no zone (`2022-09-27 17:09:18`, taken as UTC), or epoch seconds or
/// milliseconds as digits. `None` when it is none of these.
pub fn parse_event_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(t) = text.parse::<Timestamp>() {
        return Some(t);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return epoch(text.parse().ok()?);
    }
    let civil: jiff::civil::DateTime = text.trim_end_matches('Z').trim_end_matches(" UTC").parse().ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp())
}

/// Reads an epoch number: seconds, or milliseconds when it is too large for seconds of this century.
pub fn epoch(number: i64) -> Option<Timestamp> {
    const LAST_SECOND_OF_2199: i64 = 7_258_118_399;
    if number.abs() <= LAST_SECOND_OF_2199 {
        Timestamp::from_second(number).ok()
    } else {
        Timestamp::from_millisecond(number).ok()
    }
}

/// Start of the window of `minutes` that holds `t`: whole multiples of the window since the Unix epoch,
/// so that every process cuts the same windows. Zero minutes count as one.
pub fn window_start(t: Timestamp, minutes: u32) -> Timestamp {
    let width = i64::from(minutes.max(1)) * 60;
    let start = t.as_second().div_euclid(width) * width;
    Timestamp::from_second(start).unwrap_or(Timestamp::MIN)
}

/// `t` plus whole seconds, held within what a timestamp can hold.
pub fn plus_seconds(t: Timestamp, seconds: i64) -> Timestamp {
    let limit = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    t.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(limit)
}

/// Whole seconds from `earlier` to `later`; negative when they are the other way round.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.as_second() - earlier.as_second()
}

/// The UTC day of `t` as `YYYY-MM-DD`.
pub fn utc_day(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_seen_in_logs() {
        for text in
            ["2022-09-27T17:09:18Z", "2022-09-27 17:09:18", "2022-09-27T19:09:18+02:00", "1664298558", "1664298558000"]
        {
            assert_eq!(parse_event_time(text).unwrap().to_string(), "2022-09-27T17:09:18Z", "{text}");
        }
        for text in ["", "yesterday", "2022-13-01 00:00:00"] {
            assert_eq!(parse_event_time(text), None, "{text}");
        }
    }

    #[test]
    fn windows_follow_the_utc_clock() {
        let t = parse_event_time("2022-09-27T17:59:59Z").unwrap();
        assert_eq!(window_start(t, 60).to_string(), "2022-09-27T17:00:00Z");
        assert_eq!(window_start(plus_seconds(t, 1), 60).to_string(), "2022-09-27T18:00:00Z");
    }

    #[test]
    fn windows_before_1970_do_not_round_towards_zero() {
        let t = Timestamp::from_second(-1).unwrap();
        assert_eq!(window_start(t, 60).as_second(), -3600);
    }
}
