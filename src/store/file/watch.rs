use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::FileStoreErrorKind;
use super::shared::Shared;
use super::source::Fingerprint;

/// The number of consecutive polls that see a change, after which the file is read although it may
/// still change: continual writes must not prevent a revocation.
const MAX_UNSETTLED_POLLS: u32 = 3;

/// Reads the file once two consecutive polls see the same fingerprint, so that no file is read while
/// it is written.
#[derive(Default)]
struct Watcher {
    /// The file whose content is in use or is known to be invalid.
    processed: Option<Fingerprint>,
    /// The file that the last poll saw, or `None` if it was missing.
    seen: Option<Fingerprint>,
    unsettled: u32,
}

/// Starts the thread, which ends when the sender of `stop` is dropped.
pub(super) fn start(
    shared: Weak<Shared>,
    interval: Duration,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let run = move || {
        let mut watch = Watcher::default();
        while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            // A listener that panics must not end the thread.
            let _ = catch_unwind(AssertUnwindSafe(|| watch.poll(&shared)));
        }
    };
    let thread = thread::Builder::new().name("token-file".to_owned());
    thread.spawn(run)
}

impl Watcher {
    fn poll(&mut self, shared: &Arc<Shared>) {
        let now = shared.source.fingerprint();
        if now.is_some() && now == self.processed {
            self.unsettled = 0;
            return;
        }
        let is_settled = now == self.seen;
        self.seen = now;
        self.unsettled = if is_settled { 0 } else { self.unsettled + 1 };
        if !is_settled && self.unsettled < MAX_UNSETTLED_POLLS {
            return;
        }
        self.unsettled = 0;
        self.processed = None;
        let is_final = match shared.load() {
            Ok(()) => true,
            Err(error) => error.kind() != FileStoreErrorKind::Unreadable,
        };
        if is_settled && is_final {
            self.processed = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::digest::TokenDigest;
    use crate::store::file::{FileStore, FileStoreOptions};

    /// A store whose file the test polls.
    struct ManuallyPolled {
        path: PathBuf,
        store: FileStore,
        watch: Watcher,
    }

    impl ManuallyPolled {
        fn new(name: &str, tokens: &[&str]) -> Self {
            let name = format!("watch-test-{}-{name}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text(tokens)).expect("a file");
            #[cfg(unix)]
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("a mode");
            let options = FileStoreOptions::new().with_poll_interval(None);
            let store = options.open(&path).expect("a valid file");
            let watch = Watcher::default();
            Self { path, store, watch }
        }

        fn write(&self, tokens: &[&str]) {
            fs::write(&self.path, text(tokens)).expect("a file");
        }

        /// Polls once, and returns the number of tokens in use.
        fn poll(&mut self) -> usize {
            self.watch.poll(&self.store.0);
            self.store.status().tokens()
        }
    }

    impl Drop for ManuallyPolled {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn text(tokens: &[&str]) -> String {
        let entries = tokens.iter().map(|token| {
            let digest = TokenDigest::of(token);
            format!("[[tokens]]\ndigest = \"{digest}\"\n")
        });
        entries.collect()
    }

    #[test]
    fn waits_until_file_stops_changing() {
        let mut file = ManuallyPolled::new("settled", &["a", "b"]);
        for _ in 0..3 {
            assert_eq!(file.poll(), 2);
        }
        // Each part of the file is valid.
        file.write(&["a"]);
        assert_eq!(file.poll(), 2, "half of the file");
        file.write(&["a", "b", "c"]);
        assert_eq!(file.poll(), 2, "written again since the last poll");
        assert_eq!(file.poll(), 3, "settled");
        assert_eq!(file.poll(), 3);
    }

    #[test]
    fn reads_constantly_changing_file_at_every_third_poll() {
        let mut file = ManuallyPolled::new("never", &["a"]);
        assert_eq!((file.poll(), file.poll()), (1, 1));
        let tokens = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let seen: Vec<_> = (2..=8)
            .map(|count| {
                file.write(&tokens[..count]);
                file.poll()
            })
            .collect();
        assert_eq!(seen, [1, 1, 4, 4, 4, 7, 7]);
        assert_eq!(file.poll(), 8, "settled");
    }

    #[test]
    fn tolerates_file_missing_at_one_poll() {
        let mut file = ManuallyPolled::new("missing", &["a"]);
        assert_eq!((file.poll(), file.poll()), (1, 1));
        // An editor may rename the old file before it writes the new one.
        let kept = file.path.with_extension("old");
        fs::rename(&file.path, &kept).expect("the file");
        file.poll();
        assert!(file.store.last_error().is_none());
        file.poll();
        assert!(file.store.last_error().is_some());
        fs::rename(&kept, &file.path).expect("the file");
        file.poll();
        file.poll();
        assert!(file.store.last_error().is_none());
    }

    /// Only the change time of the inode differs.
    #[cfg(unix)]
    #[test]
    fn detects_rewrite_with_same_length_and_modification_time() {
        use std::fs::File;
        use std::os::unix::fs::MetadataExt;

        let mut file = ManuallyPolled::new("same", &["a"]);
        assert_eq!((file.poll(), file.poll()), (1, 1));
        let metadata = |file: &ManuallyPolled| fs::metadata(&file.path).expect("the file");
        let before = metadata(&file);
        let changed = |metadata: &fs::Metadata| (metadata.ctime(), metadata.ctime_nsec());
        // A file system's clock may tick every few milliseconds only.
        while changed(&metadata(&file)) == changed(&before) {
            file.write(&["b"]);
            let handle = File::options().write(true).open(&file.path);
            let modified = before.modified().expect("a time");
            handle
                .and_then(|file| file.set_modified(modified))
                .expect("the old time");
        }
        let after = metadata(&file);
        assert_eq!((after.len(), after.ino()), (before.len(), before.ino()));
        assert_eq!(after.modified().ok(), before.modified().ok());
        file.poll();
        file.poll();
        assert!(file.store.0.find(&TokenDigest::of("b")).is_some());
    }
}
