use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderName, HeaderValue};
use tower_layer::Layer;

use super::additions::ResponseAdditions;
use super::check::Checker;
use super::service::ServiceToken;
use crate::audit::AuditSink;
use crate::clock::Clock;
use crate::header::{CredentialSources, TokenHeader};
#[cfg(feature = "tokio")]
use crate::limits::{FailureLimit, OptionalFailureLimit};
use crate::principal::Identity;
use crate::registry::LastUsed;
use crate::reject::{ProblemJson, Realm};
use crate::store::TokenStore;
use crate::token::TokenFormat;

/// Layer that applies the [`ServiceToken`] middleware, which accepts requests with a valid service token.
///
/// See the [module](crate::middleware) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct ServiceTokenLayer<R = ProblemJson> {
    checker: Arc<Checker>,
    cache_headers: bool,
    rejection_response: R,
}

impl ServiceTokenLayer {
    /// Creates a layer that accepts valid tokens from `store`.
    ///
    /// Pass a clone to keep a handle: every store of this crate shares its tokens with its clones.
    pub fn new(store: impl TokenStore) -> Self {
        let layer = Self {
            checker: Arc::new(Checker::new(store)),
            cache_headers: true,
            rejection_response: ProblemJson,
        };
        layer.rebuild_additions()
    }
}

impl<R> ServiceTokenLayer<R> {
    /// Accepts a request without a credential, which then has no [`Principal`](crate::Principal).
    ///
    /// A credential that is presented and not valid is still rejected. By default a credential is
    /// required.
    pub fn optional(mut self) -> Self {
        self.checker_mut().optional = true;
        self
    }

    /// Accepts a request without a credential if `source` finds an [`Identity`] in its extensions: a
    /// caller that the application authenticated otherwise, such as by a session or a JWT. By default
    /// there are no identities.
    ///
    /// Put the middleware that authenticates them outside of this layer, so that its results are in the
    /// extensions. A token that is presented outranks an identity: `source` is not called, and an
    /// invalid token is rejected.
    ///
    /// The layers of [`authorize`](crate::authorize), [`Caller`](crate::authorize::Caller) and
    /// `Authorized<_, Caller>` accept identities. The extractor [`Principal`](crate::Principal) and the
    /// routers of the feature `api` accept tokens only.
    ///
    /// ```
    /// use tower_service_token::principal::Identity;
    /// use tower_service_token::{MemoryStore, ServiceTokenLayer};
    ///
    /// /// The user of the session, which the application's own middleware inserts.
    /// #[derive(Clone)]
    /// struct User {
    ///     name: String,
    ///     is_admin: bool,
    /// }
    ///
    /// let layer = ServiceTokenLayer::new(MemoryStore::new()).with_identity(|extensions| {
    ///     let user = extensions.get::<User>()?;
    ///     Some(Identity::new(&*user.name).with_roles(user.is_admin.then_some("admin")))
    /// });
    /// ```
    ///
    /// # Caveats
    ///
    /// `source` runs inside `Service::call` for each request without a credential, so it must not
    /// block. Look users up in the middleware outside.
    ///
    /// The layer does not remove what that middleware inserted. If a request has both, `Caller` is the
    /// token, while an extension such as `User` is still the user. Read the user only under
    /// `Caller::Identity`.
    ///
    /// Browsers send a session cookie also with requests that another site makes. Protect handlers
    /// that accept sessions against that, such as by `SameSite` cookies.
    pub fn with_identity<F>(mut self, source: F) -> Self
    where
        F: Fn(&Extensions) -> Option<Identity> + Send + Sync + 'static,
    {
        self.checker_mut().identity = Some(Arc::new(source));
        self
    }

    /// Also reads `Authorization: Bearer <token>`, whatever the token. By default it is not read.
    ///
    /// Of several calls of this method and [`accept_bearer_of`](Self::accept_bearer_of), the last one
    /// applies.
    pub fn accept_bearer(self) -> Self {
        let sources = self.checker.sources.clone().accept_bearer();
        self.with_sources(sources)
    }

    /// Also reads `Authorization: Bearer <token>`, but only tokens of this format. Others count as
    /// absent, so that another middleware can authenticate them, such as JWTs. By default no bearer
    /// token is read.
    ///
    /// A damaged or unknown token of the format is rejected. See
    /// [`CredentialSources::accept_bearer_of`] for the rules. Of several calls of this method and
    /// [`accept_bearer`](Self::accept_bearer), the last one applies.
    ///
    /// The endpoints `/verify` and `/introspect` and the `PipeOps` API, which the feature `api` builds from a
    /// layer, read all bearer tokens: nothing else authenticates their callers.
    pub fn accept_bearer_of(self, format: TokenFormat) -> Self {
        let sources = self.checker.sources.clone().accept_bearer_of(format);
        self.with_sources(sources)
    }

    /// Adds a header whose whole value is the token. The default is `X-API-Key` alone.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_service_token::header::TokenHeader;
    /// use tower_service_token::{MemoryStore, ServiceTokenLayer};
    ///
    /// let header = TokenHeader::new(HeaderName::from_static("x-deploy-token"))?;
    /// let layer = ServiceTokenLayer::new(MemoryStore::new()).with_header(header);
    /// # Ok::<_, tower_service_token::header::TokenHeaderError>(())
    /// ```
    pub fn with_header(self, header: TokenHeader) -> Self {
        let sources = self.checker.sources.clone().with_header(header);
        self.with_sources(sources)
    }

    /// Replaces the headers that tokens are read from. The default is
    /// [`CredentialSources::default`].
    ///
    /// ```
    /// use tower_service_token::header::{CredentialSources, TokenHeader};
    /// use tower_service_token::{MemoryStore, ServiceTokenLayer};
    ///
    /// let only_x_api_key = CredentialSources::none().with_header(TokenHeader::X_API_KEY);
    /// let layer = ServiceTokenLayer::new(MemoryStore::new()).with_sources(only_x_api_key);
    /// ```
    pub fn with_sources(mut self, sources: CredentialSources) -> Self {
        let checker = self.checker_mut();
        checker
            .challenges
            .set_schemes(sources.reads_api_key(), sources.reads_bearer());
        checker.sources = sources;
        self.rebuild_additions()
    }

    /// Sets the longest token to accept, in bytes; longer ones get 400. The default is 512.
    pub fn with_max_token_length(self, bytes: usize) -> Self {
        let sources = self.checker.sources.clone().with_max_token_length(bytes);
        self.with_sources(sources)
    }

    /// Sets the realm of the challenge (RFC 9110 §11.5), also in the rejections of guards and
    /// extractors behind this layer. The default is `api`.
    pub fn with_realm(mut self, realm: Realm) -> Self {
        self.checker_mut().challenges.set_realm(realm);
        self.rebuild_additions()
    }

    /// Sets the format of the tokens that this service mints. Their checksum is verified before a
    /// lookup. Tokens of any other format are looked up as well. The default has the prefix
    /// `svctok-`.
    pub fn with_token_format(mut self, format: TokenFormat) -> Self {
        self.checker_mut().format = format;
        self
    }

    /// Sets the clock that expiry is evaluated with. The default is
    /// [`SystemClock`](crate::clock::SystemClock).
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.checker_mut().clock = Arc::new(clock);
        self
    }

    /// Removes the credential before the inner service receives the request. By default it stays,
    /// marked sensitive.
    ///
    /// An `Authorization` header of a scheme that is not read stays in any case.
    pub fn strip_credential(mut self) -> Self {
        self.checker_mut().strip_credential = true;
        self
    }

    /// Records the use of each accepted token. By default uses are not recorded.
    ///
    /// Each request reads the clock and looks up a map; a token that is not in the map yet is
    /// inserted.
    pub fn with_last_used(mut self, last_used: LastUsed) -> Self {
        self.checker_mut().last_used = Some(last_used);
        self
    }

    /// Inserts the [`Principal`](crate::Principal) of an accepted request into the extensions of the
    /// response too, for an outer layer such as an access log. By default only the request has it.
    ///
    /// A rejected request has no principal. Its response has the
    /// [`Rejection`](crate::reject::Rejection), with the id of a known token. An outer layer must not
    /// forward the extensions of a response to a request.
    ///
    /// ```
    /// use http::Response;
    /// use tower_service_token::reject::Rejection;
    /// use tower_service_token::token::DisplayId;
    /// use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};
    ///
    /// let layer = ServiceTokenLayer::new(MemoryStore::new()).propagate_principal();
    ///
    /// /// The caller in a line of the access log.
    /// fn caller<B>(response: &Response<B>) -> Option<DisplayId> {
    ///     let extensions = response.extensions();
    ///     let accepted = extensions.get::<Principal>().map(Principal::display_id);
    ///     accepted.or_else(|| extensions.get::<Rejection>()?.display_id())
    /// }
    /// # caller(&Response::new(()));
    /// ```
    pub fn propagate_principal(mut self) -> Self {
        self.checker_mut().propagates_principal = true;
        self
    }

    /// Sets the sink that receives an event when a known token is rejected, such as a revoked one.
    /// The default is [`TracingAuditSink`](crate::audit::TracingAuditSink).
    pub fn with_audit_sink(mut self, sink: impl AuditSink) -> Self {
        self.checker_mut().audit = Some(Arc::new(sink));
        self
    }

    /// Limits the load of unknown tokens, or sets no limit with `None`. The default is no limit;
    /// the endpoints of [`api`](crate#features) have one in any case, unless it is `None` here.
    ///
    /// See [`FailureLimit`] for the rules and figures. Tokens that the store has in memory are not
    /// affected.
    #[cfg(feature = "tokio")]
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.checker_mut().failures = OptionalFailureLimit::new(limit.into());
        self
    }

    /// Adds no headers to accepted responses. Rejections still have `Cache-Control: no-store`.
    ///
    /// By default an accepted response gets `Vary` with the names of the credential headers, and
    /// `Cache-Control: private` if it has no `Cache-Control`. Without them a shared cache may serve
    /// one client's response to another: RFC 9111 §3.5 protects only requests with `Authorization`.
    pub fn without_cache_headers(mut self) -> Self {
        self.cache_headers = false;
        self.rebuild_additions()
    }

    /// Sets the builder of the responses to rejected requests. The default is [`ProblemJson`].
    ///
    /// Accepts any [`ResponseForRejection`](crate::reject::ResponseForRejection), closures
    /// included. The [`Rejection`](crate::reject::Rejection) is inserted into the extensions of the
    /// response, whichever builder is used.
    pub fn with_rejection_response<T: Clone>(self, rejection_response: T) -> ServiceTokenLayer<T> {
        ServiceTokenLayer {
            checker: self.checker,
            cache_headers: self.cache_headers,
            rejection_response,
        }
    }

    /// Returns the headers that the layer reads.
    #[cfg(feature = "openapi")]
    pub(crate) fn sources(&self) -> &CredentialSources {
        &self.checker.sources
    }

    /// Returns the configuration of the layer.
    #[cfg(feature = "api")]
    pub(crate) fn checker(&self) -> Arc<Checker> {
        Arc::clone(&self.checker)
    }

    /// The layer of a router whose handlers authenticate again: the credential stays in the request,
    /// failures are limited by default, and identities are not accepted.
    #[cfg(feature = "api")]
    pub(crate) fn for_api(self) -> Self {
        let mut layer = self.limit_failures();
        let checker = layer.checker_mut();
        (checker.strip_credential, checker.identity) = (false, None);
        layer
    }

    /// Sets the default failure limit unless the user chose one, or none.
    #[cfg(feature = "api")]
    fn limit_failures(mut self) -> Self {
        let checker = self.checker_mut();
        let failures = std::mem::take(&mut checker.failures);
        checker.failures = failures.or_else(|| Some(FailureLimit::new()));
        self
    }

    /// Returns the checker, which always reads `Authorization: ApiKey` and `Bearer`, and also
    /// challenges for `Basic` if something else reads it.
    #[cfg(feature = "api")]
    pub(crate) fn into_checker(self, basic: bool) -> Arc<Checker> {
        let sources = self.checker.sources.clone();
        let layer = self.limit_failures();
        let mut layer = layer.with_sources(sources.accept_api_key().accept_bearer());
        let checker = layer.checker_mut();
        checker.challenges.set_basic(basic);
        layer.checker
    }

    /// Rebuilds the additions to responses after a setting that they depend on changed.
    fn rebuild_additions(mut self) -> Self {
        let cache_headers = self.cache_headers;
        let checker = self.checker_mut();
        let vary = cache_headers.then(|| vary(&checker.sources));
        checker.additions = ResponseAdditions::new(vary, &checker.challenges);
        self
    }

    fn checker_mut(&mut self) -> &mut Checker {
        Arc::make_mut(&mut self.checker)
    }
}

impl<S, R: Clone> Layer<S> for ServiceTokenLayer<R> {
    type Service = ServiceToken<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        ServiceToken {
            inner,
            checker: Arc::clone(&self.checker),
            rejection_response: self.rejection_response.clone(),
        }
    }
}

impl<R> fmt::Debug for ServiceTokenLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTokenLayer")
            .field("sources", &self.checker.sources)
            .field("optional", &self.checker.optional)
            .finish_non_exhaustive()
    }
}

fn vary(sources: &CredentialSources) -> HeaderValue {
    let names: Vec<&str> = sources.names().map(canonical_name).collect();
    if names == ["Authorization", "X-API-Key"] {
        // Cloning a static value counts no reference, which all requests would share.
        return HeaderValue::from_static("Authorization, X-API-Key");
    }
    HeaderValue::try_from(names.join(", ")).expect("header names are visible ASCII")
}

/// Returns the usual spelling of a header name.
fn canonical_name(name: &HeaderName) -> &str {
    match name.as_str() {
        "authorization" => "Authorization",
        "x-api-key" => "X-API-Key",
        name => name,
    }
}
