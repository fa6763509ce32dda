use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::clock::date_time::{self, ParseDateTimeError};
use crate::clock::duration::ParsedSpan;

/// When a token expires: never, at a time, or after a duration.
///
/// [`FromStr`] parses
///
/// 1. a date, `2027-01-31`: through the end of that day, UTC;
/// 2. an RFC 3339 time with an offset, `2027-01-31T12:00:00Z`;
/// 3. an ISO 8601 duration, `P30D` or `PT12H`, or jiff's friendly format: `30d`, `12h`, `1y 6mo`.
///    Days, months and years are calendar units, UTC.
///
/// serde reads these texts, and `null` as [`NEVER`](Self::NEVER), as the management API does. It
/// writes a time as RFC 3339 and a duration as ISO 8601, so that a duration stays relative. In an
/// `Option<Expiry>`, `null` is `None`.
///
/// The year 9999 is the last one: its last second and every later expiry, also as a duration, mean the
/// end of 9999-12-31. Of the years of more digits, only 10000 and those with a sign are accepted, as in
/// `+12027-01-31`.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_service_token::lifecycle::{Expiry, last_day};
///
/// let now = SystemTime::UNIX_EPOCH;
/// let expiry: Expiry = "1970-01-30".parse()?;
/// let expires_at = expiry.resolve(now)?.expect("not never");
/// assert_eq!(expires_at, now + Duration::from_secs(30 * 86_400));
/// assert_eq!(last_day(expires_at).as_deref(), Some("1970-01-30"));
///
/// let expiry: Expiry = "30d".parse()?;
/// assert_eq!(expiry.resolve(now)?, Some(expires_at));
/// # Ok::<_, tower_service_token::lifecycle::ExpiryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Expiry(pub(crate) ExpiryKind);

#[derive(Clone, Debug)]
pub(crate) enum ExpiryKind {
    Never,
    At(SystemTime),
    After(Span),
}

impl Expiry {
    /// The token never expires.
    pub const NEVER: Self = Self(ExpiryKind::Never);

    /// Creates an expiry at this time.
    pub fn at(time: SystemTime) -> Self {
        Self(ExpiryKind::At(time))
    }

    /// Creates an expiry this long after the token is created or its expiry is changed, to the
    /// millisecond.
    pub fn after(duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let span = Span::new().try_milliseconds(millis);
        // A duration too long for a span is out of range for a date as well.
        Self(ExpiryKind::After(span.unwrap_or(Span::new().years(19_998))))
    }

    /// Returns whether this is the expiry that a token has.
    pub(super) fn is(&self, expires_at: Option<SystemTime>) -> bool {
        match &self.0 {
            ExpiryKind::Never => expires_at.is_none(),
            ExpiryKind::At(time) => expires_at == Some(*time),
            ExpiryKind::After(_) => false,
        }
    }

    /// Returns the time of expiry for a token that is created now, or `None` if it never expires.
    ///
    /// # Errors
    ///
    /// Returns an error if the time is not in the future.
    pub fn resolve(&self, now: SystemTime) -> Result<Option<SystemTime>, ExpiryError> {
        match &self.0 {
            ExpiryKind::Never => Ok(None),
            ExpiryKind::At(time) if *time <= now => Err(ExpiryError::Past),
            ExpiryKind::At(time) => Ok(Some(date_time::clamp(*time))),
            ExpiryKind::After(span) => {
                check_span(span)?;
                let end = Timestamp::try_from(now)
                    .and_then(|now| now.to_zoned(TimeZone::UTC).checked_add(*span));
                let end = end.map(|end| SystemTime::from(end.timestamp()));
                Ok(Some(end.map_or_else(
                    |_| date_time::end_of_time(),
                    date_time::clamp,
                )))
            }
        }
    }
}

impl FromStr for Expiry {
    type Err = ExpiryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match date_time::parse_end(text) {
            Ok(time) => return Ok(Self::at(time)),
            Err(ParseDateTimeError::Nonexistent) => return Err(ExpiryError::NoSuchDate),
            Err(ParseDateTimeError::Malformed) => {}
        }
        match ParsedSpan::parse(text).ok_or(ExpiryError::Malformed)? {
            ParsedSpan::Exact(span) => {
                check_span(&span)?;
                Ok(Self(ExpiryKind::After(span)))
            }
            ParsedSpan::OutOfRange(span) => {
                check_span(&span)?;
                Ok(Self::at(date_time::end_of_time()))
            }
        }
    }
}

fn check_span(span: &Span) -> Result<(), ExpiryError> {
    match span.signum() {
        0 => Err(ExpiryError::Zero),
        -1 => Err(ExpiryError::Negative),
        _ => Ok(()),
    }
}

/// Returns the last day, UTC, on which a token with this expiry is valid, as `yyyy-MM-dd`. For an
/// expiry that was given as a date, that is the date. Returns `None` before the year 0.
pub fn last_day(expires_at: SystemTime) -> Option<String> {
    date_time::last_day(expires_at)
}

/// Returns the date of an expiry that was given as a date: the [`last_day`], if the token is valid
/// through its end.
pub fn expiry_date(expires_at: SystemTime) -> Option<String> {
    last_day(expires_at).filter(|_| date_time::is_midnight(expires_at))
}

/// A text is not an expiry, or the expiry is not possible for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpiryError {
    /// The text has none of the forms.
    #[error(
        "an expiry is a date such as 2027-01-31, a time such as 2027-01-31T12:00:00Z, or a \
         duration such as 30d or P30D"
    )]
    Malformed,
    /// The text has the form of a date or a time that does not exist.
    #[error("there is no such date or time")]
    NoSuchDate,
    /// The time is not in the future.
    #[error("the expiry must be in the future")]
    Past,
    /// The duration is zero.
    #[error("the time until expiry must not be zero")]
    Zero,
    /// The duration is negative.
    #[error("the time until expiry must not be negative")]
    Negative,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T10:30:00Z
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_343_400)
    }

    fn seconds_from_now(text: &str) -> Result<u64, ExpiryError> {
        let expiry = text.parse::<Expiry>()?.resolve(now())?;
        let expiry = expiry.expect("no text means never");
        Ok(expiry.duration_since(now()).expect("later").as_secs())
    }

    #[test]
    fn parses_each_expiry_format() {
        let day = 86_400;
        for (text, seconds) in [
            // Through the end of today, and of a leap day.
            ("2026-11-22", 13 * 3600 + 1800),
            ("2028-02-29", 464 * day + 13 * 3600 + 1800),
            ("2026-11-22T10:30:01Z", 1),
            ("2026-11-22T12:30:00+01:00", 3600),
            ("2026-11-22t10:31:00z", 60),
            ("30d", 30 * day),
            ("12h", 12 * 3600),
            ("1d 12h", 36 * 3600),
            ("2 weeks", 14 * day),
            ("1mo", 30 * day),
            ("1y", 365 * day),
            ("P30D", 30 * day),
            ("PT12H", 12 * 3600),
            ("P1M", 30 * day),
        ] {
            assert_eq!(seconds_from_now(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn rejects_malformed_expiries() {
        for (text, error) in [
            ("", ExpiryError::Malformed),
            ("soon", ExpiryError::Malformed),
            ("30", ExpiryError::Malformed),
            ("d", ExpiryError::Malformed),
            ("2026-1-2", ExpiryError::Malformed),
            ("26-01-02", ExpiryError::Malformed),
            ("2027-01-02x", ExpiryError::Malformed),
            ("02.01.2027", ExpiryError::Malformed),
            ("2027-01-02T10:00:00", ExpiryError::Malformed),
            ("20270102", ExpiryError::Malformed),
            (" 30d", ExpiryError::Malformed),
            ("2026-02-30", ExpiryError::NoSuchDate),
            ("2027-02-29", ExpiryError::NoSuchDate),
            ("2027-13-01", ExpiryError::NoSuchDate),
            ("2027-00-10", ExpiryError::NoSuchDate),
            ("2027-02-30T10:00:00Z", ExpiryError::NoSuchDate),
            ("2026-11-21", ExpiryError::Past),
            ("1969-12-31", ExpiryError::Past),
            ("2026-11-22T10:30:00Z", ExpiryError::Past),
            ("0d", ExpiryError::Zero),
            ("PT0S", ExpiryError::Zero),
            ("-30d", ExpiryError::Negative),
            ("-P30D", ExpiryError::Negative),
            ("30 days ago", ExpiryError::Negative),
            ("-99999y", ExpiryError::Negative),
            ("99999y ago", ExpiryError::Negative),
            ("-P99999999999D", ExpiryError::Negative),
            ("99999999999", ExpiryError::Malformed),
            ("1.99999999999h", ExpiryError::Malformed),
            ("10000-1-1", ExpiryError::Malformed),
            ("20271-01-31", ExpiryError::Malformed),
            ("12027-01-31", ExpiryError::Malformed),
            ("20270131-01-01", ExpiryError::Malformed),
            ("2027013112:00:00", ExpiryError::Malformed),
            ("10000-02-30", ExpiryError::NoSuchDate),
            ("9999-12-32", ExpiryError::NoSuchDate),
        ] {
            assert_eq!(seconds_from_now(text), Err(error), "{text}");
        }
    }

    #[test]
    fn resolves_durations_from_now() {
        let after = |duration| Expiry::after(duration).resolve(now());
        let minute = Duration::from_secs(60);
        assert_eq!(after(minute), Ok(Some(now() + minute)));
        assert_eq!(after(Duration::ZERO), Err(ExpiryError::Zero));
        assert_eq!(after(Duration::MAX), Ok(Some(date_time::end_of_time())));
        assert_eq!(Expiry::NEVER.resolve(now()), Ok(None));
    }

    #[test]
    fn expiries_beyond_the_calendar_are_its_end() {
        let end = date_time::end_of_time();
        assert_eq!(last_day(end).as_deref(), Some("9999-12-31"));
        for text in [
            "9999-12-31",
            "9999-12-31T23:59:59Z",
            "9000y",
            "99999y",
            "P99999Y",
            "100000000d",
            "9223372036854775807d",
            "99999999999d",
            "P99999999999D",
            "99999999999999999999d",
            "1y 99999999999999999999s",
            "10000-01-01",
            "+123456-02-29T12:00:00Z",
        ] {
            let expiry = text.parse::<Expiry>().expect(text);
            assert_eq!(expiry.resolve(now()), Ok(Some(end)), "{text}");
        }
        for time in [
            end - Duration::from_secs(1),
            end,
            end + Duration::from_secs(1),
        ] {
            assert_eq!(Expiry::at(time).resolve(now()), Ok(Some(end)));
        }
        let earlier = end - Duration::from_secs(2);
        assert_eq!(Expiry::at(earlier).resolve(now()), Ok(Some(earlier)));
    }

    #[test]
    fn last_day_round_trips_dates() {
        for date in ["2026-11-22", "2026-12-31", "2028-02-29"] {
            let expiry: Expiry = date.parse().expect("a date");
            let expiry = expiry.resolve(now()).expect("later").expect("not never");
            assert_eq!(last_day(expiry).as_deref(), Some(date));
            assert_eq!(expiry_date(expiry).as_deref(), Some(date));
            let within = expiry - Duration::from_secs(3600);
            assert_eq!(expiry_date(within), None);
            assert_eq!(last_day(within).as_deref(), Some(date));
        }
    }
}
