//! Keeps tokens in a SQLite file, so that they survive a restart.
//!
//! Run `cargo run --example sqlite --features sqlite -- tokens.db`, then paste the commands that it
//! prints. The first run creates the file with one token and prints the token once. Later runs open
//! the file and print when the token was last used.
//!
//! The file is the argument, or `TOKENS_DB`, or `tokens.db`. The server listens on port 8080, or on
//! `PORT`; `PORT=0` selects a free port.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_service_token::lifecycle::{NewToken, Page};
use tower_service_token::registry::{LastUsed, TokenFilter};
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{CachedStore, TokenRecord};
use tower_service_token::{Principal, ServiceTokenLayer, ServiceTokens};

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sqlite: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let path = tokens_file();
    let opened = SqliteStore::open(&path).await;
    let store = opened.map_err(|error| {
        let cause = error.source().map(|it| format!(": {it}"));
        format!("{}: {error}{}", path.display(), cause.unwrap_or_default())
    })?;
    // Requests and changes use the same cache, so a change takes effect in this process immediately.
    let store = CachedStore::new(store);
    let tokens = ServiceTokens::new(store.clone());
    let last_used = LastUsed::new(store.clone());
    let app = Router::new()
        .route("/hello", get(hello))
        .route_layer(ServiceTokenLayer::new(store).with_last_used(last_used.clone()));

    let port = port()?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    let stopped = stop_signal()?;

    let url = format!("http://{}/hello", listener.local_addr()?);
    let mut out = io::stdout();
    writeln!(out, "file: {}", path.display())?;
    let found = tokens.list(TokenFilter::new(), Page::default()).await?;
    for record in &found.records {
        writeln!(out, "found: {}", describe(record))?;
    }
    let token = if found.records.is_empty() {
        let issued = tokens.create(NewToken::new("ci")).await?;
        writeln!(out, "token: {}", issued.expose_secret())?;
        issued.expose_secret().to_owned()
    } else {
        // The file contains only the digest.
        "<the token of the first run>".to_owned()
    };
    writeln!(out, r#"curl -H "Authorization: ApiKey {token}" {url}"#)?;
    out.flush()?;

    // Requests do not wait for this write. A token in use is written once a minute.
    let flush_task = last_used.flush_every(Duration::from_secs(60));
    axum::serve(listener, app)
        .with_graceful_shutdown(stopped)
        .await?;
    flush_task.stop().await?;
    Ok(())
}

async fn hello(principal: Principal) -> String {
    format!("hello, {}\n", principal.name())
}

fn describe(record: &TokenRecord) -> String {
    let (id, name) = (record.id(), record.name());
    match record.last_used_at() {
        None => format!("{id} {name}, never used"),
        Some(time) => {
            let ago = SystemTime::now().duration_since(time).unwrap_or_default();
            format!("{id} {name}, last used {} s ago", ago.as_secs())
        }
    }
}

fn tokens_file() -> PathBuf {
    let path = env::args_os().nth(1).or_else(|| env::var_os("TOKENS_DB"));
    let path = path.filter(|path| !path.is_empty());
    path.unwrap_or_else(|| "tokens.db".into()).into()
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
