use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_service_token::ServiceTokens;
use tower_service_token::client::{
    ChangedTokenInfo, ClientError, ClientErrorKind, IssuedTokenInfo,
};
use tower_service_token::internal::ErrorChain;
use tower_service_token::lifecycle::{
    BulkPreview, BulkRevocation, LifecycleError, NewToken, Operator, Page, TokenUpdate,
};
use tower_service_token::registry::{Cursor, ListRequest, TokenFilter, TokenRegistry};
use tower_service_token::store::{TokenRecord, TokenStatus};
use tower_service_token::token::TokenId;
use tower_service_token::wire::TokenInfo;

use super::conditions::{Conditions, IfMissing};
use super::failure::{bulk_last_admin_failure, store_failure};
use super::server::ServerTokens;
use crate::args::AccessArgs;
use crate::environment::user;
use crate::failure::{Failure, FailureKind};
use crate::marker::Marker;
use crate::output::eprint_message;
use crate::store_handle::StoreHandle;
use crate::store_url::{StoreOptions, StoreUrl};
use crate::target::Target;
use crate::token_input;

/// The tokens of a server or a store.
pub(crate) enum Tokens {
    Server(ServerTokens),
    /// A store is used without a token, as its operator.
    Store {
        tokens: Box<ServiceTokens>,
        store: Arc<dyn StoreHandle>,
    },
}

/// The token that a command acts on.
#[derive(Clone, Copy)]
pub(crate) enum TokenRef {
    Id(TokenId),
    /// The token whose ID has this number, or else this ID.
    Number {
        number: i64,
        id: Option<TokenId>,
    },
    /// The token that the client authenticates with.
    Own,
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
    async fn open(args: &AccessArgs, conditions: Conditions) -> Result<Self, Failure> {
        let named = token_input::from_flags(&args.token)?;
        match Target::resolve(args)? {
            Target::Store(_) if named.is_some() => Err(Failure::usage("a store needs no token")
                .with_hint("omit the token, or specify a server with --url")),
            Target::Store(store) => Self::open_store(&store, conditions).await,
            Target::Server { url, token } => {
                let token = named.or(token);
                ServerTokens::open(&url, token.as_ref(), conditions).map(Self::Server)
            }
        }
    }

    pub(crate) async fn open_store(
        url: &StoreUrl,
        conditions: Conditions,
    ) -> Result<Self, Failure> {
        if let StoreUrl::Sqlite(path) = url {
            Marker::new(path).check_not_lost()?;
        }
        if conditions.if_missing == IfMissing::Fail {
            require_file(url)?;
        }
        let store = url.open_registry(StoreOptions::default()).await?;
        let registry: Arc<dyn TokenRegistry> = store.clone();
        let mut tokens = ServiceTokens::new(registry).acting_for(Operator::new(user()));
        if let Some(revision) = conditions.if_revision {
            tokens = tokens.if_revision(revision);
        }
        if conditions.allow_last_admin_removal {
            tokens = tokens.allow_last_admin_removal();
        }
        let tokens = Box::new(tokens);
        Ok(Self::Store { tokens, store })
    }

    /// Opens the tokens, runs `work` under these conditions and closes them.
    pub(crate) async fn with<T>(
        args: &AccessArgs,
        conditions: Conditions,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let opened = Self::open(args, conditions).await?;
        let done = work(&opened).await;
        opened.close().await;
        done
    }

    /// Closes a store, so that a SQLite database is one complete file. Changes are committed before.
    pub(crate) async fn close(&self) {
        if let Self::Store { store, .. } = self
            && let Err(error) = store.close().await
        {
            eprint_message(format_args!(
                "cannot close the store: {}",
                ErrorChain(&error)
            ));
        }
    }

    pub(crate) async fn create(&self, new: NewToken) -> Result<IssuedTokenInfo, Failure> {
        match self {
            Self::Server(it) => it.done(it.client.create(new).await),
            Self::Store { tokens, .. } => done(tokens.create(new).await),
        }
    }

    /// Returns the id of a token other than the client's own.
    pub(crate) async fn id(&self, token: TokenRef) -> Result<TokenId, Failure> {
        let (number, id) = match token {
            TokenRef::Id(id) => return Ok(id),
            TokenRef::Number { number, id } => (number, id),
            TokenRef::Own => {
                let message = "`self` needs a server: a store is used without a token";
                return Err(Failure::usage(message)
                    .with_hint("specify the ID of the token: `svctok list` shows the IDs"));
            }
        };
        let found = match self {
            Self::Server(it) => match (it.client.get_by_number(number).await, id) {
                (Err(error), Some(id)) if error.kind() == ClientErrorKind::NotFound => id,
                (found, _) => it.done(found)?.id,
            },
            Self::Store { tokens, .. } => match (tokens.get_by_number(number).await, id) {
                (Err(LifecycleError::NotFound), Some(id)) => id,
                (found, _) => found.map_err(store_failure)?.id(),
            },
        };
        let other = id.filter(|id| *id != found);
        if let Some(other) = other
            && Box::pin(self.get(TokenRef::Id(other))).await.is_ok()
        {
            let message = format!("{number} is the ID of one token and the number of another");
            return Err(Failure::rejected(message)
                .with_hint(format!("specify the ID {found}, or use the management API")));
        }
        Ok(found)
    }

    pub(crate) async fn get(&self, token: TokenRef) -> Result<TokenInfo, Failure> {
        match (self, token) {
            (Self::Server(it), TokenRef::Own) => it.done(it.client.get_own().await),
            (Self::Server(it), token) => it.done(it.client.get(self.id(token).await?).await),
            (Self::Store { tokens, .. }, token) => {
                let found = tokens.get(self.id(token).await?).await;
                found.map(|it| info(&it)).map_err(store_failure)
            }
        }
    }

    pub(crate) async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<ChangedTokenInfo, Failure> {
        match self {
            Self::Server(it) => it.done(it.client.update(id, update).await),
            Self::Store { tokens, .. } => done(tokens.update(id, update).await),
        }
    }

    pub(crate) async fn rotate(
        &self,
        token: TokenRef,
        grace: Duration,
    ) -> Result<IssuedTokenInfo, Failure> {
        match (self, token) {
            (Self::Server(it), TokenRef::Own) => it.done(it.client.rotate_own(grace).await),
            (Self::Server(it), token) => {
                it.done(it.client.rotate(self.id(token).await?, grace).await)
            }
            (Self::Store { tokens, .. }, token) => {
                done(tokens.rotate(self.id(token).await?, grace).await)
            }
        }
    }

    pub(crate) async fn disable(&self, id: TokenId) -> Result<ChangedTokenInfo, Failure> {
        match self {
            Self::Server(it) => it.done(it.client.disable(id).await),
            Self::Store { tokens, .. } => done(tokens.disable(id).await),
        }
    }

    pub(crate) async fn enable(&self, id: TokenId) -> Result<ChangedTokenInfo, Failure> {
        match self {
            Self::Server(it) => it.done(it.client.enable(id).await),
            Self::Store { tokens, .. } => done(tokens.enable(id).await),
        }
    }

    /// Revokes a token. Returns its id and the time after which every node sees that, at the latest.
    pub(crate) async fn revoke(&self, token: TokenRef) -> Result<(TokenId, Duration), Failure> {
        match (self, token) {
            (Self::Server(it), TokenRef::Own) => {
                // The server rejects the token afterwards.
                let own = it.done(it.client.get_own().await)?;
                let revoked = it.done(it.client.revoke_own().await)?;
                Ok((own.id, revoked.effective_within))
            }
            (Self::Server(it), token) => {
                let id = self.id(token).await?;
                let revoked = it.done(it.client.revoke(id).await)?;
                Ok((id, revoked.effective_within))
            }
            (Self::Store { tokens, .. }, token) => {
                let id = self.id(token).await?;
                let revoked = tokens.revoke(id).await.map_err(store_failure)?;
                Ok((id, revoked.effective_within))
            }
        }
    }

    /// Returns the tokens that [`revoke_where`](Self::revoke_where) would revoke.
    pub(crate) async fn preview_revocation(
        &self,
        filter: TokenFilter,
    ) -> Result<BulkPreview, Failure> {
        match self {
            Self::Server(it) => it.done(it.client.preview_revocation(filter).await),
            Self::Store { tokens, .. } => done(tokens.preview_revocation(filter).await),
        }
    }

    /// Revokes the tokens that match the filter, if their number is the expected one.
    pub(crate) async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: usize,
    ) -> Result<BulkRevocation, Failure> {
        match self {
            Self::Server(it) => match it.client.revoke_where(filter, expect).await {
                Err(error) if error.kind() == ClientErrorKind::LastAdmin => {
                    Err(bulk_last_admin_failure())
                }
                revoked => it.done(revoked),
            },
            Self::Store { tokens, .. } => match tokens.revoke_where(filter, expect).await {
                Err(LifecycleError::LastAdmin) => Err(bulk_last_admin_failure()),
                revoked => done(revoked),
            },
        }
    }

    /// Returns the tokens of all pages, up to the limit.
    pub(crate) async fn list(
        &self,
        mut filter: TokenFilter,
        include_revoked: bool,
        limit: Option<usize>,
    ) -> Result<Vec<TokenInfo>, Failure> {
        filter.without_revoked = !include_revoked;
        let limit = limit.unwrap_or(usize::MAX);
        let mut page = Page::with_limit(limit.clamp(1, ListRequest::MAX_LIMIT));
        let mut all = Vec::new();
        // If a token is used meanwhile, it may move to a later page.
        let mut seen = BTreeSet::new();
        loop {
            let (found, next) = self.page(&mut filter, page).await?;
            let is_included = |it: &TokenInfo| include_revoked || it.state != TokenStatus::Revoked;
            let found = found.into_iter().filter(is_included);
            all.extend(found.filter(|token| seen.insert(token.id)));
            match next {
                Some(next) if all.len() < limit => page = page.after(next),
                _ => break,
            }
        }
        all.truncate(limit);
        Ok(all)
    }

    async fn page(
        &self,
        filter: &mut TokenFilter,
        page: Page,
    ) -> Result<(Vec<TokenInfo>, Option<Cursor>), Failure> {
        match self {
            Self::Server(it) => {
                let mut found = it.client.list(filter.clone(), page).await;
                // A server of an earlier release lists revoked tokens too.
                if found.as_ref().is_err_and(rejects_without_revoked) {
                    filter.without_revoked = false;
                    found = it.client.list(filter.clone(), page).await;
                }
                let found = it.done(found)?;
                Ok((found.tokens, found.next))
            }
            Self::Store { tokens, .. } => {
                let page = tokens.list(filter.clone(), page).await;
                let page = page.map_err(store_failure)?;
                Ok((page.records.iter().map(info).collect(), page.next))
            }
        }
    }
}

fn rejects_without_revoked(error: &ClientError) -> bool {
    let mut problems = error.problems().iter();
    problems.any(|problem| problem.pointer == "/without_revoked")
}

fn info(record: &TokenRecord) -> TokenInfo {
    TokenInfo::new(record, SystemTime::now())
}

fn done<T>(done: Result<impl Into<T>, LifecycleError>) -> Result<T, Failure> {
    done.map(Into::into).map_err(store_failure)
}
