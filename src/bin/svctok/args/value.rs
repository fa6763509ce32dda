//! Parsers of flag values.

use std::time::{Duration, SystemTime};

use tower_service_token::internal::{has_later_year, parse_duration, parse_start};
use tower_service_token::lifecycle::Expiry;

/// Parses a date or a time.
pub(super) fn expiration(text: &str) -> Result<Expiry, String> {
    if !begins_with_year(text) {
        return Err("not a date such as 2027-01-31; use --expires-in for a duration".to_owned());
    }
    text.parse::<Expiry>().map_err(|error| error.to_string())
}

/// Parses a duration.
pub(super) fn expires_in(text: &str) -> Result<Expiry, String> {
    if begins_with_year(text) {
        return Err("not a duration such as 30d; use --expiration for a date".to_owned());
    }
    text.parse::<Expiry>().map_err(|error| error.to_string())
}

/// Parses a time, or a date as the start of that day in UTC.
pub(super) fn date_or_timestamp(text: &str) -> Result<SystemTime, String> {
    parse_start(text).map_err(|error| error.to_string())
}

/// Parses a [`date_or_timestamp`], or a duration from now.
pub(super) fn from_now(text: &str) -> Result<SystemTime, String> {
    relative(text, SystemTime::checked_add)
}

/// Parses a [`date_or_timestamp`], or a duration before now.
pub(super) fn ago(text: &str) -> Result<SystemTime, String> {
    relative(text, SystemTime::checked_sub)
}

fn relative(
    text: &str,
    shift: fn(&SystemTime, Duration) -> Option<SystemTime>,
) -> Result<SystemTime, String> {
    if has_later_year(text) {
        // Every token would match a filter.
        return Err("the year must not be after 9999".to_owned());
    }
    date_or_timestamp(text).or_else(|error| {
        let duration = duration(text).map_err(|_| format!("{error}, or a duration such as 30d"))?;
        shift(&SystemTime::now(), duration).ok_or_else(|| "the duration is too long".to_owned())
    })
}

/// Parses a duration whose days have 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not KEY=VALUE".to_owned()),
    }
}

fn begins_with_year(text: &str) -> bool {
    let rest = text.trim_start_matches(|char: char| char.is_ascii_digit());
    text.len() - rest.len() >= 4 && rest.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_begin_at_midnight_and_durations_count_from_now() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(date_or_timestamp("2027-01-31"), Ok(at(1_801_353_600)));
        assert_eq!(
            date_or_timestamp("2027-01-31T02:00:00+02:00"),
            Ok(at(1_801_353_600))
        );
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        let (later, earlier) = (from_now("1d").expect("a day"), ago("1d").expect("a day"));
        assert!(later >= now + day && later < now + 2 * day);
        assert!(earlier >= now - day && earlier < now);
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("2w"), Ok(14 * day));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn rejects_malformed_option_values() {
        for text in ["", "1", "-1h", "1mo", "soon", "2027-01-31"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "2027-1-2", "2027-02-30", "2027-01-31T10:00:00", "1d"] {
            assert!(date_or_timestamp(text).is_err(), "{text}");
        }
        for late in ["10000-01-01", "9999-12-31"] {
            assert!(
                expiration(late).is_ok() && expires_in(late).is_err(),
                "{late}"
            );
            assert!(date_or_timestamp(late).is_ok(), "{late}");
        }
        assert!(expires_in("99999999999d").is_ok() && from_now("99999999999d").is_ok());
        for later in ["10000-01-01", "+010000-01-01T00:00:00Z", "20271-01-31"] {
            assert!(from_now(later).is_err() && ago(later).is_err(), "{later}");
        }
        assert!(expiration("30d").is_err() && expires_in("2027-01-31").is_err());
        assert!(label("=x").is_err() && label("x").is_err());
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    }
}
