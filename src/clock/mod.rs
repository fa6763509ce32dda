//! The clock that expiry is evaluated with, and a manual clock for tests.
//!
//! 1. The request path reads the clock only if a record has a time.
//! 2. Times are rounded down to the millisecond.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use tower_service_token::clock::{Clock, ManualClock};
//!
//! let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
//! clock.advance(Duration::from_secs(60));
//! assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
//! ```

#[cfg_attr(
    not(any(feature = "file", test)),
    expect(dead_code, reason = "dates that begin a day stand in files")
)]
pub(crate) mod date_time;
#[cfg(any(feature = "client", feature = "introspection", feature = "postgres"))]
mod jitter;

use std::fmt;
use std::num::NonZeroI64;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use auto_impl::auto_impl;

#[cfg(any(feature = "client", feature = "postgres"))]
pub(crate) use self::jitter::jittered;
#[cfg(feature = "introspection")]
pub(crate) use self::jitter::random_between;

/// A source of the wall-clock time and of monotonic time.
///
/// Implementations must not block: they are called on the request path.
#[auto_impl(Arc)]
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> SystemTime;

    /// Returns the time since a fixed moment. It never decreases: caches measure by it, so that
    /// setting the wall clock back extends no lifetime.
    ///
    /// The default measures by [`Instant`].
    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// The operating system's clock, [`SystemTime::now`]. It is the default everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock for tests that only changes when it is set or advanced.
///
/// Clones share one time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<ManualTime>);

#[derive(Debug)]
struct ManualTime {
    wall_millis: AtomicI64,
    monotonic_millis: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows `now`, to the millisecond.
    pub fn new(now: SystemTime) -> Self {
        Self(Arc::new(ManualTime {
            wall_millis: AtomicI64::new(Timestamp::from(now).as_millis()),
            monotonic_millis: AtomicU64::new(0),
        }))
    }

    /// Lets time pass, to the millisecond.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.wall_millis.fetch_add(millis, Ordering::SeqCst);
        let passed = millis.unsigned_abs();
        self.0.monotonic_millis.fetch_add(passed, Ordering::SeqCst);
    }

    /// Sets the wall clock, forward or back, without any time passing.
    pub fn set(&self, now: SystemTime) {
        let millis = Timestamp::from(now).as_millis();
        self.0.wall_millis.store(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        Timestamp::from_millis(self.0.wall_millis.load(Ordering::SeqCst)).into()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.monotonic_millis.load(Ordering::SeqCst))
    }
}

/// Milliseconds since the Unix epoch, in eight bytes even when optional.
///
/// The value is stored xor `i64::MIN`, so that the only number without a representation is the most
/// distant past rather than zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(NonZeroI64);

impl Timestamp {
    pub(crate) fn from_millis(millis: i64) -> Self {
        let encoded = millis.max(i64::MIN + 1) ^ i64::MIN;
        Self(NonZeroI64::new(encoded).unwrap_or(NonZeroI64::MIN))
    }

    pub(crate) fn as_millis(self) -> i64 {
        self.0.get() ^ i64::MIN
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_millis().cmp(&other.as_millis())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                let before = before.duration();
                let part = i64::from(before.subsec_nanos() % 1_000_000 != 0);
                i64::try_from(before.as_millis()).map_or(i64::MIN, |millis| -millis - part)
            }
        };
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_millis(time.as_millis().unsigned_abs());
        let shifted = if time.as_millis() < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        shifted.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_timestamp_takes_eight_bytes() {
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }

    #[test]
    fn timestamps_round_trip_and_keep_their_order() {
        let times = [i64::MIN + 1, -1_500, -1, 0, 1, 1_795_000_000_123, i64::MAX];
        for pair in times.windows(2) {
            assert!(Timestamp::from_millis(pair[0]) < Timestamp::from_millis(pair[1]));
        }
        for millis in [-1_500, -1, 0, 1, 1_795_000_000_123] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time.as_millis(), millis);
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
    }

    #[test]
    fn setting_the_wall_clock_does_not_change_monotonic_time() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        clock.advance(Duration::from_secs(5));
        clock.set(SystemTime::UNIX_EPOCH);
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH);
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
        let first = SystemClock.monotonic();
        assert!(first <= SystemClock.monotonic());
    }

    #[test]
    fn rounds_down_to_milliseconds_before_and_after_the_epoch() {
        let part = Duration::from_micros(400);
        assert_eq!(
            Timestamp::from(SystemTime::UNIX_EPOCH + part).as_millis(),
            0
        );
        assert_eq!(
            Timestamp::from(SystemTime::UNIX_EPOCH - part).as_millis(),
            -1
        );
    }
}
