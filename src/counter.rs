/// Increments a counter with one label. Does nothing without the feature `metrics`.
///
/// A key of literals costs no allocation.
#[cfg(all(feature = "metrics", feature = "tokio"))]
macro_rules! count {
    ($name:literal, $label:literal => $value:literal) => {
        metrics::counter!($name, $label => $value).increment(1)
    };
    ($name:literal, $label:literal => $value:expr) => {
        metrics::counter!($name, $label => $value).increment(1)
    };
}

#[cfg(all(feature = "tokio", not(feature = "metrics")))]
macro_rules! count {
    ($name:literal, $label:literal => $value:expr) => {
        let _ = ($name, $label, $value);
    };
}

#[cfg(feature = "tokio")]
pub(crate) use count;

/// A counter with one label. Its handle is cached at the first use, because a lookup by name costs more
/// than the check of a token in memory. Empty without the feature `metrics`.
///
/// If it is first used before the recorder is installed, it has no effect.
#[derive(Clone, Default)]
pub(crate) struct CachedCounter {
    #[cfg(feature = "metrics")]
    handle: std::sync::OnceLock<metrics::Counter>,
}

impl CachedCounter {
    /// Increments the counter. Each call must have the same arguments.
    #[inline]
    pub(crate) fn increment(&self, name: &'static str, label: &'static str, value: &'static str) {
        #[cfg(feature = "metrics")]
        self.handle
            .get_or_init(|| metrics::counter!(name, label => value))
            .increment(1);
        let _ = (self, name, label, value);
    }
}
