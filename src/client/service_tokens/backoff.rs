use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use jiff::fmt::rfc2822::DateTimeParser;

use crate::clock::jittered;

/// The maximum pause before the first retry.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Returns the pause before a retry. It doubles each time, with a random factor from one half to
/// one, so that clients which failed together do not retry together.
pub(super) fn backoff(retries: u32) -> Duration {
    let longest = INITIAL_BACKOFF.saturating_mul(1 << retries.saturating_sub(1).min(16));
    jittered(longest.min(MAX_BACKOFF))
}

/// Returns the delay of `Retry-After` (RFC 9110 §10.2.3). A date is relative to the `Date` of the
/// response, or else to `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let now = date.and_then(parse_http_date).unwrap_or(now);
    Some(
        parse_http_date(text)?
            .duration_since(now)
            .unwrap_or_default(),
    )
}

/// Parses the preferred form of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_http_date(text: &str) -> Option<SystemTime> {
    let time = DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    text.trim().ends_with("GMT").then(|| time.into())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sun, 06 Nov 1994 08:49:37 GMT
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 784_111_777 * SECOND
    }

    fn after(headers: &[(HeaderName, &'static str)]) -> Option<Duration> {
        let headers = headers.iter().cloned();
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        retry_after(&headers.collect(), now())
    }

    #[test]
    fn pauses_double_up_to_the_maximum_with_jitter() {
        for (tries, longest) in [(1, 200), (2, 400), (3, 800), (6, 5_000), (u32::MAX, 5_000)] {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> = (0..50).map(|_| backoff(tries)).collect();
            assert!(pauses.iter().all(|it| (longest / 2..=longest).contains(it)));
            assert!(pauses.iter().any(|it| *it != pauses[0]), "{pauses:?}");
        }
    }

    #[test]
    fn retry_after_accepts_seconds_and_http_dates() {
        assert_eq!(after(&[]), None);
        for (text, seconds) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("99999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 +0000", None),
            ("1994-11-06T08:50:37Z", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(after(&[(RETRY_AFTER, text)]), expected, "{text}");
        }
    }

    #[test]
    fn retry_after_date_is_relative_to_the_date_header() {
        let date = (RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT");
        let skewed = (DATE, "Sun, 06 Nov 1994 08:50:27 GMT");
        assert_eq!(after(&[date.clone(), skewed]), Some(10 * SECOND));
        assert_eq!(after(&[date, (DATE, "today")]), Some(60 * SECOND));
    }
}
