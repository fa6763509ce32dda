use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::error::{Fault, FileStoreError};
use super::source::Source;
use super::{FileStore, Shared, watch};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// How a [`FileStore`] follows its file.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_service_token::store::FileStoreOptions;
///
/// let options = FileStoreOptions::new().with_poll_interval(Duration::from_secs(10));
/// let store = options.open("/etc/my-service/tokens.toml")?;
/// # Ok::<_, tower_service_token::store::FileStoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    poll_interval: Option<Duration>,
}

impl FileStoreOptions {
    /// The default options.
    pub fn new() -> Self {
        Self {
            poll_interval: Some(Duration::from_secs(1)),
        }
    }

    /// How often the file is looked at; a revocation takes up to two intervals, and four at worst.
    /// At least a millisecond. Default: 1 s.
    ///
    /// `None` never looks and starts no thread: then only [`FileStore::reload`] reads the file.
    pub fn with_poll_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        let interval = interval.into();
        self.poll_interval = interval.map(|interval| interval.max(SHORTEST_INTERVAL));
        self
    }

    /// Reads the file and follows it from now on. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// The file cannot be used, or no thread could be started.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileStore, FileStoreError> {
        let path = path.as_ref();
        let failed = |fault| FileStoreError::new(path, fault);
        let source = Source::new(path).map_err(failed)?;
        let (watched, stop) = channel();
        let shared = Arc::new(Shared::new(source, watched)?);
        if let Some(interval) = self.poll_interval {
            watch::start(Arc::downgrade(&shared), interval, stop)
                .map_err(|error| failed(Fault::Thread(Arc::new(error))))?;
        }
        Ok(FileStore(shared))
    }
}

impl Default for FileStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}
