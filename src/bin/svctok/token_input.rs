use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::args::{TokenArgs, TokenInputArgs};
use crate::failure::{Failure, FailureKind};
use crate::output::note;
use crate::secret::SecretText;

/// More than any token has.
const MAX_LENGTH: usize = 4096;

/// The token that the flags name, if they name one.
pub(crate) fn from_flags(args: &TokenArgs) -> Result<Option<SecretText>, Failure> {
    let is_stdin = |text: &str| text == "-";
    match (&args.text, &args.file, args.stdin) {
        (None, None, false) => Ok(None),
        (None, None, true) => from_stdin().map(Some),
        (Some(token), None, false) if is_stdin(token.expose_secret()) => from_stdin().map(Some),
        (Some(token), None, false) => Ok(Some(token.clone())),
        (None, Some(path), false) if path == Path::new("-") => from_stdin().map(Some),
        (None, Some(path), false) => from_file(path).map(Some),
        _ => Err(Failure::usage("several flags name a token; name one")),
    }
}

/// The token that a command looks at: what the flags name, else what stands on stdin.
pub(crate) fn from_flags_or_stdin(
    positional: Option<&SecretText>,
    args: &TokenArgs,
) -> Result<SecretText, Failure> {
    if positional.is_some_and(|positional| positional.expose_secret() != "-") {
        return Err(Failure::usage("a token does not belong on the command line")
            .with_hint("others see it there, and the shell remembers it: pipe it to stdin, or name a file by --service-token-file"));
    }
    match from_flags(args)? {
        Some(token) => Ok(token),
        None => from_stdin(),
    }
}

impl TokenInputArgs {
    pub(crate) fn read(&self) -> Result<SecretText, Failure> {
        from_flags_or_stdin(self.positional.as_ref(), &self.token)
    }
}

fn from_stdin() -> Result<SecretText, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        note("Paste the token, then press Enter and Ctrl-D. It is shown as you do.");
    }
    read(stdin.lock(), "stdin")
}

fn from_file(path: &Path) -> Result<SecretText, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| {
        Failure::context(
            FailureKind::Usage,
            format_args!("cannot read {name}"),
            &error,
        )
    })?;
    read(file, &name)
}

fn read(from: impl Read, name: &str) -> Result<SecretText, Failure> {
    // Room for all of it at once: growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LENGTH + 2));
    let read = from.take(MAX_LENGTH as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| {
        Failure::context(
            FailureKind::Usage,
            format_args!("cannot read {name}"),
            &error,
        )
    })?;
    if bytes.len() > MAX_LENGTH {
        return Err(Failure::refused(format!("{name} holds more than a token")));
    }
    let text =
        str::from_utf8(&bytes).map_err(|_| Failure::refused(format!("{name} holds no text")))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::usage(format!("there is no token on {name}"))
            .with_hint("pipe it to stdin, or name a file by --service-token-file"));
    }
    Ok(SecretText::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_only_one_line_ending() {
        for (text, token) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
        ] {
            let read = read(text.as_bytes(), "stdin").expect("a text");
            assert_eq!(read.expose_secret(), token);
        }
        for text in ["", "\n", "\u{fffd}".repeat(2000).as_str()] {
            assert!(read(text.as_bytes(), "stdin").is_err());
        }
        assert!(read([0xff].as_slice(), "stdin").is_err());
    }
}
