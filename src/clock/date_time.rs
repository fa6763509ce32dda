use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A text is not a date or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseDateTimeError {
    /// The text is neither a date nor an RFC 3339 time.
    Malformed,
    /// The text has the form of a date or time that does not exist.
    Nonexistent,
    /// The time is after the year 9999.
    OutOfRange,
}

/// Parses a date or time as a start. A date starts at midnight UTC.
#[cfg(any(feature = "file", test))]
pub(crate) fn parse_start(text: &str) -> Result<SystemTime, ParseDateTimeError> {
    parse(text, 0)
}

/// Parses a date or time as an end. A date ends at the next midnight UTC.
pub(crate) fn parse_end(text: &str) -> Result<SystemTime, ParseDateTimeError> {
    parse(text, 1)
}

/// Returns whether the time is midnight UTC, as the expiry at the end of a day is.
pub(crate) fn is_midnight(time: SystemTime) -> bool {
    let day = Duration::from_secs(24 * 60 * 60).as_nanos();
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() % day == 0,
        Err(before) => before.duration().as_nanos() % day == 0,
    }
}

fn parse(text: &str, days_after_date: i64) -> Result<SystemTime, ParseDateTimeError> {
    // jiff parses more than is documented here, such as `2026-1-2` and times without an offset.
    let shape = shape(text);
    let time: Timestamp = if shape == "0000-00-00" {
        let date: Date = text.parse().map_err(|_| ParseDateTimeError::Nonexistent)?;
        let date = date
            .checked_add(days_after_date.days())
            .map_err(|_| ParseDateTimeError::OutOfRange)?;
        let midnight = date.to_zoned(TimeZone::UTC);
        midnight
            .map_err(|_| ParseDateTimeError::OutOfRange)?
            .timestamp()
    } else if is_rfc_3339(&shape) {
        text.parse().map_err(|_| ParseDateTimeError::Nonexistent)?
    } else {
        return Err(ParseDateTimeError::Malformed);
    };
    Ok(time.into())
}

/// Returns the text in upper case with every digit replaced by `0`.
fn shape(text: &str) -> String {
    text.to_ascii_uppercase()
        .replace(|char: char| char.is_ascii_digit(), "0")
}

fn is_rfc_3339(shape: &str) -> bool {
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else {
        return false;
    };
    let offset = match rest.strip_prefix(".0") {
        Some(fraction) => fraction.trim_start_matches('0'),
        None => rest,
    };
    matches!(offset, "Z" | "+00:00" | "-00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates_start_at_midnight_and_end_at_the_next() {
        assert_eq!(parse_start("2027-01-31"), Ok(at(1_801_353_600)));
        assert_eq!(parse_end("2027-01-31"), Ok(at(1_801_440_000)));
        assert_eq!(
            parse_end("2028-02-28"),
            parse_start("2028-02-29"),
            "a leap year"
        );
        assert_eq!(parse_end("2027-12-31"), parse_start("2028-01-01"));
    }

    #[test]
    fn rfc_3339_times_have_the_same_start_and_end() {
        for text in [
            "2027-01-31T00:00:00Z",
            "2027-01-31t00:00:00z",
            "2027-01-31T02:00:00+02:00",
            "2027-01-30T18:30:00.000-05:30",
            "2027-01-31T00:00:00.000000Z",
        ] {
            assert_eq!(parse_start(text), Ok(at(1_801_353_600)), "{text}");
            assert_eq!(parse_end(text), Ok(at(1_801_353_600)), "{text}");
        }
    }

    #[test]
    fn rejects_malformed_dates() {
        for text in [
            "",
            "tomorrow",
            "30d",
            "2026-1-2",
            "2026-02-30",
            "2027-02-29",
            "2026-13-01",
            "2026-00-10",
            "26-01-02",
            "+002026-01-02",
            "2026-01-02 ",
            " 2026-01-02",
            "2026/01/02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T24:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-02T03:04:05+0200",
            "2026-01-02T03:04:05+02",
            "2026-01-02T03:04:05Z[UTC]",
            "2026-01-02T03:04:05é",
            "２０２６-01-02",
        ] {
            let error = parse_end(text).expect_err(text);
            assert_ne!(error, ParseDateTimeError::OutOfRange, "{text}");
        }
        for (text, error) in [
            ("2026-1-2", ParseDateTimeError::Malformed),
            ("2026-01-02T03:04:05", ParseDateTimeError::Malformed),
            ("2026-02-30", ParseDateTimeError::Nonexistent),
            ("2026-02-30T00:00:00Z", ParseDateTimeError::Nonexistent),
        ] {
            assert_eq!(parse_end(text), Err(error), "{text}");
        }
    }

    #[test]
    fn rejects_dates_beyond_the_supported_range() {
        assert!(parse_start("9999-12-30").is_ok());
        assert_eq!(parse_end("9999-12-31"), Err(ParseDateTimeError::OutOfRange));
    }

    #[test]
    fn midnight_is_the_end_of_a_day_before_and_after_the_epoch() {
        let day = Duration::from_secs(86_400);
        for time in [at(0), at(86_400), parse_end("2027-01-31").expect("a date")] {
            assert!(is_midnight(time) && is_midnight(time - day));
            assert!(!is_midnight(time + Duration::from_millis(1)));
            assert!(!is_midnight(time - Duration::from_secs(3_600)));
        }
    }
}
