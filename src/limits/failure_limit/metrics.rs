/// Counts a lookup that was decided about.
pub(super) fn admitted(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_lookup_admissions_total", "outcome" => outcome).increment(1);
    let _ = outcome;
}

/// Counts a lookup that begins to wait.
pub(super) fn wait_started() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_lookups_waiting").increment(1.0);
}

/// Counts a lookup that no longer waits.
pub(super) fn wait_ended() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_lookups_waiting").decrement(1.0);
}

/// Counts a lookup that begins to run.
pub(super) fn run_started() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_lookups_running").increment(1.0);
}

/// Counts a lookup that no longer runs.
pub(super) fn run_ended() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_lookups_running").decrement(1.0);
}
