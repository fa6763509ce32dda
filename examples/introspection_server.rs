//! A server that holds the tokens, so that services in any language can check one.
//!
//! `cargo run --example introspection_server --features api`, then paste what it prints: a token of
//! a service that may introspect, a token of a user, and the commands that ask about it, verify it
//! and revoke it. It listens on port 8080 unless `PORT` says otherwise; `PORT=0` takes any free one.
//! Behind a proxy, `TRUSTED_PROXIES` is a list of its addresses or networks, and
//! `CLIENT_ADDRESS_HEADER` names the header that it writes, `X-Forwarded-For` by default.
//! `examples/nginx` has a reverse proxy that goes by it.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use tokio::net::TcpListener;
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::limits::{ClientAddressLayer, FailureLimit};
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("introspection_server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    // Any other store does as well; one that must be asked belongs behind a `CachedStore`.
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone());
    let service = NewToken::new("resource-server").with_scopes(["introspect"]);
    let service = tokens.create(service).await?;
    let user = NewToken::new("ci")
        .with_roles(["deployer"])
        .with_scopes(["projects:write"])
        .with_expiry("30d".parse()?);
    let user = tokens.create(user).await?;

    // One limit for both: a client that scans tokens has one budget.
    let layer = ServiceTokenLayer::new(store).with_failure_limit(FailureLimit::new());
    let oauth = OAuthEndpoints::new(tokens, layer.clone());
    let verify = ForwardAuth::new(layer);
    let app = Router::new()
        .merge(oauth.into_router())
        .merge(verify.into_router())
        .layer(client_addresses()?);

    let port = port()?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let id = service.record().id();
    let (service, user) = (service.expose_secret(), user.expose_secret());
    let mut out = io::stdout();
    writeln!(out, "listening on {url}")?;
    writeln!(out, "introspect token: {service}")?;
    writeln!(out, "user token: {user}")?;
    writeln!(
        out,
        "curl -u {id}:{service} -d token={user} {url}/introspect"
    )?;
    writeln!(
        out,
        r#"curl -i -H "X-API-Key: {user}" "{url}/verify?role=deployer""#
    )?;
    writeln!(out, "curl -i -d token={user} {url}/revoke")?;
    out.flush()?;

    // With the peer's address, by which failures are counted.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await?;
    Ok(())
}

/// Works out whose failures a request counts against.
fn client_addresses() -> Result<ClientAddressLayer, Box<dyn Error>> {
    let mut layer = ClientAddressLayer::new();
    if let Ok(proxies) = env::var("TRUSTED_PROXIES") {
        layer = layer.with_trusted_proxies(proxies.parse()?);
    }
    if let Ok(header) = env::var("CLIENT_ADDRESS_HEADER") {
        layer = layer.with_header(header.parse()?);
    }
    Ok(layer)
}

fn port() -> Result<u16, String> {
    let Some(port) = env::var_os("PORT").filter(|port| !port.is_empty()) else {
        return Ok(8080);
    };
    let port = port.to_string_lossy();
    port.parse()
        .map_err(|_| format!("PORT is '{port}', not a number from 0 to 65535"))
}
