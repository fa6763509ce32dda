//! Makes every event reach its subscriber, whichever test emits it first.

use std::sync::Once;

/// With only one subscriber, `tracing` caches for all threads whether the thread that emits an
/// event first is interested in it. A second, global subscriber avoids that.
pub fn install_global_subscriber() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another module of the test did it.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    });
}
