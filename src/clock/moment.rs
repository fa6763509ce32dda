use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A text names no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MomentError {
    /// It is neither a date nor a time of RFC 3339.
    Shape,
    /// It has the form of one that no calendar or clock has.
    Nonexistent,
    /// It is beyond the year 9999.
    TooFar,
}

/// The moment a text names: midnight UTC for a date.
pub(crate) fn start(text: &str) -> Result<SystemTime, MomentError> {
    moment(text, 0)
}

/// The first moment after what a text names: for a date, the next midnight UTC.
pub(crate) fn end(text: &str) -> Result<SystemTime, MomentError> {
    moment(text, 1)
}

fn moment(text: &str, days_after_date: i64) -> Result<SystemTime, MomentError> {
    // jiff reads more than is promised here, such as `2026-1-2` and times without a zone.
    let time: Timestamp = if has_shape(text, b"0000-00-00") {
        let date: Date = text.parse().map_err(|_| MomentError::Nonexistent)?;
        let date = date
            .checked_add(days_after_date.days())
            .map_err(|_| MomentError::TooFar)?;
        let midnight = date.to_zoned(TimeZone::UTC);
        midnight.map_err(|_| MomentError::TooFar)?.timestamp()
    } else if is_rfc_3339(text) {
        text.parse().map_err(|_| MomentError::Nonexistent)?
    } else {
        return Err(MomentError::Shape);
    };
    Ok(time.into())
}

/// `0` stands for any digit; everything else for itself, letters in either case.
fn has_shape(text: &str, shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape).all(|(byte, &shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte.eq_ignore_ascii_case(&shape),
        })
}

fn is_rfc_3339(text: &str) -> bool {
    const SECONDS: &[u8] = b"0000-00-00T00:00:00";
    let Some((seconds, rest)) = text.split_at_checked(SECONDS.len()) else {
        return false;
    };
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let offset = fraction.trim_start_matches(|char: char| char.is_ascii_digit());
            if offset.len() == fraction.len() {
                return false;
            }
            offset
        }
        None => rest,
    };
    let is_offset = has_shape(offset, b"Z")
        || (offset.starts_with(['+', '-']) && has_shape(&offset[1..], b"00:00"));
    has_shape(seconds, SECONDS) && is_offset
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_date_begins_at_midnight_and_lasts_through_its_end() {
        assert_eq!(start("2027-01-31"), Ok(at(1_801_353_600)));
        assert_eq!(end("2027-01-31"), Ok(at(1_801_440_000)));
        assert_eq!(end("2028-02-28"), start("2028-02-29"), "a leap year");
        assert_eq!(end("2027-12-31"), start("2028-01-01"));
    }

    #[test]
    fn a_time_is_that_time_whichever_way_it_is_asked_for() {
        for text in [
            "2027-01-31T00:00:00Z",
            "2027-01-31t00:00:00z",
            "2027-01-31T02:00:00+02:00",
            "2027-01-30T18:30:00.000-05:30",
            "2027-01-31T00:00:00.000000Z",
        ] {
            assert_eq!(start(text), Ok(at(1_801_353_600)), "{text}");
            assert_eq!(end(text), Ok(at(1_801_353_600)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_and_no_rfc_3339_time_is_refused() {
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
            let error = end(text).expect_err(text);
            assert_ne!(error, MomentError::TooFar, "{text}");
        }
        for (text, error) in [
            ("2026-1-2", MomentError::Shape),
            ("2026-01-02T03:04:05", MomentError::Shape),
            ("2026-02-30", MomentError::Nonexistent),
            ("2026-02-30T00:00:00Z", MomentError::Nonexistent),
        ] {
            assert_eq!(end(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_day_after_the_last_one_is_an_overflow_and_no_wrap() {
        assert!(start("9999-12-30").is_ok());
        assert_eq!(end("9999-12-31"), Err(MomentError::TooFar));
    }
}
