//! The clock that expiry is evaluated with, and a manual clock for tests.
//!
//! 1. A request reads the wall clock only if the record of its token has a time. A hit of a cache reads
//!    the monotonic time.
//! 2. Times of the wall clock are rounded down to the millisecond.
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
    not(feature = "cli"),
    expect(unreachable_pub, reason = "`internal` exports it for `svctok`")
)]
pub(crate) mod date_time;
#[cfg_attr(
    all(not(feature = "cli"), any(feature = "api", feature = "client")),
    expect(unreachable_pub, reason = "`internal` exports it for `svctok`")
)]
pub(crate) mod duration;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use auto_impl::auto_impl;

/// A source of the wall-clock time and of monotonic time.
///
/// Implementations must not block: they are called on the request path.
#[auto_impl(Arc)]
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> SystemTime;

    /// Returns the time since a fixed point in time. It never decreases. Caches and limits use it, so that
    /// setting the wall clock back does not extend a TTL.
    ///
    /// The default uses [`Instant`].
    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// The operating system's clock, [`SystemTime::now`]. It is the default everywhere.
///
/// On Linux, its monotonic time is the kernel's coarse clock, which is cheaper to read and usually less
/// than 10 ms behind. TTLs and failure limits are as exact as that. Expiry uses the wall clock, which is
/// precise.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    // Elsewhere coarsetime may read the wall clock.
    #[cfg(target_os = "linux")]
    fn monotonic(&self) -> Duration {
        static START: LazyLock<coarsetime::Instant> =
            LazyLock::new(coarsetime::Instant::now_without_cache_update);
        // `now` would write a number that all threads share.
        let now = coarsetime::Instant::now_without_cache_update();
        now.duration_since(*START).into()
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
    /// Creates a clock that is set to `now`, to the millisecond.
    pub fn new(now: SystemTime) -> Self {
        Self(Arc::new(ManualTime {
            wall_millis: AtomicI64::new(UnixMillis::from(now).as_millis()),
            monotonic_millis: AtomicU64::new(0),
        }))
    }

    /// Advances both times, to the millisecond.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.wall_millis.fetch_add(millis, Ordering::SeqCst);
        let passed = millis.unsigned_abs();
        self.0.monotonic_millis.fetch_add(passed, Ordering::SeqCst);
    }

    /// Sets the wall clock forward or back, without a change of the monotonic time.
    pub fn set(&self, now: SystemTime) {
        let millis = UnixMillis::from(now).as_millis();
        self.0.wall_millis.store(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        UnixMillis::from_millis(self.0.wall_millis.load(Ordering::SeqCst)).into()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.monotonic_millis.load(Ordering::SeqCst))
    }
}

/// Returns the earlier of two times. `None` is no limit.
pub(crate) fn earliest(a: Option<SystemTime>, b: Option<SystemTime>) -> Option<SystemTime> {
    a.into_iter().chain(b).min()
}

/// Returns a random duration from half of `pause` to all of it, so that callers which failed together
/// do not retry together.
#[cfg(any(feature = "client", feature = "postgres"))]
pub(crate) fn jittered(pause: Duration) -> Duration {
    random_between(pause / 2, pause)
}

/// Returns a random duration within the range; `longest` if there are no random bytes.
#[cfg(any(feature = "client", feature = "introspection", feature = "postgres"))]
pub(crate) fn random_between(shortest: Duration, longest: Duration) -> Duration {
    let part = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    shortest + longest.saturating_sub(shortest).mul_f64(part)
}

/// Milliseconds since the Unix epoch, in eight bytes even when optional.
///
/// The sign bit is inverted, so that the order of the stored numbers is that of the times, and the
/// only number without a representation is the most distant past rather than the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMillis(NonZeroU64);

impl UnixMillis {
    const SIGN: u64 = 1 << 63;

    pub(crate) fn from_millis(millis: i64) -> Self {
        let encoded = millis.cast_unsigned() ^ Self::SIGN;
        Self(NonZeroU64::new(encoded).unwrap_or(NonZeroU64::MIN))
    }

    pub(crate) fn as_millis(self) -> i64 {
        (self.0.get() ^ Self::SIGN).cast_signed()
    }
}

impl From<SystemTime> for UnixMillis {
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

impl From<UnixMillis> for SystemTime {
    fn from(time: UnixMillis) -> Self {
        let distance = Duration::from_millis(time.as_millis().unsigned_abs());
        let shifted = if time.as_millis() < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        shifted.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_timestamp_takes_eight_bytes() {
        assert_eq!(size_of::<Option<UnixMillis>>(), 8);
    }

    #[test]
    fn timestamps_round_trip_and_keep_their_order() {
        let times = [i64::MIN + 1, -1_500, -1, 0, 1, 1_795_000_000_123, i64::MAX];
        for pair in times.windows(2) {
            assert!(UnixMillis::from_millis(pair[0]) < UnixMillis::from_millis(pair[1]));
        }
        for millis in [-1_500, -1, 0, 1, 1_795_000_000_123] {
            let time = UnixMillis::from_millis(millis);
            assert_eq!(time.as_millis(), millis);
            assert_eq!(UnixMillis::from(SystemTime::from(time)), time);
        }
    }

    #[cfg(any(feature = "client", feature = "introspection", feature = "postgres"))]
    #[test]
    fn random_durations_stay_within_the_range_and_vary() {
        let pause = Duration::from_secs(5);
        let pauses: Vec<_> = (0..50).map(|_| random_between(pause / 2, pause)).collect();
        assert!(pauses.iter().all(|it| (pause / 2..=pause).contains(it)));
        assert!(pauses.iter().any(|it| *it != pauses[0]), "{pauses:?}");
    }

    #[test]
    fn setting_the_wall_clock_does_not_change_monotonic_time() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        clock.advance(Duration::from_secs(5));
        clock.set(SystemTime::UNIX_EPOCH);
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH);
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
    }

    #[test]
    fn monotonic_time_of_the_system_advances_with_real_time() {
        let (first, started) = (SystemClock.monotonic(), Instant::now());
        std::thread::sleep(Duration::from_millis(1_500));
        let (passed, real) = (
            SystemClock.monotonic().saturating_sub(first),
            started.elapsed(),
        );
        assert!(passed.abs_diff(real) < Duration::from_secs(1), "{passed:?}");
    }

    #[test]
    fn rounds_down_to_milliseconds_before_and_after_the_epoch() {
        let part = Duration::from_micros(400);
        assert_eq!(
            UnixMillis::from(SystemTime::UNIX_EPOCH + part).as_millis(),
            0
        );
        assert_eq!(
            UnixMillis::from(SystemTime::UNIX_EPOCH - part).as_millis(),
            -1
        );
    }
}
