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

/// The token in a file, reloaded until this is dropped.
///
/// The file is polled rather than watched, which detects renames, rewrites and changed links. A new
/// token is used after two reads with the same content, so that a partial write is ignored.
pub(super) struct TokenFile {
    path: PathBuf,
    token: ArcSwap<PresentedToken<'static>>,
    /// Dropping it ends the thread.
    _stop: Sender<()>,
}

/// The result of the last read.
#[derive(Default)]
struct PollState {
    seen: Option<TokenDigest>,
    has_failed: bool,
}

impl TokenFile {
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, TokenSourceError> {
        let (stop, stopped) = channel();
        let file = Arc::new(Self {
            path: path.into(),
            token: ArcSwap::from_pointee(read(path)?),
            _stop: stop,
        });
        let shared = Arc::downgrade(&file);
        let thread = thread::Builder::new().name("service-token".into());
        let started = thread.spawn(move || poll_until_stopped(&shared, &stopped));
        started.map_err(|error| TokenSourceError::unreadable(display_path(path), error))?;
        Ok(file)
    }

    pub(super) fn token(&self) -> Arc<PresentedToken<'static>> {
        self.token.load_full()
    }

    fn poll(&self, poll_state: &mut PollState) {
        match read(&self.path) {
            Ok(token) => {
                let digest = TokenDigest::of(token.expose_secret());
                let is_settled = poll_state.seen.replace(digest) == Some(digest);
                let current = TokenDigest::of(self.token().expose_secret());
                if is_settled && digest != current {
                    self.token.store(Arc::new(token));
                }
                poll_state.has_failed = false;
            }
            Err(error) => {
                poll_state.seen = None;
                if !poll_state.has_failed {
                    warn_unusable(&error);
                }
                poll_state.has_failed = true;
            }
        }
    }
}

fn poll_until_stopped(file: &Weak<TokenFile>, stopped: &Receiver<()>) {
    let mut poll_state = PollState::default();
    while stopped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(file) = file.upgrade() else {
            return;
        };
        file.poll(&mut poll_state);
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
    match str::from_utf8(&text) {
        Ok(text) => parse_token(text, &display_path(path)),
        Err(_) => Err(TokenSourceError::new(
            TokenSourceErrorKind::InvalidToken,
            display_path(path),
        )),
    }
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
pub(super) fn parse_token(
    text: &str,
    temp_file: &str,
) -> Result<PresentedToken<'static>, TokenSourceError> {
    let text = text.trim_end_matches(['\r', '\n']);
    let token = PresentedToken::new(text).filter(|_| text.len() <= MAX_LENGTH);
    let token = token.map(PresentedToken::into_owned);
    token.ok_or_else(|| TokenSourceError::new(TokenSourceErrorKind::InvalidToken, temp_file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file of one test, removed at its end.
    struct TempFile(PathBuf);

    impl TempFile {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("svctok-token-file-{name}-{}", std::process::id());
            let temp_file = Self(std::env::temp_dir().join(name));
            fs::write(&temp_file.0, text).unwrap();
            temp_file
        }

        /// The file, which no thread looks at but the test.
        fn open(&self) -> TokenFile {
            TokenFile {
                path: self.0.clone(),
                token: ArcSwap::from_pointee(read(&self.0).unwrap()),
                _stop: channel().0,
            }
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
        let (file, mut poll_state) = (temp_file.open(), PollState::default());
        file.poll(&mut poll_state);
        for half in ["tw", "two"] {
            fs::write(&temp_file.0, half).unwrap();
            file.poll(&mut poll_state);
            assert_eq!(file.token().expose_secret(), "one");
        }
        file.poll(&mut poll_state);
        assert_eq!(file.token().expose_secret(), "two");
    }

    #[test]
    fn keeps_the_last_token_while_the_file_is_missing_or_malformed() {
        let temp_file = TempFile::new("spoilt", "one");
        let (file, mut poll_state) = (temp_file.open(), PollState::default());
        for text in ["", "two words", "\u{e9}"] {
            fs::write(&temp_file.0, text).unwrap();
            file.poll(&mut poll_state);
            file.poll(&mut poll_state);
            assert!(poll_state.has_failed);
            assert_eq!(file.token().expose_secret(), "one");
        }
        fs::remove_file(&temp_file.0).unwrap();
        file.poll(&mut poll_state);
        assert_eq!(file.token().expose_secret(), "one");
        fs::write(&temp_file.0, "two\n").unwrap();
        file.poll(&mut poll_state);
        file.poll(&mut poll_state);
        assert!(!poll_state.has_failed);
        assert_eq!(file.token().expose_secret(), "two");
    }
}
