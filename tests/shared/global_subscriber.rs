//! Has every event be heard, whichever test comes to it first.

use std::sync::Once;

/// As long as one subscriber alone is known, `tracing` asks the thread that comes to an event
/// first whether anybody listens, and remembers that for all. With this one there are two, or one
/// for all threads.
pub fn install_global_subscriber() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another module of the test did it.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    });
}
