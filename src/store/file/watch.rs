use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Shared;
use super::error::FileStoreErrorKind;
use super::source::Stamp;

/// After how many looks, each of which saw another file, it is read although it does not settle:
/// a file that is written all the time must not keep its tokens from being revoked.
const PATIENCE: u32 = 3;

/// Follows the file until the last store that shares it is dropped.
///
/// A file is read when it looked the same twice, so that one that is being written is left alone.
#[derive(Default)]
struct Watch {
    /// The file whose content is in use, or is known to be unusable.
    done: Option<Stamp>,
    /// The file as it was the last time, and `None` if it was not there.
    seen: Option<Stamp>,
    unsettled: u32,
}

/// Starts the thread; it ends when the other end of `stop` is gone.
pub(super) fn start(
    shared: Weak<Shared>,
    interval: Duration,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let run = move || {
        let mut watch = Watch::default();
        while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            // A listener that panics must not end the watch.
            let _ = catch_unwind(AssertUnwindSafe(|| watch.look(&shared)));
        }
    };
    let thread = thread::Builder::new().name("token-file".to_owned());
    thread.spawn(run)
}

impl Watch {
    fn look(&mut self, shared: &Arc<Shared>) {
        let now = shared.stamp();
        if now.is_some() && now == self.done {
            self.unsettled = 0;
            return;
        }
        let is_settled = now == self.seen;
        self.seen = now;
        self.unsettled = if is_settled { 0 } else { self.unsettled + 1 };
        if !is_settled && self.unsettled < PATIENCE {
            return;
        }
        self.unsettled = 0;
        self.done = None;
        let is_final = match shared.load() {
            Ok(()) => true,
            Err(error) => error.kind() != FileStoreErrorKind::Unreadable,
        };
        if is_settled && is_final {
            self.done = now;
        }
    }
}
