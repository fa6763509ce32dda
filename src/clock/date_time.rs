use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::fmt::temporal::DateTimePrinter;

const DAY: Duration = Duration::from_secs(86_400);

/// The start of the year 0, before which RFC 3339 has no times.
const YEAR_0: Timestamp = Timestamp::constant(-62_167_219_200, 0);

/// The last second of RFC 3339.
const LAST_SECOND: &str = "9999-12-31T23:59:59Z";

/// The digits of the longest year that Java prints.
const MAX_YEAR_DIGITS: usize = 10;

/// A text is not a date or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDateTimeError {
    /// The text is neither a date nor an RFC 3339 time.
    #[error("not a date such as 2027-01-31 or a time such as 2027-01-31T12:00:00Z")]
    Malformed,
    /// The text has the form of a date or time that does not exist.
    #[error("there is no such date or time")]
    Nonexistent,
}

/// The end of time, in seconds since the epoch: that of the year 9999, after which RFC 3339 has no
/// times.
pub(crate) const END_OF_TIME: u64 = 253_402_300_800;

/// Returns the [end of time](END_OF_TIME).
pub(crate) fn end_of_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(END_OF_TIME)
}

/// Formats a time as RFC 3339. The end of time is the last second, because it has no
/// format of its own. Returns `None` for times before the year 0.
pub fn format(time: SystemTime) -> Option<String> {
    let mut text = String::new();
    push(time, &mut text).map(|()| text)
}

/// Appends a time as [`format()`] does.
pub(crate) fn push(time: SystemTime, text: &mut String) -> Option<()> {
    if time >= end_of_time() {
        text.push_str(LAST_SECOND);
        return Some(());
    }
    let exact = Timestamp::try_from(time).ok();
    // jiff has no timestamps on the last day, because a time zone could move them beyond the
    // year 9999.
    let earlier = || Timestamp::try_from(time.checked_sub(10 * DAY)?).ok();
    let printable = exact.or_else(earlier).filter(|time| *time >= YEAR_0)?;
    let start = text.len();
    let printed = DateTimePrinter::new().print_timestamp(&printable, &mut *text);
    printed.expect("a string accepts any text");
    if exact.is_none() {
        text.replace_range(start..start + "9999-12-2".len(), "9999-12-3");
    }
    Some(())
}

/// Returns the time, or the [end of time](end_of_time) if it is the last second or later.
pub(crate) fn clamp(time: SystemTime) -> SystemTime {
    let end = end_of_time();
    if time < end - Duration::from_secs(1) {
        time
    } else {
        end
    }
}

/// Returns the day, UTC, of the moment before this time, as `yyyy-MM-dd`.
pub(crate) fn last_day(end: SystemTime) -> Option<String> {
    let last = format(end.checked_sub(Duration::from_millis(1))?)?;
    last.split_once('T').map(|(date, _)| date.to_owned())
}

/// Parses a date or time as a start. A date starts at midnight UTC.
///
/// The last second of the year 9999 and later times are the end of that year: those of the year 10000,
/// and those with a sign before a longer year, as ISO 8601 requires. Other years of five or more
/// digits are more likely a typing error.
///
/// # Errors
///
/// Returns an error if the text is neither.
pub fn parse_start(text: &str) -> Result<SystemTime, ParseDateTimeError> {
    parse(text, 0)
}

/// Parses a date or time as an end. A date ends at the next midnight UTC.
pub(crate) fn parse_end(text: &str) -> Result<SystemTime, ParseDateTimeError> {
    parse(text, 1)
}

/// Returns whether the time is midnight UTC, as the expiry at the end of a day is.
pub(crate) fn is_midnight(time: SystemTime) -> bool {
    let day = DAY.as_nanos();
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() % day == 0,
        Err(before) => before.duration().as_nanos() % day == 0,
    }
}

fn parse(text: &str, days_after_date: i32) -> Result<SystemTime, ParseDateTimeError> {
    if let Some(text) = with_equivalent_year(text) {
        // jiff's calendar ends in 9999. Check the date in an equivalent year.
        return parse(&text, days_after_date).map(|_| end_of_time());
    }
    // jiff parses more than is documented here, such as `2026-1-2` and times without an offset.
    let shape = shape(text);
    let time = if shape == "0000-00-00" {
        let date: Date = text.parse().map_err(|_| ParseDateTimeError::Nonexistent)?;
        midnight(date, days_after_date)
    } else if is_rfc_3339(&shape) {
        parse_time(text)
    } else {
        return Err(ParseDateTimeError::Malformed);
    };
    Ok(clamp(time.ok_or(ParseDateTimeError::Nonexistent)?))
}

/// Returns whether a text begins with a year after 9999.
#[cfg(feature = "api")]
pub fn has_later_year(text: &str) -> bool {
    with_equivalent_year(text).is_some()
}

/// Replaces a year after 9999 with one that has the same calendar, which repeats every 400 years.
/// Returns `None` for other years.
fn with_equivalent_year(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = unsigned.split_at(digits);
    let is_signed = unsigned.len() < text.len();
    if digits > MAX_YEAR_DIGITS || !(is_signed || year == "10000") {
        return None;
    }
    let year: u64 = year.parse().ok()?;
    (year > 9_999).then(|| format!("{}{rest}", 2_000 + year % 400))
}

/// Returns the start of a day this many days after the date.
fn midnight(day: Date, days_after: i32) -> Option<SystemTime> {
    let days = day.since(date(1970, 1, 1)).ok()?.get_days() + days_after;
    let distance = DAY * days.unsigned_abs();
    if days < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

fn parse_time(text: &str) -> Option<SystemTime> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.into());
    }
    // See `format`. Another day keeps its digit out of the calendar.
    let rest = text.strip_prefix("9999-12-3")?;
    let earlier = format!("9999-12-2{rest}");
    let time = earlier.parse::<Timestamp>().ok()?;
    let is_day = rest.starts_with(['0', '1']);
    is_day.then(|| SystemTime::from(time) + 10 * DAY)
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
            assert!(parse_end(text).is_err(), "{text}");
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
    fn last_day_of_the_calendar_is_exact_and_its_last_second_is_the_end_of_time() {
        let end = end_of_time();
        assert_eq!(parse_start("9999-12-31"), Ok(end - DAY));
        assert_eq!(parse_end("9999-12-30"), Ok(end - DAY));
        for text in [
            "9999-12-31T23:59:59Z",
            "9999-12-31t23:59:59.999999999z",
            "9999-12-31T23:59:60Z",
            "9999-12-31T23:59:59-12:00",
            "9999-12-31T11:59:59-12:00",
        ] {
            assert_eq!(parse_end(text), Ok(end), "{text}");
            assert_eq!(parse_start(text), Ok(end), "{text}");
        }
        assert_eq!(parse_end("9999-12-31"), Ok(end));
        let hour = Duration::from_secs(3_600);
        for (text, before) in [
            ("9999-12-30T21:59:59Z", 26 * hour + Duration::from_secs(1)),
            ("9999-12-30T22:30:00Z", 51 * hour / 2),
            (
                "9999-12-31T12:00:00.5Z",
                Duration::from_millis(12 * 3_600_000 - 500),
            ),
            ("9999-12-31T23:59:58Z", Duration::from_secs(2)),
        ] {
            assert_eq!(parse_end(text), Ok(end - before), "{text}");
            assert_eq!(format(end - before).as_deref(), Some(text));
        }
        assert_eq!(parse_end("9999-12-31T23:00:00+23:00"), Ok(end - 24 * hour));
        for text in ["9999-12-32", "9999-12-32T00:00:00Z", "9999-12-39T00:00:00Z"] {
            assert_eq!(
                parse_end(text),
                Err(ParseDateTimeError::Nonexistent),
                "{text}"
            );
        }
        for time in [end, end + DAY, end + 1_000_000 * DAY] {
            assert_eq!(format(time).as_deref(), Some(LAST_SECOND));
        }
    }

    #[test]
    fn years_after_9999_are_the_end_of_time() {
        let end = end_of_time();
        for text in [
            "10000-01-01",
            "10000-02-29",
            "10000-01-01T00:00:00Z",
            "10000-06-30t12:00:00.5+02:00",
            // As JavaScript and Java print them.
            "+010000-01-01T00:00:00.000Z",
            "+275760-09-13T00:00:00.000Z",
            "+10000-01-01",
            "+12000-02-29",
            "+1000000000-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(parse_end(text), Ok(end), "{text}");
            assert_eq!(parse_start(text), Ok(end), "{text}");
        }
        for (text, error) in [
            ("10000-02-30", ParseDateTimeError::Nonexistent),
            ("+10001-02-29", ParseDateTimeError::Nonexistent),
            ("+010000-01-01T24:00:00Z", ParseDateTimeError::Nonexistent),
            ("10000-13-01", ParseDateTimeError::Nonexistent),
            ("10000-01-01T24:00:00Z", ParseDateTimeError::Nonexistent),
            ("10000-1-1", ParseDateTimeError::Malformed),
            ("010000-01-01", ParseDateTimeError::Malformed),
            ("+2027-01-01", ParseDateTimeError::Malformed),
            ("+002027-01-01", ParseDateTimeError::Malformed),
            ("+10000000000-01-01", ParseDateTimeError::Malformed),
            ("-10000-01-01", ParseDateTimeError::Malformed),
            ("++10000-01-01", ParseDateTimeError::Malformed),
            ("+", ParseDateTimeError::Malformed),
            ("20271-01-31", ParseDateTimeError::Malformed),
            ("12027-01-31", ParseDateTimeError::Malformed),
            ("10001-01-01", ParseDateTimeError::Malformed),
            ("20270131-01-01", ParseDateTimeError::Malformed),
            ("20271-01-31T00:00:00Z", ParseDateTimeError::Malformed),
            ("99999999999999999999-12-31", ParseDateTimeError::Malformed),
            ("10000-01-01T00:00:00", ParseDateTimeError::Malformed),
            ("10000", ParseDateTimeError::Malformed),
            ("100000102", ParseDateTimeError::Malformed),
        ] {
            assert_eq!(parse_end(text), Err(error), "{text}");
        }
    }

    #[test]
    fn formats_times_from_the_year_0() {
        assert_eq!(format(at(0)).as_deref(), Some("1970-01-01T00:00:00Z"));
        let first = parse_start("0000-01-01").expect("a date");
        assert_eq!(format(first).as_deref(), Some("0000-01-01T00:00:00Z"));
        assert_eq!(format(first - Duration::from_nanos(1)), None);
        assert_eq!(format(first - DAY), None);
        assert_eq!(format(first - 10_000_000 * DAY), None);
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
