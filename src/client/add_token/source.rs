use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::error::{TokenSourceError, TokenSourceErrorKind};
use crate::digest::TokenDigest;
use crate::token::PresentedToken;

/// The maximum length of a token, in bytes.
const MAX_LENGTH: usize = 4_096;

/// The interval between two reads of a file.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The token to send. If it is from a file, it is reloaded until this is dropped.
#[derive(Debug)]
pub(super) struct TokenSource {
    token: ArcSwap<PresentedToken<'static>>,
    /// Dropping it ends the thread that reads the file.
    _stop: Option<Sender<()>>,
}

/// Reads a file again and again.
///
/// The file is polled rather than watched, which detects renames, rewrites and changed links. A new
/// token is used after two reads with the same content, so that a partial write is ignored.
struct FilePoller {
    path: PathBuf,
    seen: Option<TokenDigest>,
    has_failed: bool,
}

impl TokenSource {
    /// Creates a source with the token in `text`.
    pub(super) fn value(text: &str, location: &str) -> Result<Arc<Self>, TokenSourceError> {
        Ok(Arc::new(Self::new(parse_token(text, location)?, None)))
    }

    pub(super) fn variable(name: &str) -> Result<Arc<Self>, TokenSourceError> {
        let missing = || TokenSourceError::new(TokenSourceErrorKind::NotSet, name);
        let value = env::var_os(name).ok_or_else(missing)?;
        Self::value(value.to_str().unwrap_or_default(), name)
    }

    pub(super) fn file(path: &Path) -> Result<Arc<Self>, TokenSourceError> {
        let (stop, stopped) = channel();
        let source = Arc::new(Self::new(read(path)?, Some(stop)));
        let (shared, mut poller) = (Arc::downgrade(&source), FilePoller::new(path));
        let thread = thread::Builder::new().name("service-token".into());
        let started = thread.spawn(move || poller.run(&shared, &stopped));
        started.map_err(|error| TokenSourceError::unreadable(display_path(path), error))?;
        Ok(source)
    }

    fn new(token: PresentedToken<'static>, stop: Option<Sender<()>>) -> Self {
        Self {
            token: ArcSwap::from_pointee(token),
            _stop: stop,
        }
    }

    /// Returns the current token.
    pub(super) fn token(&self) -> Arc<PresentedToken<'static>> {
        self.token.load_full()
    }
}

impl FilePoller {
    fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            seen: None,
            has_failed: false,
        }
    }

    fn run(&mut self, source: &Weak<TokenSource>, stopped: &Receiver<()>) {
        while stopped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let Some(source) = source.upgrade() else {
                return;
            };
            self.poll(&source);
        }
    }

    fn poll(&mut self, source: &TokenSource) {
        match read(&self.path) {
            Ok(token) => {
                let digest = TokenDigest::of(token.expose_secret());
                let is_settled = self.seen.replace(digest) == Some(digest);
                let current = TokenDigest::of(source.token().expose_secret());
                if is_settled && digest != current {
                    source.token.store(Arc::new(token));
                }
                self.has_failed = false;
            }
            Err(error) => {
                self.seen = None;
                if !self.has_failed {
                    warn_unusable(&error);
                }
                self.has_failed = true;
            }
        }
    }
}

fn read(path: &Path) -> Result<PresentedToken<'static>, TokenSourceError> {
    let unreadable = |error| TokenSourceError::unreadable(display_path(path), error);
    let file = File::open(path).map_err(unreadable)?;
    // Enough capacity for the whole file, so that growing leaves no copy behind.
    let max_bytes = MAX_LENGTH + 2;
    let mut text = Zeroizing::new(Vec::with_capacity(max_bytes + 1));
    let mut file = file.take(max_bytes as u64);
    file.read_to_end(&mut text).map_err(unreadable)?;
    // Text that is not UTF-8 is rejected like an empty one.
    let text = str::from_utf8(&text).unwrap_or_default();
    parse_token(text, &display_path(path))
}

fn display_path(path: &Path) -> String {
    path.display().to_string()
}

/// Logs that the file is unusable. The last token stays in use.
fn warn_unusable(error: &TokenSourceError) {
    #[cfg(feature = "tracing")]
    {
        use std::error::Error;

        let cause = error.source().map(tracing::field::display);
        tracing::warn!(target: "tower_service_token::client", %error, cause, "the token file is unusable, keeping the last token");
    }
    let _ = error;
}

/// Parses a token, without a trailing line end.
fn parse_token(text: &str, location: &str) -> Result<PresentedToken<'static>, TokenSourceError> {
    let text = text.trim_end_matches(['\r', '\n']);
    let token = PresentedToken::new(text).filter(|_| text.len() <= MAX_LENGTH);
    let token = token.map(PresentedToken::into_owned);
    token.ok_or_else(|| TokenSourceError::new(TokenSourceErrorKind::InvalidToken, location))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file of one test, removed at its end.
    struct TempFile(PathBuf);

    impl TempFile {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("svctok-token-source-{name}-{}", std::process::id());
            let temp_file = Self(env::temp_dir().join(name));
            fs::write(&temp_file.0, text).unwrap();
            temp_file
        }

        /// Opens the file without a thread that polls it.
        fn open(&self) -> (TokenSource, FilePoller) {
            let source = TokenSource::new(read(&self.0).unwrap(), None);
            (source, FilePoller::new(&self.0))
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn uses_a_new_token_after_two_equal_reads() {
        let temp_file = TempFile::new("settles", "one");
        let (source, mut poller) = temp_file.open();
        poller.poll(&source);
        for half in ["tw", "two"] {
            fs::write(&temp_file.0, half).unwrap();
            poller.poll(&source);
            assert_eq!(source.token().expose_secret(), "one");
        }
        poller.poll(&source);
        assert_eq!(source.token().expose_secret(), "two");
    }

    #[test]
    fn keeps_the_last_token_while_the_file_is_missing_or_malformed() {
        let temp_file = TempFile::new("malformed", "one");
        let (source, mut poller) = temp_file.open();
        for text in ["", "two words", "\u{e9}"] {
            fs::write(&temp_file.0, text).unwrap();
            poller.poll(&source);
            poller.poll(&source);
            assert!(poller.has_failed);
            assert_eq!(source.token().expose_secret(), "one");
        }
        fs::remove_file(&temp_file.0).unwrap();
        poller.poll(&source);
        assert_eq!(source.token().expose_secret(), "one");
        fs::write(&temp_file.0, "two\n").unwrap();
        poller.poll(&source);
        poller.poll(&source);
        assert!(!poller.has_failed);
        assert_eq!(source.token().expose_secret(), "two");
    }
}
