use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::{Context, Contexts};
use crate::environment::variable_os;
use crate::failure::{Failure, FailureKind};
use crate::output::SecretFile;

/// The file of the contexts: TOML, for its owner alone.
pub(crate) struct ContextFile(Option<PathBuf>);

impl ContextFile {
    /// `SVCTOK_CONFIG`, else `svctok/config.toml` in the user's configuration directory.
    pub(crate) fn locate() -> Self {
        let named = variable_os("SVCTOK_CONFIG").map(PathBuf::from);
        Self(named.or_else(|| {
            let directories = etcetera::choose_base_strategy().ok()?;
            Some(directories.config_dir().join("svctok").join("config.toml"))
        }))
    }

    /// The contexts; none if there is no file.
    pub(crate) fn read(&self) -> Result<Contexts, Failure> {
        let Some(path) = &self.0 else {
            return Ok(Contexts::default());
        };
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => {
                let tried = format_args!("cannot read {shown}");
                return Err(Failure::context(FailureKind::Usage, tried, &error));
            }
        };
        check_mode(path)?;
        toml::from_str(&text).map_err(|error| {
            // The parser's own message quotes the file, and so a token.
            let before = error.span().map(|span| &text[..span.start]);
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            Failure::usage(format!(
                "{shown} cannot be read: there is a mistake in line {line}"
            ))
            .with_hint("correct it, or remove the file and save the contexts again")
        })
    }

    /// Replaces the file by one with these contexts.
    pub(crate) fn write(&self, contexts: &Contexts) -> Result<(), Failure> {
        let path = self.0.as_ref().ok_or_else(|| {
            Failure::usage("there is no place to keep contexts")
                .with_hint("name a file by SVCTOK_CONFIG, or set HOME")
        })?;
        if let Some(directory) = path.parent() {
            create_directory(directory)?;
        }
        SecretFile::open(path, true)?.persist(&to_toml(contexts))
    }
}

fn to_toml(contexts: &Contexts) -> String {
    let mut text = "# The contexts of svctok. Tokens stand here: keep it to yourself.\n".to_owned();
    if let Some(current) = &contexts.current {
        line(&mut text, "current", current);
    }
    for (name, context) in &contexts.contexts {
        let _ = writeln!(text, "\n[contexts.{}]", toml_string(name));
        let Context {
            url,
            service_token,
            store,
        } = context;
        if let Some(url) = url {
            line(&mut text, "url", url);
        }
        if let Some(token) = service_token {
            line(&mut text, "service_token", token.expose_secret());
        }
        if let Some(store) = store {
            line(&mut text, "store", &store.expose_secret());
        }
    }
    text
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {}", toml_string(value));
}

/// A basic string of TOML. JSON's are ones, but for the character DEL.
fn toml_string(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.replace('\u{7f}', "\\u007f")
}

fn create_directory(directory: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| {
        let tried = format_args!("cannot make {}", directory.display());
        Failure::context(FailureKind::Usage, tried, &error)
    })
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs::metadata(path);
    // A device, such as /dev/null, keeps no tokens, and is for others too.
    let metadata = metadata.ok().filter(fs::Metadata::is_file);
    match metadata.map(|it| it.permissions().mode() & 0o777) {
        Some(mode) if mode & 0o077 != 0 => {
            let path = path.display();
            Err(Failure::usage(format!(
                "others may read or write {path}: its mode is {mode:04o}, and tokens stand in it"
            ))
            .with_hint(format!(
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
