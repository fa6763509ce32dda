use std::time::Duration;

/// Returns a random duration from half of `pause` to all of it, so that callers which failed together
/// do not retry together.
#[cfg(any(feature = "client", feature = "postgres", test))]
pub(crate) fn jittered(pause: Duration) -> Duration {
    random_between(pause / 2, pause)
}

/// Returns a random duration within the range; `longest` if there are no random bytes.
pub(crate) fn random_between(shortest: Duration, longest: Duration) -> Duration {
    let part = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    shortest + longest.saturating_sub(shortest).mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_the_range_and_varies() {
        let pause = Duration::from_secs(5);
        let pauses: Vec<_> = (0..50).map(|_| jittered(pause)).collect();
        assert!(pauses.iter().all(|it| (pause / 2..=pause).contains(it)));
        assert!(pauses.iter().any(|it| *it != pauses[0]), "{pauses:?}");
    }
}
