use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::record::Contexts;
use crate::environment::variable_os;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::{SecretFile, create_private_directory};

/// The TOML file of the contexts, which only its owner can read.
pub(crate) struct ContextFile(Option<PathBuf>);

impl ContextFile {
    /// Returns the file in `SVCTOK_CONFIG`, or else `svctok/config.toml` in the user's configuration
    /// directory.
    pub(crate) fn locate() -> Self {
        let named = variable_os("SVCTOK_CONFIG").map(PathBuf::from);
        Self(named.or_else(|| {
            let directories = etcetera::choose_base_strategy().ok()?;
            Some(directories.config_dir().join("svctok").join("config.toml"))
        }))
    }

    /// Returns the contexts; none if there is no file.
    pub(crate) fn read(&self) -> Result<Contexts, Failure> {
        let Some(path) = &self.0 else {
            return Ok(Contexts::default());
        };
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contexts::default()),
            text => text.or_fail(FailureKind::Usage, format_args!("cannot read {shown}"))?,
        };
        check_mode(path)?;
        toml::from_str(&text).map_err(|error| {
            // The parser's message would quote the file, and so a token.
            let before = error.span().map(|span| &text[..span.start]);
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            Failure::usage(format!("cannot parse {shown}: syntax error in line {line}"))
                .with_hint("correct it, or remove the file and save the contexts again")
        })
    }

    /// Replaces the file with one that has these contexts.
    pub(crate) fn write(&self, contexts: &Contexts) -> Result<(), Failure> {
        let path = self.0.as_ref().ok_or_else(|| {
            Failure::usage("no file for contexts")
                .with_hint("specify a file in SVCTOK_CONFIG, or set HOME")
        })?;
        if let Some(directory) = path.parent() {
            let attempted = format_args!("cannot create {}", directory.display());
            create_private_directory(directory).or_fail(FailureKind::Usage, attempted)?;
        }
        SecretFile::open(path, true)?.persist(&to_toml(contexts))
    }
}

fn to_toml(contexts: &Contexts) -> String {
    let text = toml::to_string(contexts).expect("contexts are tables of strings");
    format!("# The contexts of svctok, with their tokens. Keep this file private.\n{text}")
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs::metadata(path);
    // A device such as /dev/null stores no tokens, and others may use it.
    let metadata = metadata.ok().filter(fs::Metadata::is_file);
    match metadata.map(|it| it.permissions().mode() & 0o777) {
        Some(mode) if mode & 0o077 != 0 => {
            let path = path.display();
            let message =
                format!("{path} contains tokens, and its mode {mode:04o} allows others access");
            Err(Failure::usage(message).with_hint(format!(
                "run `chmod 600 {path}`; if others could read it, rotate its tokens"
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::Context;
    use super::*;
    use crate::secret::SecretText;

    #[test]
    fn contexts_round_trip() {
        let mut contexts = Contexts {
            current: Some("prod.eu".to_owned()),
            ..Contexts::default()
        };
        let prod = Context {
            url: Some("https://tokens.example/a\"b\\c".to_owned()),
            service_token: Some(SecretText::new("!\"#\\~")),
            store: None,
        };
        let local = Context {
            url: None,
            service_token: None,
            store: Some("postgres://u:hu\u{7f}sh@db/t".parse().expect("a store")),
        };
        contexts.contexts.insert("prod.eu".to_owned(), prod);
        contexts.contexts.insert("local".to_owned(), local);
        let read: Contexts = toml::from_str(&to_toml(&contexts)).expect("TOML");
        assert_eq!(read.current.as_deref(), Some("prod.eu"));
        let prod = read.get("prod.eu").expect("saved");
        assert_eq!(prod.url.as_deref(), Some("https://tokens.example/a\"b\\c"));
        let token = prod.service_token.as_ref().expect("saved");
        assert_eq!(token.expose_secret(), "!\"#\\~");
        let store = read
            .get("local")
            .expect("saved")
            .store
            .clone()
            .expect("saved");
        assert_eq!(store.expose_secret(), "postgres://u:hu\u{7f}sh@db/t");
    }
}
