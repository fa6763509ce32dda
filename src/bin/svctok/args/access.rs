use std::path::PathBuf;

use clap::Args;

use crate::secret::SecretText;
use crate::store_url::StoreUrl;

/// The server or store, and the token to authenticate with.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}

/// A server or a store.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TargetArgs {
    /// The server that manages the tokens [env: SVCTOK_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The token store itself, for its operator: sqlite:PATH, postgres://… or file:PATH
    /// [env: SVCTOK_STORE]
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<StoreUrl>,
    /// The saved context to use [env: SVCTOK_CONTEXT] [default: the current context]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// The source of a token.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Token")]
pub(crate) struct TokenArgs {
    /// The token, or `-` for stdin. Arguments are visible in process listings and shell history, so
    /// prefer the other options
    #[arg(id = "service_token", long = "service-token", value_name = "TOKEN")]
    pub(crate) text: Option<SecretText>,
    /// A file that contains only the token, or `-` for stdin
    #[arg(id = "service_token_file", long = "service-token-file")]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Read the token from stdin
    #[arg(id = "service_token_stdin", long = "service-token-stdin")]
    pub(crate) stdin: bool,
}

/// The token that a command examines.
#[derive(Debug, Args)]
pub(crate) struct TokenInputArgs {
    /// `-` for stdin, which is the default
    #[arg(value_name = "-", hide = true)]
    pub(crate) positional: Option<SecretText>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}
