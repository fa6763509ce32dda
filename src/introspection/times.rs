use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::clock::date_time::END_OF_TIME;

/// How far the clocks of the server and of this process may differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leeway {
    /// For `exp`.
    pub(super) expiry: Duration,
    /// For `nbf` and `iat`.
    pub(super) start: Duration,
}

/// The latest time that can be formatted, in seconds since the epoch.
const LAST: u64 = END_OF_TIME - 1;

impl Default for Leeway {
    fn default() -> Self {
        Self {
            expiry: Duration::ZERO,
            start: Duration::from_secs(5),
        }
    }
}

impl Leeway {
    pub(super) const MAX: Duration = Duration::from_secs(5 * 60);

    pub(super) fn postpone(self, expires_at: SystemTime) -> SystemTime {
        time(LAST).min(expires_at + self.expiry)
    }

    pub(super) fn advance(self, not_before: SystemTime) -> SystemTime {
        let advanced = not_before.checked_sub(self.start);
        advanced.map_or(time(0), |advanced| advanced.max(time(0)))
    }
}

/// Reads a time in seconds since the epoch (RFC 7519 §2), of which `round` rounds a fraction.
pub(super) fn read(value: &Value, is_lenient: bool, round: fn(f64) -> f64) -> Option<SystemTime> {
    let seconds = match value {
        Value::Number(number) => {
            let rounded = || number.as_f64().map(|seconds| saturate(round(seconds)));
            number.as_u64().or_else(rounded)
        }
        // `parse` would accept a sign.
        Value::String(digits) if is_lenient && !digits.starts_with('+') => digits.parse().ok(),
        _ => None,
    };
    seconds.map(time)
}

/// Converts seconds since the epoch. Some servers send a huge number for "never"; it becomes the
/// latest time that can be formatted.
fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}

/// A time before 1970 is in the past, like 1970.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and is of a rounded number"
)]
fn saturate(seconds: f64) -> u64 {
    seconds as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, round: fn(f64) -> f64) -> Option<u64> {
        let value = serde_json::from_str(text).expect(text);
        let time = super::read(&value, false, round)?;
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
        Some(since_epoch.expect("not before 1970").as_secs())
    }

    #[test]
    fn times_are_numbers_and_do_not_overflow() {
        for (text, seconds) in [
            ("1500000000", 1_500_000_000),
            ("1.9e9", 1_900_000_000),
            ("19000000000E-1", 1_900_000_000),
            ("-1", 0),
            ("-1e308", 0),
            ("-9223372036854775808", 0),
            ("18446744073709551615", LAST),
            ("99999999999999999999", LAST),
            ("1e20", LAST),
            ("1e308", LAST),
        ] {
            for round in [f64::floor, f64::ceil] {
                assert_eq!(read(text, round), Some(seconds), "{text}");
            }
        }
        for other in [r#""5""#, r#""1.5""#, "[5]", "true", "{}"] {
            assert_eq!(read(other, f64::floor), None, "{other}");
        }
    }

    #[test]
    fn rounds_fractions() {
        for (text, floor, ceil) in [
            ("1795000000.0", 1_795_000_000, 1_795_000_000),
            ("1795000000.001", 1_795_000_000, 1_795_000_001),
            ("1795000000.999", 1_795_000_000, 1_795_000_001),
            ("0.5", 0, 1),
            ("-0.5", 0, 0),
        ] {
            assert_eq!(read(text, f64::floor), Some(floor), "{text}");
            assert_eq!(read(text, f64::ceil), Some(ceil), "{text}");
        }
    }

    #[test]
    fn leeway_stays_within_the_range_of_times() {
        let leeway = Leeway {
            expiry: Duration::from_secs(10),
            start: Duration::from_secs(10),
        };
        for (seconds, postponed, advanced) in [
            (0, 10, 0),
            (9, 19, 0),
            (100, 110, 90),
            (LAST, LAST, LAST - 10),
        ] {
            assert_eq!(leeway.postpone(time(seconds)), time(postponed));
            assert_eq!(leeway.advance(time(seconds)), time(advanced));
        }
    }
}
