//! The application: users in PostgreSQL, sessions of axum-login, the management API for users, and a
//! route for their tokens.

use std::future::ready;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId};
use futures::future::BoxFuture;
use http::StatusCode;
use http::request::Parts;
use ring::pbkdf2;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use test_support::postgres::Postgres;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::lifecycle::{CallbackError, Owner, TokenPolicy};
use tower_service_token::store::sql::PostgresStore;
use tower_service_token::{Principal, ServiceTokenLayer, ServiceTokens};
use tower_sessions::{MemoryStore, SessionManagerLayer};

pub(crate) const MAX_TOKENS: u64 = 3;

/// Few, because the tests do not defend the passwords.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// An empty database.
#[derive(Clone)]
pub(crate) struct TestDatabase {
    server: Arc<Postgres>,
    url: String,
}

impl TestDatabase {
    pub(crate) async fn new(server: Arc<Postgres>) -> Self {
        let url = server.create_database().await;
        Self { server, url }
    }

    pub(crate) async fn remove(self) {
        self.server.drop_database(&self.url).await;
    }
}

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: i64,
    email: String,
    password_hash: Vec<u8>,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.password_hash
    }
}

impl User {
    fn owner(&self) -> Owner {
        Owner::new(format!("user:{}", self.id)).with_scopes(["projects:*"])
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Login {
    pub(crate) email: String,
    pub(crate) password: String,
}

/// The users of the application. The salt of a password is the email address.
#[derive(Clone, Debug)]
pub(crate) struct Users(PgPool);

impl Users {
    async fn create_table(pool: PgPool) -> Self {
        let statement = "CREATE TABLE users (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
            email TEXT NOT NULL UNIQUE, password_hash BYTEA NOT NULL)";
        sqlx::query(statement).execute(&pool).await.unwrap();
        Self(pool)
    }

    pub(crate) async fn add(&self, email: &str, password: &str) -> i64 {
        let statement = "INSERT INTO users (email, password_hash) VALUES ($1, $2) RETURNING id";
        let query = sqlx::query_scalar(statement).bind(email);
        let query = query.bind(hash(email, password));
        query.fetch_one(&self.0).await.unwrap()
    }

    async fn find(&self, condition: &str, value: String) -> Result<Option<User>, sqlx::Error> {
        let statement = format!("SELECT id, email, password_hash FROM users WHERE {condition}");
        let query = sqlx::query_as(AssertSqlSafe(statement)).bind(value);
        let row: Option<(i64, String, Vec<u8>)> = query.fetch_optional(&self.0).await?;
        Ok(row.map(|(id, email, password_hash)| User {
            id,
            email,
            password_hash,
        }))
    }

    pub(crate) async fn delete(&self, id: i64) {
        let query = sqlx::query("DELETE FROM users WHERE id = $1").bind(id);
        assert_eq!(query.execute(&self.0).await.unwrap().rows_affected(), 1);
    }

    pub(crate) async fn change_password(&self, id: i64, email: &str, password: &str) {
        let statement = "UPDATE users SET password_hash = $2 WHERE id = $1";
        let query = sqlx::query(statement).bind(id).bind(hash(email, password));
        assert_eq!(query.execute(&self.0).await.unwrap().rows_affected(), 1);
    }
}

fn hash(email: &str, password: &str) -> Vec<u8> {
    let mut hash = vec![0; 32];
    let (salt, password) = (email.as_bytes(), password.as_bytes());
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ITERATIONS,
        salt,
        password,
        &mut hash,
    );
    hash
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Login;
    type Error = sqlx::Error;

    async fn authenticate(&self, login: Login) -> Result<Option<User>, sqlx::Error> {
        let user = self.find("email = $1", login.email).await?;
        Ok(user.filter(|user| {
            let (salt, password) = (user.email.as_bytes(), login.password.as_bytes());
            let (algorithm, hash) = (pbkdf2::PBKDF2_HMAC_SHA256, &user.password_hash);
            pbkdf2::verify(algorithm, ITERATIONS, salt, password, hash).is_ok()
        }))
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, sqlx::Error> {
        self.find("id::text = $1", id.to_string()).await
    }
}

type Session = AuthSession<Users>;

/// Reads the session and the user again.
async fn check(session: Session, user: User) -> Result<Option<Owner>, CallbackError> {
    session
        .session
        .load()
        .await
        .map_err(CallbackError::unavailable)?;
    let login = session.session.get_value("axum-login.data").await;
    let login = login.map_err(CallbackError::unavailable)?;
    if login.is_none_or(|login| login["user_id"] != user.id) {
        return Ok(None);
    }
    let current = session.backend.get_user(&user.id).await;
    match current.map_err(CallbackError::unavailable)? {
        Some(it) if it.password_hash == user.password_hash => Ok(Some(it.owner())),
        _ => Ok(None),
    }
}

async fn log_in(
    Extension(mut session): Extension<Session>,
    Json(login): Json<Login>,
) -> StatusCode {
    match session.authenticate(login).await.unwrap() {
        Some(user) => {
            session.login(&user).await.unwrap();
            StatusCode::NO_CONTENT
        }
        None => StatusCode::UNAUTHORIZED,
    }
}

async fn log_out(Extension(mut session): Extension<Session>) {
    session.logout().await.unwrap();
}

/// What happens between the authentication of the next request and its write.
type Meanwhile = Arc<Mutex<Option<BoxFuture<'static, ()>>>>;

pub(crate) struct Application {
    pub(crate) router: Router,
    pub(crate) users: Users,
    /// Acts as an operator.
    pub(crate) tokens: ServiceTokens,
    pub(crate) meanwhile: Meanwhile,
}

impl Application {
    pub(crate) async fn start(database: &TestDatabase) -> Self {
        let pool = PgPool::connect(&database.url).await.unwrap();
        let store = PostgresStore::with_pool(pool.clone()).await.unwrap();
        let users = Users::create_table(pool).await;
        let tokens = ServiceTokens::new(store.clone()).with_owner_policies(|_: String| {
            let policy = TokenPolicy::new()
                .require_unique_names()
                .with_max_tokens_per_owner(MAX_TOKENS);
            ready(Ok(policy))
        });
        let meanwhile = Meanwhile::default();
        let next = Arc::clone(&meanwhile);
        let api = ManagementApi::for_actor(tokens.clone(), move |parts: &Parts| {
            let session = parts.extensions.get::<Session>().cloned();
            let meanwhile = next.lock().unwrap().take();
            async move {
                let session = session.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
                let user = session.user.clone().ok_or(StatusCode::UNAUTHORIZED)?;
                let owner = user.owner();
                if let Some(meanwhile) = meanwhile {
                    meanwhile.await;
                }
                Ok::<_, StatusCode>(owner.with_check(move || check(session.clone(), user.clone())))
            }
        });
        let sessions = SessionManagerLayer::new(MemoryStore::default());
        let projects = Router::new()
            .route(
                "/projects",
                get(async |token: Principal| token.owner().unwrap().to_owned()),
            )
            .route_layer(ServiceTokenLayer::new(store));
        let router = Router::new()
            .nest("/account", api.into_router())
            .route("/login", post(log_in))
            .route("/logout", post(log_out))
            .layer(AuthManagerLayerBuilder::new(users.clone(), sessions).build())
            .merge(projects);
        Self {
            router,
            users,
            tokens,
            meanwhile,
        }
    }
}
