use std::time::{Duration, SystemTime};

const DAY_MILLIS: i64 = 86_400_000;

/// The last millisecond of the year 9999.
const MAX_MILLIS: i64 = 253_402_300_799_999;

/// Returns when a token expires, from the milliseconds since the epoch that the tool sent. Midnight
/// is a date, and the token is valid through that day. Returns `None` before 1970 and after 9999.
pub(super) fn from_millis(millis: i64) -> Option<SystemTime> {
    if !(0..=MAX_MILLIS - DAY_MILLIS).contains(&millis) {
        return None;
    }
    let is_date = millis % DAY_MILLIS == 0;
    let end = millis + i64::from(is_date) * DAY_MILLIS;
    let since_epoch = Duration::from_millis(end.unsigned_abs());
    Some(SystemTime::UNIX_EPOCH + since_epoch)
}

/// Returns the expiry to display: noon of the last day if the token ends with a day.
pub(super) fn displayed(end: SystemTime) -> Option<i64> {
    let millis = millis(end)?;
    let is_end_of_day = millis % DAY_MILLIS == 0;
    Some(millis - i64::from(is_end_of_day) * DAY_MILLIS / 2)
}

pub(super) fn millis(time: SystemTime) -> Option<i64> {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    since_epoch.as_millis().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2027-01-31T00:00:00Z
    const TYPED: i64 = 1_801_353_600_000;

    #[test]
    fn dates_last_through_the_day_and_display_as_noon() {
        let end = from_millis(TYPED).unwrap();
        assert_eq!(millis(end), Some(TYPED + DAY_MILLIS));
        assert_eq!(displayed(end), Some(TYPED + DAY_MILLIS / 2));
    }

    #[test]
    fn keeps_other_times() {
        for moment in [TYPED + 1, TYPED - 1, 1] {
            let end = from_millis(moment).unwrap();
            assert_eq!((millis(end), displayed(end)), (Some(moment), Some(moment)));
        }
    }

    #[test]
    fn rejects_times_out_of_range() {
        for odd in [-1, i64::MIN, i64::MAX, MAX_MILLIS] {
            assert_eq!(from_millis(odd), None, "{odd}");
        }
        assert!(from_millis(0).is_some() && from_millis(MAX_MILLIS - DAY_MILLIS).is_some());
    }
}
