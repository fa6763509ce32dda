/// Increments a counter with one label. Does nothing without the feature `metrics`.
///
/// A key of literals costs no allocation.
#[cfg(feature = "metrics")]
macro_rules! count {
    ($name:literal, $label:literal => $value:literal) => {
        metrics::counter!($name, $label => $value).increment(1)
    };
    ($name:literal, $label:literal => $value:expr) => {
        metrics::counter!($name, $label => $value).increment(1)
    };
}

#[cfg(not(feature = "metrics"))]
macro_rules! count {
    ($name:literal, $label:literal => $value:expr) => {
        let _ = ($name, $label, $value);
    };
}

pub(crate) use count;
