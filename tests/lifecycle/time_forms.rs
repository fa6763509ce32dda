//! Parsing of expiries around leap days, leap seconds and daylight saving time changes.

use std::time::{Duration, SystemTime};

use tower_service_token::lifecycle::{Expiry, ExpiryError};

/// 2026-11-22T10:30:00Z
const NOW: u64 = 1_795_343_400;

/// Text, with the seconds since 1970 at which the expiry ends.
const ACCEPTED: [(&str, u64); 18] = [
    // Leap days.
    ("2028-02-28", 1_835_395_200),
    ("2028-02-29", 1_835_481_600),
    ("2400-02-29", 13_574_649_600),
    ("2028-02-29T23:59:59Z", 1_835_481_599),
    ("2028-02-28T23:30:00-01:00", 1_835_397_000),
    // A leap second counts as the second before it.
    ("2027-06-30T23:59:60Z", 1_814_399_999),
    ("2027-07-01T01:59:60+02:00", 1_814_399_999),
    // In Berlin, 02:30 does not exist on 28 March and occurs twice on 31 October. Only the offset
    // matters.
    ("2027-03-28T02:30:00+01:00", 1_806_197_400),
    ("2027-03-28T02:30:00+02:00", 1_806_193_800),
    ("2027-10-31T02:30:00+02:00", 1_824_942_600),
    ("2027-10-31T02:30:00+01:00", 1_824_946_200),
    ("2027-03-28", 1_806_278_400),
    ("2027-10-31", 1_825_027_200),
    // Offsets.
    ("2027-01-31T12:00:00-00:00", 1_801_396_800),
    ("2027-01-31T12:00:00+14:00", 1_801_346_400),
    ("2027-01-31T12:00:00-12:00", 1_801_440_000),
    ("2027-01-31T12:00:00+05:45", 1_801_376_100),
    ("2027-01-31t12:00:00z", 1_801_396_800),
];

const REJECTED: [(&str, ExpiryError); 20] = [
    ("2027-02-29", ExpiryError::NoSuchDate),
    ("2100-02-29", ExpiryError::NoSuchDate),
    ("2028-02-30", ExpiryError::NoSuchDate),
    ("2027-04-31", ExpiryError::NoSuchDate),
    ("2027-02-29T00:00:00Z", ExpiryError::NoSuchDate),
    ("2027-01-31T24:00:00Z", ExpiryError::NoSuchDate),
    ("2027-01-31T12:60:00Z", ExpiryError::NoSuchDate),
    ("2027-01-31T12:00:61Z", ExpiryError::NoSuchDate),
    ("2027-01-31T12:00:00+26:00", ExpiryError::NoSuchDate),
    // Without an offset, the time is ambiguous.
    ("2027-03-28T02:30:00", ExpiryError::Malformed),
    ("2027-10-31T02:30", ExpiryError::Malformed),
    ("2027-03-28T02:30:00[Europe/Berlin]", ExpiryError::Malformed),
    (
        "2027-03-28T02:30:00+01:00[Europe/Berlin]",
        ExpiryError::Malformed,
    ),
    ("2027-03-28T02:30:00 Europe/Berlin", ExpiryError::Malformed),
    ("2027-03-28T02:30:00 CET", ExpiryError::Malformed),
    ("2027-01-31 12:00:00Z", ExpiryError::Malformed),
    ("2027-01-31T12:00:00,5Z", ExpiryError::Malformed),
    ("20270131T120000Z", ExpiryError::Malformed),
    ("2027-W05-1", ExpiryError::Malformed),
    ("2027-031", ExpiryError::Malformed),
];

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn leap_and_daylight_saving_times_resolve_to_one_instant() {
    for (text, seconds) in ACCEPTED {
        let expiry: Expiry = text.parse().expect(text);
        assert_eq!(expiry.resolve(at(NOW)), Ok(Some(at(seconds))), "{text}");
    }
}

#[test]
fn rejects_nonexistent_dates_and_times() {
    for (text, error) in REJECTED {
        assert_eq!(text.parse::<Expiry>().unwrap_err(), error, "{text}");
    }
}

#[test]
fn calendar_durations_end_on_valid_days() {
    for (now, text, expected) in [
        // From 31 January to the last day of February, in a common year and in a leap year.
        ("2027-01-31T12:00:00Z", "1mo", "2027-02-28T12:00:00Z"),
        ("2028-01-31T12:00:00Z", "P1M", "2028-02-29T12:00:00Z"),
        ("2028-02-29T12:00:00Z", "1y", "2029-02-28T12:00:00Z"),
        ("2028-02-29T12:00:00Z", "P4Y", "2032-02-29T12:00:00Z"),
        // A day has 24 hours, even when daylight saving time changes.
        ("2027-03-28T00:30:00Z", "1d", "2027-03-29T00:30:00Z"),
        ("2027-10-31T00:30:00Z", "24h", "2027-11-01T00:30:00Z"),
    ] {
        let instant = |text: &str| {
            let expiry: Expiry = text.parse().expect(text);
            expiry.resolve(at(0)).unwrap().unwrap()
        };
        let expiry: Expiry = text.parse().expect(text);
        let end = expiry.resolve(instant(now));
        assert_eq!(end, Ok(Some(instant(expected))), "{now} + {text}");
    }
}
