use std::time::{Duration, SystemTime};

const DAY: i64 = 86_400_000;

/// The last millisecond of the year 9999.
const LAST: i64 = 253_402_300_799_999;

/// When a token stops working whose expiry was typed as this many milliseconds since the epoch: at
/// midnight, it was a day, and the token works through it. `None` is before 1970 or after 9999.
pub(super) fn end(millis: i64) -> Option<SystemTime> {
    if !(0..=LAST - DAY).contains(&millis) {
        return None;
    }
    let end = if millis % DAY == 0 {
        millis + DAY
    } else {
        millis
    };
    let since_epoch = Duration::from_millis(end.unsigned_abs());
    Some(SystemTime::UNIX_EPOCH + since_epoch)
}

/// What is told of the end of a token: noon of its last day, if it ends with a day.
pub(super) fn told(end: SystemTime) -> Option<i64> {
    let millis = millis(end)?;
    let is_end_of_day = millis % DAY == 0;
    Some(if is_end_of_day {
        millis - DAY / 2
    } else {
        millis
    })
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
    fn a_day_is_worked_through_and_told_as_its_noon() {
        let end = end(TYPED).unwrap();
        assert_eq!(millis(end), Some(TYPED + DAY));
        assert_eq!(told(end), Some(TYPED + DAY / 2));
    }

    #[test]
    fn a_moment_stays_a_moment() {
        for moment in [TYPED + 1, TYPED - 1, 1] {
            let end = end(moment).unwrap();
            assert_eq!((millis(end), told(end)), (Some(moment), Some(moment)));
        }
    }

    #[test]
    fn what_no_calendar_has_is_none() {
        for odd in [-1, i64::MIN, i64::MAX, LAST] {
            assert_eq!(end(odd), None, "{odd}");
        }
        assert!(end(0).is_some() && end(LAST - DAY).is_some());
    }
}
