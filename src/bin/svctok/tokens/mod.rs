//! Access to the tokens of a server or a store.

mod admin;
mod pagination;
mod server;
mod store;

use std::ops::Deref;

use tower_service_token::wire::TokenInfo;

pub(crate) use self::admin::{Changed, Issued, TokenAdmin, TokenRef};
pub(crate) use self::pagination::Listing;
use self::pagination::all_pages;
pub(crate) use self::server::ServerTokens;
use self::store::StoreTokens;
use crate::args::{AccessArgs, LastAdminArgs, RevisionArgs};
use crate::failure::{Failure, FailureKind};
use crate::marker::Marker;
use crate::secret::redact_secrets;
use crate::store_url::StoreUrl;
use crate::target::Target;
use crate::token_input;

/// The tokens of a server or of a store.
pub(crate) struct Tokens(Box<dyn TokenAdmin>);

/// What to do if a store does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Create,
    Fail,
}

/// Returns an error if the file of a store does not exist. Opening a SQLite file would create it.
pub(crate) fn require_file(store: &StoreUrl) -> Result<(), Failure> {
    let path = match store {
        StoreUrl::Sqlite(path) => path,
        StoreUrl::File(path) if path.extension().is_some_and(|it| it == "toml") => path,
        _ => return Ok(()),
    };
    if path.exists() {
        return Ok(());
    }
    let message = format!("cannot open {store}: no such file");
    Err(Failure::new(FailureKind::Unreachable, message)
        .with_hint("`svctok create` creates it with the first token"))
}

impl Tokens {
    /// Opens the tokens that the flags, the environment or the context specify.
    pub(crate) async fn open(args: &AccessArgs, if_missing: IfMissing) -> Result<Self, Failure> {
        let named = token_input::from_flags(&args.token)?;
        match Target::resolve(args)? {
            Target::Store(_) if named.is_some() => Err(Failure::usage("a store needs no token")
                .with_hint("omit the token, or specify a server with --url")),
            Target::Store(store) => Self::open_store(&store, if_missing).await,
            Target::Server { url, token } => {
                let token = named.or(token).ok_or_else(|| {
                    Failure::new(FailureKind::Unreachable, format!("no token specified for {}", redact_secrets(&url)))
                        .with_hint("use --service-token-file, --service-token-stdin or SVCTOK_TOKEN, or save a context")
                })?;
                let tokens = ServerTokens::new(&url, &token)?;
                Ok(Self(Box::new(tokens)))
            }
        }
    }

    pub(crate) async fn open_store(
        store: &StoreUrl,
        if_missing: IfMissing,
    ) -> Result<Self, Failure> {
        if let StoreUrl::Sqlite(path) = store {
            Marker::new(path).check_not_lost()?;
        }
        if if_missing == IfMissing::Fail {
            require_file(store)?;
        }
        let tokens = StoreTokens::open(store).await?;
        Ok(Self(Box::new(tokens)))
    }

    pub(crate) async fn list(&self, listing: &Listing) -> Result<Vec<TokenInfo>, Failure> {
        all_pages(&*self.0, listing).await
    }

    /// Returns the same tokens, with changes only at the revision of the flag.
    pub(crate) fn if_revision(mut self, args: RevisionArgs) -> Self {
        if let Some(revision) = args.if_revision {
            self.0.if_revision(revision);
        }
        self
    }

    /// Returns the same tokens, with changes of the last administrator if the flag allows them.
    pub(crate) fn allow_last_admin_removal(mut self, args: LastAdminArgs) -> Self {
        if args.is_confirmed {
            self.0.allow_last_admin_removal();
        }
        self
    }
}

impl Deref for Tokens {
    type Target = dyn TokenAdmin;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
