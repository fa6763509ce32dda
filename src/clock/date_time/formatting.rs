use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The last second of RFC 3339.
const LAST_SECOND: &str = "9999-12-31T23:59:59Z";

const TEN_DAYS: Duration = Duration::from_secs(864_000);

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
    push(time, &mut text).then_some(text)
}

/// Appends a time as [`format()`] does. Returns `false` for times before the year 0.
///
/// A page of the management API has up to seven times for each token. jiff and a text of its own take
/// three times as many instructions.
pub(crate) fn push(time: SystemTime, text: &mut String) -> bool {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since.as_secs() < END_OF_TIME => push_since_epoch(since, text),
        Ok(_) => text.push_str(LAST_SECOND),
        Err(_) => match format_by_jiff(time) {
            Some(formatted) => text.push_str(&formatted),
            None => return false,
        },
    }
    true
}

/// Appends a time before the [end of time](END_OF_TIME). The date is that of Howard Hinnant's
/// `civil_from_days`, with years that begin in March.
fn push_since_epoch(since: Duration, text: &mut String) {
    let seconds = since.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let is_next_year = shifted_month >= 10;
    let month = if is_next_year {
        shifted_month - 9
    } else {
        shifted_month + 3
    };
    let year = era * 400 + year_of_era + u64::from(is_next_year);

    let mut digits = *b"0000-00-00T00:00:00.000000000";
    write_pair(&mut digits, 0, year / 100);
    write_pair(&mut digits, 2, year % 100);
    write_pair(&mut digits, 5, month);
    write_pair(&mut digits, 8, day);
    write_pair(&mut digits, 11, of_day / 3_600);
    write_pair(&mut digits, 14, of_day / 60 % 60);
    write_pair(&mut digits, 17, of_day % 60);
    let mut length = "0000-00-00T00:00:00".len();
    let mut nanos = since.subsec_nanos();
    if nanos > 0 {
        length += 1;
    }
    while nanos > 0 {
        digits[length] += (nanos / 100_000_000) as u8;
        length += 1;
        nanos = nanos % 100_000_000 * 10;
    }
    text.push_str(std::str::from_utf8(&digits[..length]).expect("digits are ASCII"));
    text.push('Z');
}

/// Writes a number below 100 over two zeros.
#[expect(clippy::cast_possible_truncation, reason = "each is below ten")]
fn write_pair(digits: &mut [u8], at: usize, number: u64) {
    digits[at] += (number / 10) as u8;
    digits[at + 1] += (number % 10) as u8;
}

fn format_by_jiff(time: SystemTime) -> Option<String> {
    let text = if let Ok(time) = Timestamp::try_from(time) {
        time.to_string()
    } else {
        // jiff has no timestamps on the last day, because a time zone could move them beyond the
        // year 9999.
        let earlier = Timestamp::try_from(time.checked_sub(TEN_DAYS)?).ok()?;
        earlier.to_string().replacen("9999-12-2", "9999-12-3", 1)
    };
    Some(text).filter(|text| !text.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn formats_times_since_the_epoch_as_jiff_does() {
        let fractions = [0, 1, 10, 120_000_000, 123_000_000, 123_456_789, 999_999_999];
        let spans = [
            0..100_000,
            // Around the ends of February of a leap year, a common year and the centuries.
            951_696_000..951_900_000,
            4_107_456_000..4_107_660_000,
            1_709_000_000..1_709_400_000,
            END_OF_TIME - 100_000..END_OF_TIME,
        ];
        let near = spans.into_iter().flat_map(|span| span.step_by(3_607));
        let years = (0..END_OF_TIME).step_by(86_400 * 37 + 4_271);
        for (place, seconds) in near.chain(years).enumerate() {
            let time = at(seconds) + Duration::from_nanos(fractions[place % fractions.len()]);
            assert_eq!(format(time), format_by_jiff(time), "{time:?}");
        }
    }
}
