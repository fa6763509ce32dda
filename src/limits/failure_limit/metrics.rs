/// Counts a lookup that was decided about.
pub(super) fn admitted(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_lookup_admissions_total", "outcome" => outcome).increment(1);
    let _ = outcome;
}

/// Sets how many lookups wait.
pub(super) fn waiting(lookups: usize) {
    #[cfg(feature = "metrics")]
    {
        #[expect(clippy::cast_precision_loss, reason = "at most 4,000")]
        metrics::gauge!("service_token_lookups_waiting").set(lookups as f64);
    }
    let _ = lookups;
}
