#[cfg(any(feature = "api", feature = "client"))]
use std::time::Duration;

use jiff::Span;
#[cfg(any(feature = "api", feature = "client"))]
use jiff::SpanRelativeTo;

/// Longer than any [`Span`]: about 22,000 years.
#[cfg(any(feature = "api", feature = "client"))]
const BEYOND_SPANS: Duration = Duration::from_secs(700_000_000_000);

/// Replaces a count that is out of range, so that jiff still checks the units and the sign.
const SMALL_COUNT: &str = "1";

/// The largest number of digits that is in range for every unit.
const MAX_DIGITS: usize = 4;

/// A text is not a duration.
#[cfg(any(feature = "api", feature = "client"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration of zero or more in weeks, days or shorter units, such as 1h or PT1H")]
pub struct ParseDurationError;

/// A duration in one of the forms of jiff.
pub(crate) enum ParsedSpan {
    Exact(Span),
    /// A count is out of range for a [`Span`]. The contained span has small counts in its place, with
    /// the same units and sign.
    OutOfRange(Span),
}

impl ParsedSpan {
    /// Parses an ISO 8601 duration, or one in jiff's friendly format.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(span) = text.parse() {
            return Some(Self::Exact(span));
        }
        let span = with_small_counts(text)?.parse().ok()?;
        Some(Self::OutOfRange(span))
    }
}

/// Parses a duration whose days have 24 hours. One that is out of range for a [`Span`] is longer than
/// any other.
///
/// # Errors
///
/// Returns an error for a negative duration, and for one with years or months.
#[cfg(any(feature = "api", feature = "client"))]
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let duration = |span: Span| {
        let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
        Duration::try_from(duration.ok()?).ok()
    };
    let parsed = ParsedSpan::parse(text).and_then(|parsed| match parsed {
        ParsedSpan::Exact(span) => duration(span),
        ParsedSpan::OutOfRange(span) => duration(span).map(|_| BEYOND_SPANS),
    });
    parsed.ok_or(ParseDurationError)
}

/// Replaces each count of more than [`MAX_DIGITS`] digits. Returns `None` if there is none. A fraction
/// stays: its digits do not make the count large.
/// `HH:MM:SS` stays too: so many hours are more likely a mistyped date.
fn with_small_counts(text: &str) -> Option<String> {
    if text.contains(':') {
        return None;
    }
    let mut small = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_changed = false;
    while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
        let (before, after) = rest.split_at(start);
        let end = after.find(|char: char| !char.is_ascii_digit());
        let (digits, after) = after.split_at(end.unwrap_or(after.len()));
        let is_large = digits.trim_start_matches('0').len() > MAX_DIGITS;
        let is_replaced = is_large && !before.ends_with(['.', ',']);
        small.push_str(before);
        small.push_str(if is_replaced { SMALL_COUNT } else { digits });
        is_changed |= is_replaced;
        rest = after;
    }
    small.push_str(rest);
    is_changed.then_some(small)
}

#[cfg(all(test, any(feature = "api", feature = "client")))]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn parses_durations_in_days_and_shorter_units() {
        for (text, duration) in [
            ("0s", Duration::ZERO),
            ("1h 30m", Duration::from_secs(5_400)),
            ("PT1.5S", Duration::from_millis(1_500)),
            ("2w", 14 * DAY),
            ("P30D", 30 * DAY),
            ("100000d", 100_000 * DAY),
            ("0000000000000030d", 30 * DAY),
        ] {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
    }

    #[test]
    fn durations_out_of_range_are_longer_than_any_other() {
        let longest = parse_duration("7304484d").expect("in range");
        for text in [
            "7304485d",
            "99999999999d",
            "P99999999999D",
            "99999999999999999999999999999d",
            "PT99999999999999999999S",
            "1d 99999999999999999999h",
            "1w99999999999d",
        ] {
            let duration = parse_duration(text).expect(text);
            assert!(duration > longest, "{text}");
        }
    }

    #[test]
    fn rejects_other_texts() {
        for text in [
            "",
            "1",
            "99999999999",
            "soon",
            "-1h",
            "-99999999999d",
            "99999999999 days ago",
            "1y",
            "1mo",
            "99999999999y",
            "P99999999999M",
            "99999999999x",
            "d99999999999",
            "1.99999999999s",
            "0.99999999999999999999d",
            "2027-01-31",
            "99999999999-01-01",
            "2027013112:00:00",
            "99999999999:00:00",
            "1d 2027013112:00:00",
            " 99999999999d",
        ] {
            assert_eq!(parse_duration(text), Err(ParseDurationError), "{text}");
        }
    }
}
