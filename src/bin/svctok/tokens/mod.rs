//! The tokens, wherever they are.

mod pagination;
mod server;
mod store;

use std::time::Duration;

use tower_service_token::lifecycle::{
    BulkPreview, BulkRevocation, NewToken, TokenInfo, TokenUpdate,
};
use tower_service_token::registry::TokenFilter;
use tower_service_token::token::TokenId;

pub(crate) use self::pagination::Listing;
pub(crate) use self::server::ServerTokens;
use self::store::StoreTokens;
use crate::args::{AccessArgs, LastAdminArgs, RevisionArgs};
use crate::failure::{Failure, FailureKind};
use crate::marker::Marker;
use crate::secret::{SecretText, redact_secrets};
use crate::store_url::StoreUrl;
use crate::target::Target;
use crate::token_input;

const REVISION_HINT: &str = "`svctok get` shows the current revision";
const RECOUNT_HINT: &str = "count the matching tokens again with --dry-run";
const LAST_ADMIN_HINT: &str =
    "create another token with the scope service-tokens:admin first, or confirm with --last-admin";

/// The tokens of a server or of a store.
pub(crate) enum Tokens {
    Server(ServerTokens),
    Store(Box<StoreTokens>),
}

/// The token that a command acts on.
#[derive(Clone, Copy)]
pub(crate) enum TokenRef {
    Id(TokenId),
    /// The one that the server is called with.
    Own,
}

/// A token that was just revoked.
pub(crate) struct Revoked {
    pub(crate) id: TokenId,
    /// After how long, at the latest, every node knows.
    pub(crate) effective_within: Duration,
}

/// A secret that was just made.
pub(crate) struct Issued {
    pub(crate) secret: SecretText,
    pub(crate) token: TokenInfo,
    /// After how long, at the latest, every node knows.
    pub(crate) effective_within: Duration,
}

/// A token after a change.
pub(crate) struct Changed {
    pub(crate) token: TokenInfo,
    /// After how long, at the latest, every node knows.
    pub(crate) effective_within: Duration,
}

/// Whether a store that is not there is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Create,
    Fail,
}

/// For a command that has no use for an empty store: opening a SQLite file would make it, and a
/// TOML file may have yet to be made.
pub(crate) fn require_file(store: &StoreUrl) -> Result<(), Failure> {
    let path = match store {
        StoreUrl::Sqlite(path) => path,
        StoreUrl::File(path) if path.extension().is_some_and(|it| it == "toml") => path,
        _ => return Ok(()),
    };
    if path.exists() {
        return Ok(());
    }
    let message = format!("cannot open {store}: there is no such file");
    Err(Failure::new(FailureKind::Unreachable, message)
        .with_hint("`svctok create` makes it, with the first token in it"))
}

/// The failure of a bulk deletion after which no token could administer tokens.
fn bulk_last_admin_failure() -> Failure {
    Failure::refused("the filter matches the last token that may administer tokens")
        .with_hint("narrow the filter, and delete that token by its ID with --last-admin")
}

impl TokenRef {
    /// Returns the ID that a store needs.
    fn id_for_store(self) -> Result<TokenId, Failure> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Own => Err(Failure::usage(
                "`self` is the token that a server is called with; a store is used without one",
            )
            .with_hint("specify the ID of the token: `svctok list` shows the IDs")),
        }
    }
}

impl Tokens {
    /// Reaches the tokens that the flags, the environment or the context name.
    pub(crate) async fn open(args: &AccessArgs, if_missing: IfMissing) -> Result<Self, Failure> {
        let named = token_input::from_flags(&args.token)?;
        match Target::resolve(args)? {
            Target::Store(_) if named.is_some() => {
                Err(Failure::usage("a store is worked on without a token")
                    .with_hint("leave out the token, or name a server by --url"))
            }
            Target::Store(store) => Self::open_store(&store, if_missing).await,
            Target::Server { url, token } => {
                let token = named.or(token).ok_or_else(|| {
                    Failure::new(FailureKind::Unreachable, format!("there is no token for {}", redact_secrets(&url)))
                        .with_hint("name one by --service-token-file, --service-token-stdin or SVCTOK_TOKEN, or save a context")
                })?;
                ServerTokens::new(&url, &token).map(Self::Server)
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
        Ok(Self::Store(Box::new(tokens)))
    }

    /// Ends the work on the tokens, whatever became of it.
    pub(crate) async fn close(&self) {
        match self {
            Self::Server(_) => {}
            Self::Store(tokens) => tokens.close().await,
        }
    }

    /// Returns the same tokens, changed only at the revision that the flag names, if it does.
    pub(crate) fn if_revision(self, args: RevisionArgs) -> Self {
        match (self, args.if_revision) {
            (tokens, None) => tokens,
            (Self::Server(tokens), Some(revision)) => Self::Server(tokens.if_revision(revision)),
            (Self::Store(tokens), Some(revision)) => {
                Self::Store(Box::new(tokens.if_revision(revision)))
            }
        }
    }

    /// Returns the same tokens, of which the last that may administer can be ended if the flag says
    /// so.
    pub(crate) fn allow_last_admin_removal(self, args: LastAdminArgs) -> Self {
        match self {
            tokens if !args.is_confirmed => tokens,
            Self::Server(tokens) => Self::Server(tokens.allow_last_admin_removal()),
            Self::Store(tokens) => Self::Store(Box::new(tokens.allow_last_admin_removal())),
        }
    }

    pub(crate) async fn create(&self, new: NewToken) -> Result<Issued, Failure> {
        match self {
            Self::Server(tokens) => tokens.create(new).await,
            Self::Store(tokens) => tokens.create(new).await,
        }
    }

    pub(crate) async fn list(&self, listing: &Listing) -> Result<Vec<TokenInfo>, Failure> {
        match self {
            Self::Server(tokens) => tokens.list(listing).await,
            Self::Store(tokens) => tokens.list(listing).await,
        }
    }

    pub(crate) async fn get(&self, token: TokenRef) -> Result<TokenInfo, Failure> {
        match self {
            Self::Server(tokens) => tokens.get(token).await,
            Self::Store(tokens) => tokens.get(token.id_for_store()?).await,
        }
    }

    pub(crate) async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<Changed, Failure> {
        match self {
            Self::Server(tokens) => tokens.update(id, update).await,
            Self::Store(tokens) => tokens.update(id, update).await,
        }
    }

    pub(crate) async fn rotate(&self, token: TokenRef, grace: Duration) -> Result<Issued, Failure> {
        match self {
            Self::Server(tokens) => tokens.rotate(token, grace).await,
            Self::Store(tokens) => tokens.rotate(token.id_for_store()?, grace).await,
        }
    }

    pub(crate) async fn disable(&self, id: TokenId) -> Result<Changed, Failure> {
        match self {
            Self::Server(tokens) => tokens.disable(id).await,
            Self::Store(tokens) => tokens.disable(id).await,
        }
    }

    pub(crate) async fn enable(&self, id: TokenId) -> Result<Changed, Failure> {
        match self {
            Self::Server(tokens) => tokens.enable(id).await,
            Self::Store(tokens) => tokens.enable(id).await,
        }
    }

    /// Refuses the token for good.
    pub(crate) async fn revoke(&self, token: TokenRef) -> Result<Revoked, Failure> {
        match self {
            Self::Server(tokens) => tokens.revoke(token).await,
            Self::Store(tokens) => tokens.revoke(token.id_for_store()?).await,
        }
    }

    /// The tokens that [`revoke_where`](Self::revoke_where) would refuse.
    pub(crate) async fn preview_revocation(
        &self,
        filter: TokenFilter,
    ) -> Result<BulkPreview, Failure> {
        match self {
            Self::Server(tokens) => tokens.preview_revocation(filter).await,
            Self::Store(tokens) => tokens.preview_revocation(filter).await,
        }
    }

    /// Refuses all tokens for good that the filter means, if they are so many.
    pub(crate) async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: usize,
    ) -> Result<BulkRevocation, Failure> {
        match self {
            Self::Server(tokens) => tokens.revoke_where(filter, expect).await,
            Self::Store(tokens) => tokens.revoke_where(filter, expect).await,
        }
    }
}
