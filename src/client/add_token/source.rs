use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::error::{TokenSourceError, TokenSourceErrorKind};
use crate::digest::TokenDigest;
use crate::token::PresentedToken;
use crate::token::text::{read_token, token_in};

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
        Ok(Arc::new(Self::new(parse(text.as_bytes(), location)?, None)))
    }

    pub(super) fn variable(name: &str) -> Result<Arc<Self>, TokenSourceError> {
        Self::variable_value(name, env::var_os(name))
    }

    /// Creates a source with the token in the value of a variable. An empty one counts as unset.
    fn variable_value(name: &str, value: Option<OsString>) -> Result<Arc<Self>, TokenSourceError> {
        let missing = || TokenSourceError::new(TokenSourceErrorKind::NotSet, name);
        let value = value.filter(|value| !value.is_empty());
        let value = value.ok_or_else(missing)?;
        Ok(Arc::new(Self::new(
            parse(value.as_encoded_bytes(), name)?,
            None,
        )))
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
    let token = read_token(file).map_err(unreadable)?;
    token.map_err(|found| TokenSourceError::not_a_token(display_path(path), found))
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

/// Parses a token, without the whitespace around it.
fn parse(bytes: &[u8], location: &str) -> Result<PresentedToken<'static>, TokenSourceError> {
    let token = token_in(bytes).map(PresentedToken::into_owned);
    token.map_err(|found| TokenSourceError::not_a_token(location, found))
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
    fn empty_variable_counts_as_unset() {
        let kind = |value: Option<&str>| {
            let source = TokenSource::variable_value("TOKEN", value.map(OsString::from));
            source.map(drop).map_err(|error| error.kind())
        };
        assert_eq!(kind(None), Err(TokenSourceErrorKind::NotSet));
        assert_eq!(kind(Some("")), Err(TokenSourceErrorKind::NotSet));
        assert_eq!(kind(Some("\n")), Err(TokenSourceErrorKind::InvalidToken));
        assert_eq!(kind(Some("one\r\n")), Ok(()));
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
