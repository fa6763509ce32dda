use std::path::PathBuf;

use clap::Args;

use crate::secret::SecretText;

/// Where a token is read from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Token")]
pub(crate) struct TokenArgs {
    /// The token, or `-` for stdin. Others see it by `ps`, and the shell remembers it: prefer the
    /// other ways
    #[arg(id = "service_token", long = "service-token", value_name = "TOKEN")]
    pub(crate) text: Option<SecretText>,
    /// A file with the token alone in it, or `-` for stdin
    #[arg(
        id = "service_token_file",
        long = "service-token-file",
        value_name = "FILE"
    )]
    pub(crate) file: Option<PathBuf>,
    /// Reads the token from stdin
    #[arg(id = "service_token_stdin", long = "service-token-stdin")]
    pub(crate) stdin: bool,
}

/// The token that a command looks at.
#[derive(Debug, Args)]
pub(crate) struct TokenInputArgs {
    /// `-` for stdin, which is the default
    #[arg(value_name = "-", hide = true)]
    pub(crate) positional: Option<SecretText>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}
