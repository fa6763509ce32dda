use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::{Cause, FileStoreError};
use super::source::Source;
use super::{FileStore, Shared, watch};

const MIN_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Options of a [`FileStore`].
///
/// ```no_run
/// use std::time::Duration;
/// use tower_service_token::store::file::FileStoreOptions;
///
/// let options = FileStoreOptions::new().with_poll_interval(Duration::from_secs(10));
/// let store = options.open("/etc/my-service/tokens.toml")?;
/// # Ok::<_, tower_service_token::store::file::FileStoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    poll_interval: Option<Duration>,
}

impl FileStoreOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self {
            poll_interval: Some(Duration::from_secs(1)),
        }
    }

    /// Sets how often the file is checked. A revocation takes effect within two intervals, and
    /// within three at worst. The minimum is 1 ms and the default is 1 s.
    ///
    /// With `None`, no thread is started and only [`FileStore::reload`] reads the file.
    pub fn with_poll_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        let interval = interval.into();
        self.poll_interval = interval.map(|interval| interval.max(MIN_POLL_INTERVAL));
        self
    }

    /// Opens and watches a file. Blocks while it reads the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be used or no thread can be started.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileStore, FileStoreError> {
        self.open_with_thread(path.as_ref()).map(|(store, _)| store)
    }

    /// Returns the store and the thread that watches its file.
    fn open_with_thread(
        &self,
        path: &Path,
    ) -> Result<(FileStore, Option<JoinHandle<()>>), FileStoreError> {
        let failed = |cause| FileStoreError::new(path, cause);
        let source = Source::new(path).map_err(failed)?;
        let (stop_sender, stop) = channel();
        let shared = Arc::new(Shared::new(source, stop_sender)?);
        let start = |interval| watch::start(Arc::downgrade(&shared), interval, stop);
        let thread = self.poll_interval.map(start).transpose();
        let thread = thread.map_err(|error| failed(Cause::Thread(Arc::new(error))))?;
        Ok((FileStore(shared), thread))
    }
}

impl Default for FileStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn polling_thread_stops_with_last_clone() {
        let name = format!("options-test-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "tokens = []").expect("a file");
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("a mode");
        // Longer than any test runs, so that the thread ends while it waits.
        let options = FileStoreOptions::new().with_poll_interval(Duration::from_secs(86_400));
        let opened = options.open_with_thread(&path);
        fs::remove_file(&path).expect("the file");
        let (store, thread) = opened.expect("a good file");
        let thread = thread.expect("it is followed");
        let clone = store.clone();
        drop(store);
        thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished(), "a clone is left");
        drop(clone);
        thread.join().expect("no panic");
    }
}
