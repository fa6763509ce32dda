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
use super::source::{MAX_LENGTH, token};
use crate::digest::TokenDigest;
use crate::token::PresentedToken;

/// Between two looks at a file.
const INTERVAL: Duration = Duration::from_secs(1);

/// The token in a file, followed until it is dropped.
///
/// The file is read again and again, rather than its inode watched: that sees renames, rewrites and
/// switched links alike. Another token is taken when two looks found the same, so that one which is
/// being written is left alone.
pub(super) struct TokenFile {
    path: PathBuf,
    token: ArcSwap<PresentedToken<'static>>,
    /// Dropped with this, which ends the thread.
    _stop: Sender<()>,
}

/// What the last look found.
#[derive(Default)]
struct Watch {
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
        let started = thread.spawn(move || follow(&shared, &stopped));
        started.map_err(|error| TokenSourceError::unreadable(place(path), error))?;
        Ok(file)
    }

    pub(super) fn token(&self) -> Arc<PresentedToken<'static>> {
        self.token.load_full()
    }

    fn look(&self, watch: &mut Watch) {
        match read(&self.path) {
            Ok(token) => {
                let digest = TokenDigest::of(token.expose_secret());
                let is_settled = watch.seen.replace(digest) == Some(digest);
                let current = TokenDigest::of(self.token().expose_secret());
                if is_settled && digest != current {
                    self.token.store(Arc::new(token));
                }
                watch.has_failed = false;
            }
            Err(error) => {
                watch.seen = None;
                if !watch.has_failed {
                    report(&error);
                }
                watch.has_failed = true;
            }
        }
    }
}

fn follow(file: &Weak<TokenFile>, stopped: &Receiver<()>) {
    let mut watch = Watch::default();
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(file) = file.upgrade() else {
            return;
        };
        file.look(&mut watch);
    }
}

fn read(path: &Path) -> Result<PresentedToken<'static>, TokenSourceError> {
    let unreadable = |error| TokenSourceError::unreadable(place(path), error);
    let file = File::open(path).map_err(unreadable)?;
    // Room for all that is read, so that no part is left behind where the text grew out of.
    let most = MAX_LENGTH + 2;
    let mut text = Zeroizing::new(Vec::with_capacity(most + 1));
    let mut file = file.take(most as u64);
    file.read_to_end(&mut text).map_err(unreadable)?;
    match str::from_utf8(&text) {
        Ok(text) => token(text, &place(path)),
        Err(_) => Err(TokenSourceError::new(
            TokenSourceErrorKind::NotAToken,
            place(path),
        )),
    }
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

/// The token that was there is used on.
fn report(error: &TokenSourceError) {
    #[cfg(feature = "tracing")]
    {
        use std::error::Error;

        let cause = error.source().map(tracing::field::display);
        tracing::warn!(target: "tower_service_token::client", %error, cause, "the token file is of no use now");
    }
    let _ = error;
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file of one test, removed at its end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("svctok-token-file-{name}-{}", std::process::id());
            let place = Self(std::env::temp_dir().join(name));
            fs::write(&place.0, text).unwrap();
            place
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

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn another_token_is_taken_when_two_looks_found_it() {
        let place = Place::new("settles", "one");
        let (file, mut watch) = (place.open(), Watch::default());
        file.look(&mut watch);
        for half in ["tw", "two"] {
            fs::write(&place.0, half).unwrap();
            file.look(&mut watch);
            assert_eq!(file.token().expose_secret(), "one");
        }
        file.look(&mut watch);
        assert_eq!(file.token().expose_secret(), "two");
    }

    #[test]
    fn the_last_token_is_kept_while_the_file_is_missing_or_holds_none() {
        let place = Place::new("spoilt", "one");
        let (file, mut watch) = (place.open(), Watch::default());
        for text in ["", "two words", "\u{e9}"] {
            fs::write(&place.0, text).unwrap();
            file.look(&mut watch);
            file.look(&mut watch);
            assert!(watch.has_failed);
            assert_eq!(file.token().expose_secret(), "one");
        }
        fs::remove_file(&place.0).unwrap();
        file.look(&mut watch);
        assert_eq!(file.token().expose_secret(), "one");
        fs::write(&place.0, "two\n").unwrap();
        file.look(&mut watch);
        file.look(&mut watch);
        assert!(!watch.has_failed);
        assert_eq!(file.token().expose_secret(), "two");
    }
}
