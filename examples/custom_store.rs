//! A token store over a table of your own.
//!
//! `cargo run --example custom_store` sends the requests itself and prints the responses.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tokio::sync::Mutex;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_service_token::async_trait;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenState, TokenStore};
use tower_service_token::token::{MintedToken, TokenFormat, TokenId};
use tower_service_token::{Principal, ServiceTokenLayer};

struct TableStore(Table);

#[async_trait]
impl TokenStore for TableStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        let row = self
            .0
            .select_by_digest(credential.digest().as_bytes())
            .await
            .map_err(StoreError::unavailable)?;
        row.map(record).transpose()
    }
}

/// Returns the row as a record. The layer decides whether the token is accepted.
fn record(row: Row) -> Result<TokenRecord, StoreError> {
    let id = TokenId::from_i64(row.id)
        .ok_or_else(|| StoreError::corrupt(format!("row {} has no token id", row.id)))?;
    // An unknown state must not count as active.
    let state = match row.state.as_str() {
        "active" => TokenState::Active,
        "disabled" => TokenState::Disabled,
        "revoked" => TokenState::Revoked,
        other => {
            let message = format!("row {} has the unknown state {other:?}", row.id);
            return Err(StoreError::corrupt(message));
        }
    };
    Ok(TokenRecord::new(id, TokenDigest::from_bytes(row.digest))
        .with_name(row.name)
        .with_roles(row.roles.split(','))
        .with_state(state))
}

/// A table in memory. Replace it with your database.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<Database>>);

#[derive(Default)]
struct Database {
    rows: HashMap<[u8; 32], Row>,
    down: bool,
}

#[derive(Clone)]
struct Row {
    id: i64,
    digest: [u8; 32],
    name: String,
    roles: String,
    state: String,
}

impl Table {
    async fn select_by_digest(&self, digest: &[u8; 32]) -> Result<Option<Row>, DatabaseDown> {
        let database = self.0.lock().await;
        if database.down {
            return Err(DatabaseDown);
        }
        Ok(database.rows.get(digest).cloned())
    }

    async fn insert(&self, token: &MintedToken, name: &str, state: &str) {
        let digest = *TokenDigest::of(token.expose_secret()).as_bytes();
        let row = Row {
            id: token.id().as_i64(),
            digest,
            name: name.to_owned(),
            roles: "reader,writer".to_owned(),
            state: state.to_owned(),
        };
        self.0.lock().await.rows.insert(digest, row);
    }

    async fn start_outage(&self) {
        self.0.lock().await.down = true;
    }
}

#[derive(Debug)]
struct DatabaseDown;

impl fmt::Display for DatabaseDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database does not respond")
    }
}

impl Error for DatabaseDown {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let table = Table::default();
    let format = TokenFormat::default();
    let (valid, revoked, corrupt, unknown) = (
        format.mint()?,
        format.mint()?,
        format.mint()?,
        format.mint()?,
    );
    table.insert(&valid, "valid", "active").await;
    table.insert(&revoked, "revoked", "revoked").await;
    table.insert(&corrupt, "corrupt", "half-open").await;

    check(&table, "a valid token", &valid).await?;
    check(&table, "a revoked token", &revoked).await?;
    check(&table, "an unknown token", &unknown).await?;
    check(&table, "a row with an unknown state", &corrupt).await?;
    table.start_outage().await;
    check(&table, "a valid token during an outage", &valid).await
}

async fn check(table: &Table, case: &str, token: &MintedToken) -> Result<(), Box<dyn Error>> {
    let service = ServiceBuilder::new()
        .layer(ServiceTokenLayer::new(TableStore(table.clone())))
        .service(service_fn(greet));
    let request = Request::builder()
        .header("x-api-key", token.expose_secret())
        .body(String::new())?;
    let response = service.oneshot(request).await?;
    println!("{case}: {} {}", response.status(), response.body());
    Ok(())
}

async fn greet(request: Request<String>) -> Result<Response<String>, Infallible> {
    let principal = request.extensions().get::<Principal>();
    let principal = principal.expect("the layer inserts a principal");
    let greeting = format!("hello, {} {:?}", principal.name(), principal.roles());
    Ok(Response::new(greeting))
}
