/// Counts a decision about a lookup.
pub(super) fn admitted(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_lookup_admissions_total", "outcome" => outcome).increment(1);
    let _ = outcome;
}

/// Counts one in a gauge until it is dropped.
pub(super) struct Counted(&'static str);

impl Counted {
    pub(super) fn waiting() -> Self {
        Self::new("service_token_lookups_waiting")
    }

    pub(super) fn running() -> Self {
        Self::new("service_token_lookups_running")
    }

    fn new(gauge: &'static str) -> Self {
        #[cfg(feature = "metrics")]
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!(self.0).decrement(1.0);
        let _ = self.0;
    }
}
