use std::time::SystemTime;

use crate::clock::UnixMillis;
use crate::lifecycle::Expiry;

const DAY_MILLIS: i64 = 86_400_000;

/// Returns when a token expires, from the milliseconds since the epoch that the tool sent. Midnight
/// is a date, and the token is valid through that day.
pub(super) fn from_millis(millis: i64) -> Expiry {
    let end = if millis % DAY_MILLIS == 0 {
        millis.saturating_add(DAY_MILLIS)
    } else {
        millis
    };
    Expiry::at(UnixMillis::from_millis(end).into())
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

    fn end(millis: i64) -> Option<SystemTime> {
        let expiry = from_millis(millis).resolve(SystemTime::UNIX_EPOCH);
        expiry.expect("in the future")
    }

    #[test]
    fn dates_last_through_the_day_and_display_as_noon() {
        let end = end(TYPED).unwrap();
        assert_eq!(millis(end), Some(TYPED + DAY_MILLIS));
        assert_eq!(displayed(end), Some(TYPED + DAY_MILLIS / 2));
    }

    #[test]
    fn keeps_other_times() {
        for moment in [TYPED + 1, TYPED - 1, 1] {
            let end = end(moment).unwrap();
            assert_eq!((millis(end), displayed(end)), (Some(moment), Some(moment)));
        }
    }

    #[test]
    fn later_times_are_the_last_day() {
        const LAST_DAY: i64 = 253_402_214_400_000;
        for late in [LAST_DAY, LAST_DAY + DAY_MILLIS, i64::MAX, i64::MAX - 807] {
            let end = end(late).unwrap();
            assert_eq!(displayed(end), Some(LAST_DAY + DAY_MILLIS / 2), "{late}");
        }
        for early in [-1, i64::MIN, -DAY_MILLIS] {
            assert!(from_millis(early).resolve(SystemTime::UNIX_EPOCH).is_err());
        }
    }
}
