//! Times on the wires: seconds since 1970 (JSON), ISO 8601 (XML, Query), RFC 9110 dates.

use std::str::FromStr as _;

use crate::clock::Timestamp;

/// The canonical form of a time.
#[must_use]
pub(crate) fn seconds(time: Timestamp) -> serde_json::Value {
    // Milliseconds since 1970 stay exact in a double until the year 287396.
    #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
    super::check::seconds_value(time.millis() as f64 / 1000.0)
}

/// Seconds since 1970 of an ISO 8601 time, or of a number in text.
pub(crate) fn parse(text: &str) -> Option<f64> {
    if let Ok(time) = jiff::Timestamp::from_str(text) {
        #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
        return Some(time.as_millisecond() as f64 / 1000.0);
    }
    text.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

/// `2026-01-02T03:04:05.678Z`: ISO 8601 with milliseconds, as the Query services write it.
pub(crate) fn iso(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let millis = (seconds * 1000.0).round() as i64;
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_what_they_print() {
        assert_eq!(iso(1_700_000_000.25), "2023-11-14T22:13:20.250Z");
        assert_eq!(parse("2023-11-14T22:13:20.250Z"), Some(1_700_000_000.25));
        assert_eq!(parse("1700000000.25"), Some(1_700_000_000.25));
        for text in ["", "yesterday", "NaN", "2023-13-01T00:00:00Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
