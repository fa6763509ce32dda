use clap::Args;

use super::TokenArgs;
use crate::store_url::StoreUrl;

/// How the tokens are reached.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// The server that keeps the tokens [env: SVCTOK_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The store itself, for its operator: sqlite:PATH, postgres://… or file:PATH
    /// [env: SVCTOK_STORE]
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<StoreUrl>,
    /// The saved context to use [env: SVCTOK_CONTEXT] [default: the one set last]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}
