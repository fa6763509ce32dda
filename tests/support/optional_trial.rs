//! Tests that require a program that may not be installed.

use std::env;

use libtest_mimic::{Failed, Trial};

/// Returns a trial. If there is a reason, the trial is ignored with it, unless services are
/// required.
pub fn optional_trial(
    reason: Option<&String>,
    name: String,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let required = env::var_os("SERVICE_TOKEN_REQUIRE_SERVICES").is_some_and(|it| it == "1");
    let trial = Trial::test(name, test);
    match reason {
        Some(reason) if !required => trial
            .with_kind(format!("ignored: {reason}"))
            .with_ignored_flag(true),
        _ => trial,
    }
}
