use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use tower_service_token::internal::read_token;

use crate::args::{TokenArgs, TokenInputArgs};
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::eprint_message;
use crate::secret::{SecretText, not_a_token};

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
        eprint_message(
            "Paste the token, then press Enter and Ctrl-D. The terminal shows the token.",
        );
    }
    read(stdin.lock(), "stdin")
}

fn from_file(path: &Path) -> Result<SecretText, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).or_fail(FailureKind::Usage, format_args!("cannot read {name}"))?;
    read(file, &name)
}

fn read(from: impl Read, name: &str) -> Result<SecretText, Failure> {
    let read = read_token(from);
    let read = read.or_fail(FailureKind::Usage, format_args!("cannot read {name}"))?;
    let token = read.map_err(|found| not_a_token(name, found))?;
    Ok(SecretText::new(token.expose_secret()))
}
