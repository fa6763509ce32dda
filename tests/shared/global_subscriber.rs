//! A global subscriber, so that events reach the subscriber of each thread in any order of tests.

use std::sync::Once;

/// Installs a global subscriber that ignores events.
///
/// With only one subscriber, `tracing` caches for all threads whether the thread that emits an
/// event first is interested in it. A global subscriber prevents that.
pub fn install_global_subscriber() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another module has installed one.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    });
}
