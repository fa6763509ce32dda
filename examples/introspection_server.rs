//! Checks tokens for services in any language: token introspection, revocation and forward
//! authentication.
//!
//! Run `cargo run --example introspection_server --features api`, then paste the commands that it
//! prints. They introspect, verify and revoke a user's token with the token of a service that may
//! introspect. The server listens on port 8080, or on `PORT`; `PORT=0` selects a free port.
//!
//! Behind a proxy, set `TRUSTED_PROXIES` to a list of its addresses or networks, and
//! `CLIENT_ADDRESS_HEADER` to the header that it writes, `X-Forwarded-For` by default.
//! `examples/nginx` is the configuration of such a proxy.

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
    // Any other store works too. Put a `CachedStore` in front of a remote one.
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone());
    let service = NewToken::new("resource-server").with_scopes(["introspect"]);
    let service = tokens.create(service).await?;
    let user = NewToken::new("ci")
        .with_roles(["deployer"])
        .with_scopes(["projects:write"])
        .with_expiry("30d".parse()?);
    let user = tokens.create(user).await?;

    // Both share one limit, so a client that tries tokens has one budget.
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

    // Adds the peer's address, by which failures are counted.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await?;
    Ok(())
}

/// Returns the layer that determines the client address.
fn client_addresses() -> Result<ClientAddressLayer, Box<dyn Error>> {
    let mut layer = ClientAddressLayer::new();
    if let Some(proxies) = variable("TRUSTED_PROXIES") {
        layer = layer.with_trusted_proxies(proxies.parse()?);
    }
    if let Some(header) = variable("CLIENT_ADDRESS_HEADER") {
        layer = layer.with_header(header.parse()?);
    }
    Ok(layer)
}

/// Returns a variable of the environment, unless it is empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn port() -> Result<u16, String> {
    let Some(port) = env::var_os("PORT").filter(|port| !port.is_empty()) else {
        return Ok(8080);
    };
    let port = port.to_string_lossy();
    port.parse()
        .map_err(|_| format!("PORT is '{port}', not a number from 0 to 65535"))
}
