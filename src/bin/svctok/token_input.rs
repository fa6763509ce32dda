use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::args::{TokenArgs, TokenInputArgs};
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::note;
use crate::secret::SecretText;

/// The maximum length of a token, in bytes.
const MAX_LENGTH: usize = 4096;

/// Returns the token that the flags specify, if any.
pub(crate) fn from_flags(args: &TokenArgs) -> Result<Option<SecretText>, Failure> {
    match (&args.text, &args.file, args.stdin) {
        (None, None, false) => Ok(None),
        (None, None, true) => from_stdin().map(Some),
        (Some(token), None, false) if token.expose_secret() == "-" => from_stdin().map(Some),
        (Some(token), None, false) => Ok(Some(token.clone())),
        (None, Some(path), false) if path == Path::new("-") => from_stdin().map(Some),
        (None, Some(path), false) => from_file(path).map(Some),
        _ => Err(Failure::usage(
            "several flags specify a token; use only one",
        )),
    }
}

/// Returns the token that a command examines: from the flags, or else from stdin.
pub(crate) fn from_flags_or_stdin(
    positional: Option<&SecretText>,
    args: &TokenArgs,
) -> Result<SecretText, Failure> {
    if positional.is_some_and(|positional| positional.expose_secret() != "-") {
        return Err(Failure::usage("refusing to read a token from the command line").with_hint(
            "arguments are visible in process listings and shell history; use --service-token-file \
             FILE or --service-token-stdin",
        ));
    }
    from_flags(args)?.map_or_else(from_stdin, Ok)
}

impl TokenInputArgs {
    pub(crate) fn read(&self) -> Result<SecretText, Failure> {
        from_flags_or_stdin(self.positional.as_ref(), &self.token)
    }
}

fn from_stdin() -> Result<SecretText, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        note("Paste the token, then press Enter and Ctrl-D. The terminal shows the token.");
    }
    read(stdin.lock(), "stdin")
}

fn from_file(path: &Path) -> Result<SecretText, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).or_fail(FailureKind::Usage, format_args!("cannot read {name}"))?;
    read(file, &name)
}

fn read(from: impl Read, name: &str) -> Result<SecretText, Failure> {
    // The buffer has its final capacity, because growing would leave a copy of the token behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LENGTH + 2));
    let read = from.take(MAX_LENGTH as u64 + 1).read_to_end(&mut bytes);
    read.or_fail(FailureKind::Usage, format_args!("cannot read {name}"))?;
    if bytes.len() > MAX_LENGTH {
        let message = format!("{name} is longer than a token: the maximum is {MAX_LENGTH} bytes");
        return Err(Failure::rejected(message));
    }
    let text = str::from_utf8(&bytes);
    let text = text.map_err(|_| Failure::rejected(format!("{name} is not UTF-8")))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::usage(format!("no token on {name}"))
            .with_hint("pipe the token to stdin, or use --service-token-file FILE"));
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
