//! Runs a protected server, mints one token and prints the two `curl` commands that send it.
//!
//! Run `cargo run --example quickstart`, then paste the commands. The server listens on port 8080,
//! or on `PORT`; `PORT=0` selects a free port.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_service_token::authorize::RequireRolesLayer;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens};

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let new = NewToken::new("my-service-token").with_roles(["stackstate-k8s-troubleshooter"]);
    let token = ServiceTokens::new(store.clone()).create(new).await?;

    let admins_only = RequireRolesLayer::any_of(["stackstate-admin"]);
    let app = Router::new()
        .route("/api/server/status", get(status))
        .route("/api/admin", get(admin).layer(admins_only))
        .route_layer(ServiceTokenLayer::new(store))
        // Routes added after the layer are public.
        .route("/healthz", get(async || "ok\n"));

    let port = port()?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    let stopped = stop_signal()?;

    let token = token.expose_secret();
    let url = format!("http://{}/api/server/status", listener.local_addr()?);
    let mut out = io::stdout();
    writeln!(out, "token: {token}")?;
    writeln!(
        out,
        r#"curl -X GET -H "Authorization: ApiKey {token}" {url}"#
    )?;
    writeln!(out, r#"curl -X GET -H "X-API-Key: {token}" {url}"#)?;
    out.flush()?;

    axum::serve(listener, app)
        .with_graceful_shutdown(stopped)
        .await?;
    Ok(())
}

async fn status(principal: Principal) -> Json<Value> {
    Json(json!({
        "name": principal.name(),
        "roles": principal.roles().iter().collect::<Vec<_>>(),
    }))
}

async fn admin(principal: Principal) -> String {
    format!("{} is an admin\n", principal.name())
}

fn port() -> Result<u16, String> {
    let Some(port) = env::var_os("PORT").filter(|port| !port.is_empty()) else {
        return Ok(8080);
    };
    let port = port.to_string_lossy();
    port.parse()
        .map_err(|_| format!("PORT is '{port}', not a number from 0 to 65535"))
}

/// Waits for Ctrl-C or SIGTERM. The handlers are installed by the call, not by the first poll.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(windows)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut ctrl_c = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        ctrl_c.recv().await;
    })
}
