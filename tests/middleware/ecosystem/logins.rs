//! Users with sessions (axum-login) and with JWTs (jsonwebtoken) beside service tokens.

use std::convert::Infallible;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId};
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, SET_COOKIE, WWW_AUTHENTICATE};
use http::{Extensions, HeaderName, HeaderValue, StatusCode};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower::ServiceExt;
use tower_service_token::authorize::{AccessPolicy, Authorized, Caller, RequireScopesLayer};
use tower_service_token::principal::{Identity, Requirement};
use tower_service_token::store::{TokenRecord, TokenState};
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};
use tower_sessions::{MemoryStore as SessionStore, SessionManagerLayer};

use super::{mint, store_with_token};

const JWT_SECRET: &[u8] = b"the secret of the test's JWTs";
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[derive(Clone, Debug)]
struct User(String);

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.0.clone()
    }

    fn session_auth_hash(&self) -> &[u8] {
        b"hash of the password"
    }
}

#[derive(Clone)]
struct Users;

impl AuthnBackend for Users {
    type User = User;
    type Credentials = String;
    type Error = Infallible;

    async fn authenticate(&self, name: String) -> Result<Option<User>, Infallible> {
        Ok(Some(User(name)))
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(Some(User(id.clone())))
    }
}

#[derive(Clone, Deserialize, Serialize)]
struct Claims {
    sub: String,
    scope: String,
    exp: u64,
}

/// Judges the bearer tokens that are not service tokens.
async fn authenticate_jwt(mut request: Request, next: Next) -> Response {
    let bearer = request.headers().get(AUTHORIZATION);
    let bearer = bearer.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if let Some(jwt) = bearer.filter(|bearer| !TokenFormat::default().resembles(bearer)) {
        let key = DecodingKey::from_secret(JWT_SECRET);
        match jsonwebtoken::decode::<Claims>(jwt, &key, &Validation::default()) {
            Ok(jwt) => request.extensions_mut().insert(jwt.claims),
            Err(_) => return (StatusCode::UNAUTHORIZED, "bad JWT").into_response(),
        };
    }
    next.run(request).await
}

/// The user of the session, or else that of the JWT.
fn identity(extensions: &Extensions) -> Option<Identity> {
    let session = extensions.get::<AuthSession<Users>>();
    if let Some(user) = session.and_then(|session| session.user.as_ref()) {
        let scopes: &[&str] = if user.0 == "alice" {
            &["health:*"]
        } else {
            &[]
        };
        return Some(Identity::new(&*user.0).with_scopes(scopes));
    }
    let claims = extensions.get::<Claims>()?;
    Some(Identity::new(&*claims.sub).with_scopes(claims.scope.split(' ')))
}

struct CheckHealth;

impl AccessPolicy for CheckHealth {
    fn requirement() -> Requirement {
        Requirement::all_scopes(["health:check"])
    }
}

fn kind(caller: &Caller) -> String {
    match caller {
        Caller::Token(principal) => format!("token {}", principal.name()),
        Caller::Identity(identity) => format!("user {}", identity.name()),
    }
}

async fn login(Path(name): Path<String>, Extension(session): Extension<AuthSession<Users>>) {
    let mut session = session;
    session.login(&User(name)).await.unwrap();
}

/// A router with all three kinds of credentials, its token, and a session of alice and of mallory.
struct Site {
    router: Router,
    store: MemoryStore,
    token: String,
    alice: String,
    mallory: String,
}

impl Site {
    async fn new() -> Self {
        let (store, token) = store_with_token();
        let layer = ServiceTokenLayer::new(store.clone());
        Self::with_layer(store, token.expose_secret().to_owned(), layer).await
    }

    async fn with_layer(store: MemoryStore, token: String, layer: ServiceTokenLayer) -> Self {
        let sessions = SessionManagerLayer::new(SessionStore::default()).with_secure(false);
        let tokens = layer
            .accept_bearer_of(TokenFormat::default())
            .with_identity(identity);
        let router = Router::new()
            .route("/guarded", get(async |caller: Caller| kind(&caller)))
            .route_layer(RequireScopesLayer::all_of(["health:check"]))
            .route("/whoami", get(async |caller: Caller| kind(&caller)))
            .route(
                "/anyone",
                get(async |caller: Option<Caller>| {
                    caller.map_or("nobody".to_owned(), |caller| kind(&caller))
                }),
            )
            .route(
                "/authorized",
                get(async |caller: Authorized<CheckHealth, Caller>| kind(&caller)),
            )
            .route(
                "/token",
                get(async |token: Principal| token.name().to_owned()),
            )
            .route(
                "/token-if-any",
                get(async |token: Option<Principal>| {
                    token.map_or("none".to_owned(), |token| token.name().to_owned())
                }),
            )
            .route(
                "/authorized-token",
                get(async |token: Authorized<CheckHealth>| token.name().to_owned()),
            )
            .route_layer(tokens)
            .route("/login/{name}", post(login))
            .layer(from_fn(authenticate_jwt))
            .layer(AuthManagerLayerBuilder::new(Users, sessions).build());
        let alice = session(&router, "alice").await;
        let mallory = session(&router, "mallory").await;
        Self {
            router,
            store,
            token,
            alice,
            mallory,
        }
    }

    async fn get(&self, path: &str, headers: &[(HeaderName, &str)]) -> (StatusCode, String) {
        let response = self.send(path, headers).await;
        let status = response.status();
        (status, text(response).await)
    }

    async fn send(&self, path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(name, value);
        }
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// The `code` of the layer's rejection, or the text of a response that is not the layer's.
    async fn outcome(&self, headers: &[(HeaderName, &str)]) -> String {
        let (_, body) = self.get("/whoami", headers).await;
        let problem = serde_json::from_str::<Value>(&body);
        problem.map_or(body, |problem| problem["code"].as_str().unwrap().to_owned())
    }
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), 4096).await.unwrap();
    String::from_utf8(body.into()).unwrap()
}

async fn session(router: &Router, name: &str) -> String {
    let request = Request::post(format!("/login/{name}"));
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

fn jwt(sub: &str, scope: &str, secret: &[u8]) -> String {
    let claims = Claims {
        sub: sub.to_owned(),
        scope: scope.to_owned(),
        exp: 4_000_000_000,
    };
    let key = EncodingKey::from_secret(secret);
    let jwt = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    format!("Bearer {jwt}")
}

/// Service tokens that are not valid, and the `code` for each.
fn invalid_tokens(site: &Site) -> Vec<(String, &'static str)> {
    let revoked = mint();
    let record = TokenRecord::from(&revoked).with_state(TokenState::Revoked);
    site.store.insert(record).unwrap();
    let last = if site.token.ends_with('0') { '1' } else { '0' };
    vec![
        (mint().expose_secret().to_owned(), "invalid_token"),
        (format!("{}{last}", &site.token[..47]), "invalid_token"),
        (site.token[..40].to_owned(), "invalid_token"),
        (format!("{}x", site.token), "invalid_token"),
        (site.token.to_uppercase(), "invalid_token"),
        (format!("\"{}\"", site.token), "invalid_token"),
        (format!("%22{}%22", site.token), "invalid_token"),
        (format!("token={}", site.token), "invalid_token"),
        (format!("{},", site.token), "invalid_token"),
        (site.token[1..].to_owned(), "invalid_token"),
        ("svctok-".to_owned(), "invalid_token"),
        (revoked.expose_secret().to_owned(), "token_revoked"),
        (format!("svctok-{}", "k".repeat(506)), "invalid_request"),
    ]
}

#[tokio::test]
async fn accepts_each_credential_alone() {
    let site = Site::new().await;
    let token = &site.token;
    let bob = jwt("bob", "health:check", JWT_SECRET);
    let long = jwt("bob", &"health:check ".repeat(300), JWT_SECRET);
    assert!(long.len() > 512);
    for (header, expected) in [
        ((X_API_KEY, token.clone()), "token ci"),
        ((AUTHORIZATION, format!("ApiKey {token}")), "token ci"),
        ((AUTHORIZATION, format!("Bearer {token}")), "token ci"),
        ((AUTHORIZATION, format!("bearer   {token}")), "token ci"),
        ((COOKIE, site.alice.clone()), "user alice"),
        ((AUTHORIZATION, bob), "user bob"),
        ((AUTHORIZATION, long), "user bob"),
    ] {
        let headers = [(header.0, &*header.1)];
        for path in ["/whoami", "/anyone", "/guarded", "/authorized"] {
            let expected = (StatusCode::OK, expected.to_owned());
            assert_eq!(
                site.get(path, &headers).await,
                expected,
                "{path} {headers:?}"
            );
        }
    }
    let response = site.send("/whoami", &[]).await;
    assert_eq!(response.status(), 401);
    let challenges: Vec<_> = response
        .headers()
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .collect();
    assert_eq!(
        challenges,
        [r#"ApiKey realm="api""#, r#"Bearer realm="api""#]
    );
}

#[tokio::test]
async fn service_token_outranks_users() {
    let site = Site::new().await;
    let token = &*site.token;
    let bearer = format!("Bearer {token}");
    let bob = jwt("bob", "", JWT_SECRET);
    for headers in [
        &[(X_API_KEY, token), (COOKIE, &*site.alice)][..],
        &[(AUTHORIZATION, &*bearer), (COOKIE, &*site.mallory)],
        &[(X_API_KEY, token), (AUTHORIZATION, &*bob)],
        &[
            (X_API_KEY, token),
            (AUTHORIZATION, &*bob),
            (COOKIE, &*site.alice),
        ],
        &[(X_API_KEY, token), (AUTHORIZATION, &*bearer)],
        &[(X_API_KEY, token), (AUTHORIZATION, "Basic Zm9vOmJhcg==")],
    ] {
        assert_eq!(site.outcome(headers).await, "token ci", "{headers:?}");
    }
    // Which of two users counts is decided by the application.
    let both = [(AUTHORIZATION, &*bob), (COOKIE, &*site.alice)];
    assert_eq!(site.outcome(&both).await, "user alice");
}

#[tokio::test]
async fn invalid_service_token_is_rejected_beside_valid_users() {
    let site = Site::new().await;
    let bob = jwt("bob", "", JWT_SECRET);
    for (token, code) in invalid_tokens(&site) {
        let bearer = format!("Bearer {token}");
        let api_key = format!("APIKEY {token}");
        for headers in [
            &[(X_API_KEY, &*token)][..],
            &[(AUTHORIZATION, &*api_key)],
            &[(AUTHORIZATION, &*api_key), (COOKIE, &*site.alice)],
            &[(X_API_KEY, &*token), (COOKIE, &*site.alice)],
            &[(X_API_KEY, &*token), (AUTHORIZATION, &*bob)],
        ] {
            assert_eq!(site.outcome(headers).await, code, "{headers:?}");
        }
        for headers in [
            &[(AUTHORIZATION, &*bearer)][..],
            &[(AUTHORIZATION, &*bearer), (COOKIE, &*site.alice)],
        ] {
            assert_eq!(site.outcome(headers).await, code, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn invalid_users_are_rejected_and_do_not_harm_a_token() {
    let site = Site::new().await;
    let token = &*site.token;
    let forged = jwt("root", "health:check", b"another secret");
    let cookie = "id=AAAAAAAAAAAAAAAAAAAAAA";
    for (headers, expected) in [
        (&[(COOKIE, cookie)][..], "missing_token"),
        (&[(COOKIE, cookie), (X_API_KEY, token)], "token ci"),
        (&[(AUTHORIZATION, &*forged)], "bad JWT"),
        (
            &[(AUTHORIZATION, &*forged), (COOKIE, &*site.alice)],
            "bad JWT",
        ),
        (&[(AUTHORIZATION, &*forged), (X_API_KEY, token)], "bad JWT"),
        (&[(AUTHORIZATION, "Basic Zm9vOmJhcg==")], "missing_token"),
        (
            &[
                (AUTHORIZATION, "Basic Zm9vOmJhcg=="),
                (COOKIE, &*site.alice),
            ],
            "user alice",
        ),
    ] {
        assert_eq!(site.outcome(headers).await, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn unreadable_and_repeated_headers_are_rejected_beside_valid_users() {
    let site = Site::new().await;
    let bob = jwt("bob", "", JWT_SECRET);
    let token = format!("ApiKey {}", site.token);
    for headers in [
        &[(AUTHORIZATION, "Bearer \u{e9}")][..],
        &[(AUTHORIZATION, "")],
        &[(X_API_KEY, "\u{e9}")],
        &[(AUTHORIZATION, &*bob), (AUTHORIZATION, &*token)],
        &[(AUTHORIZATION, &*bob), (AUTHORIZATION, &*bob)],
        &[(X_API_KEY, &*site.token), (X_API_KEY, &*site.token)],
    ] {
        let headers = [headers, &[(COOKIE, &*site.alice)]].concat();
        assert_eq!(
            site.outcome(&headers).await,
            "invalid_request",
            "{headers:?}"
        );
    }
    // Without a JWT layer in front, too.
    let (store, _) = store_with_token();
    let layer = ServiceTokenLayer::new(store).optional();
    let app = Router::new()
        .route("/", get(async || "reached"))
        .layer(layer.accept_bearer_of(TokenFormat::default()));
    for (value, status) in [
        ("Bearer a b", 400),
        ("Bearer ", 400),
        ("Bearer", 400),
        ("Bearer\teyJ", 400),
        ("Bearer eyJ\u{e9}", 400),
        ("Bearer svctok-\u{e9}", 400),
        ("bEARER svctok-1", 401),
        ("Bearer eyJ", 200),
        ("Bearer svctok", 200),
    ] {
        let request = Request::get("/");
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let request = request.header(AUTHORIZATION, &value);
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{value:?}");
    }
}

#[tokio::test]
async fn rejections_fit_the_caller() {
    let site = Site::new().await;
    let weak = mint();
    site.store.insert((&weak).into()).unwrap();
    let weak = weak.expose_secret();
    let carol = jwt("carol", "other:check", JWT_SECRET);
    for path in ["/guarded", "/authorized"] {
        for headers in [[(COOKIE, &*site.mallory)], [(AUTHORIZATION, &*carol)]] {
            let response = site.send(path, &headers).await;
            assert_eq!(response.status(), 403);
            assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            let body = text(response).await;
            assert!(
                body.contains("the caller lacks a required role or scope"),
                "{body}"
            );
            assert!(!body.contains("token"), "{body}");
        }
        let response = site.send(path, &[(X_API_KEY, weak)]).await;
        assert_eq!(response.status(), 403);
        assert_eq!(
            response.headers().get_all(WWW_AUTHENTICATE).iter().count(),
            2
        );
        let body = text(response).await;
        assert!(body.contains("the service token lacks"), "{body}");
    }
    // A handler for tokens only: another credential would help a user.
    for path in ["/token", "/authorized-token"] {
        let response = site.send(path, &[(COOKIE, &site.alice)]).await;
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.headers().get_all(WWW_AUTHENTICATE).iter().count(),
            2
        );
        let expected = (StatusCode::OK, "ci".to_owned());
        assert_eq!(site.get(path, &[(X_API_KEY, &site.token)]).await, expected);
    }
    let alice = [(COOKIE, &*site.alice)];
    assert_eq!(site.get("/token-if-any", &alice).await.1, "none");
}

#[tokio::test]
async fn optional_layer_has_anonymous_callers_too() {
    let (store, token) = store_with_token();
    let layer = ServiceTokenLayer::new(store.clone()).optional();
    let token = token.expose_secret().to_owned();
    let site = Site::with_layer(store, token, layer).await;
    for (headers, expected) in [
        (&[][..], (200, "nobody")),
        (&[(COOKIE, &*site.alice)], (200, "user alice")),
        (&[(X_API_KEY, &*site.token)], (200, "token ci")),
    ] {
        let (status, body) = site.get("/anyone", headers).await;
        assert_eq!((status.as_u16(), &*body), expected);
    }
    assert_eq!(site.get("/guarded", &[]).await.0, 401);
    assert_eq!(site.get("/whoami", &[]).await.0, 401);
    assert_eq!(site.get("/anyone", &[(X_API_KEY, "other")]).await.0, 401);
}

/// The routers of this crate manage tokens for the holders of tokens.
#[tokio::test]
async fn management_api_accepts_no_identity() {
    use tower_service_token::ServiceTokens;
    use tower_service_token::api::management::ManagementApi;

    let (store, _) = store_with_token();
    let layer = ServiceTokenLayer::new(store.clone());
    let layer = layer.with_identity(|_| Some(Identity::new("root").with_scopes(["*"])));
    let router: Router = ManagementApi::new(ServiceTokens::new(store), layer).into_router();
    for path in ["/service-tokens", "/service-tokens/self"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
    }
}
