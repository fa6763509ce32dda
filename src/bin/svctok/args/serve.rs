use clap::Args;

use crate::store_url::StoreUrl;

/// Runs a token service.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the tokens are kept: sqlite:PATH, postgres://… or file:PATH
    #[arg(long, env = "SVCTOK_STORE", hide_env_values = true)]
    pub(crate) store: Option<StoreUrl>,
}
