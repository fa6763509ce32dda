//! Accepts the tokens of an authorization server, by token introspection (RFC 7662).
//!
//! ```text
//! export INTROSPECTION_URL=https://as.example/introspect
//! export INTROSPECTION_CLIENT_ID=my-service INTROSPECTION_CLIENT_SECRET=…
//! cargo run --example introspection --features introspection,rustls
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/whoami
//! ```
//!
//! `GET /whoami` returns the caller, `GET /write` requires the scope `write`, and `GET /healthz` is
//! public. The token is read from `Authorization: Bearer`, `Authorization: ApiKey` or `X-API-Key`.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `INTROSPECTION_URL` | the introspection endpoint | from the metadata of `INTROSPECTION_ISSUER` |
//! | `INTROSPECTION_CLIENT_ID` | the client id of this service; not for `bearer` | |
//! | `INTROSPECTION_CLIENT_SECRET` | the client secret; for `bearer` the token | |
//! | `INTROSPECTION_AUTH` | `basic`, `basic-raw`, `post` or `bearer` | `basic` |
//! | `INTROSPECTION_TTL_MS` | how long a response is cached, in milliseconds; 0 disables the cache | 10000 |
//! | `INTROSPECTION_ALLOW_HTTP` | `1` allows plain http to a loopback address | |
//! | `INTROSPECTION_CA` | a PEM file of certificates to trust besides the system's | |
//! | `INTROSPECTION_ISSUER` | the `iss` that a response must have, if it has one | any |
//! | `INTROSPECTION_AUDIENCE` | the `aud` that a response must have | any |
//! | `INTROSPECTION_ROLE_CLAIM` | the claim with the roles, such as `realm_access.roles` | no roles |
//! | `INTROSPECTION_LENIENT` | `1` accepts numbers in strings and scopes in arrays | |
//! | `PORT` | the port on 127.0.0.1; 0 selects a free port | 8080 |

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_service_token::authorize::RequireScopesLayer;
use tower_service_token::introspection::{ClientAuth, IntrospectionBuilder, IntrospectionStore};
use tower_service_token::reject::Rejection;
use tower_service_token::{Principal, ServiceTokenLayer};

/// The maximum length of a token in bytes; JWTs are long.
const MAX_TOKEN_LENGTH: usize = 4096;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("introspection: {}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let port = parse("PORT", "a number from 0 to 65535")?.unwrap_or(8080);
    let store = store().await?;
    let writers_only = RequireScopesLayer::all_of(["write"]);
    let app = Router::new()
        .route("/whoami", get(whoami))
        .route("/write", get(write).layer(writers_only))
        .route_layer(
            ServiceTokenLayer::new(store)
                .accept_bearer()
                .with_max_token_length(MAX_TOKEN_LENGTH),
        )
        // Routes added after the layer are public.
        .route("/healthz", get(async || "ok\n"))
        .layer(map_response(log_failures));

    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    let stopped = stop_signal()?;
    let mut out = io::stdout();
    writeln!(out, "listening on http://{}", listener.local_addr()?)?;
    out.flush()?;

    axum::serve(listener, app)
        .with_graceful_shutdown(stopped)
        .await?;
    Ok(())
}

async fn whoami(principal: Principal) -> Json<Value> {
    let expires_at = principal.expires_at();
    let expires_at = expires_at.and_then(|time| Timestamp::try_from(time).ok());
    Json(json!({
        "id": principal.id().to_string(),
        "name": principal.name(),
        "subject": principal.subject(),
        "roles": principal.roles().iter().collect::<Vec<_>>(),
        "scopes": principal.scopes().iter().collect::<Vec<_>>(),
        "labels": principal.labels().collect::<BTreeMap<_, _>>(),
        "expires_at": expires_at.map(|time| time.to_string()),
        "stale": principal.is_stale(),
    }))
}

async fn write(principal: Principal) -> String {
    format!("{} may write\n", principal.name())
}

/// Logs for the operator why a token could not be checked. The client does not see the reason.
async fn log_failures(response: Response) -> Response {
    let rejection = response.extensions().get::<Rejection>();
    if let Some(rejection) = rejection.filter(|rejection| rejection.status().is_server_error()) {
        eprintln!(
            "{}: {}",
            rejection.status().as_u16(),
            error_chain(rejection)
        );
    }
    response
}

async fn store() -> Result<IntrospectionStore, Box<dyn Error>> {
    let url = variable("INTROSPECTION_URL")?;
    let issuer = variable("INTROSPECTION_ISSUER")?;
    let builder = || configure(IntrospectionStore::builder(client_auth()?));
    Ok(match (url, issuer) {
        (None, None) => return Err(missing("INTROSPECTION_URL")),
        (None, Some(issuer)) => builder()?.discover(&issuer).await?,
        (Some(url), None) => builder()?.build(&url)?,
        (Some(url), Some(issuer)) => builder()?.with_issuer(issuer).build(&url)?,
    })
}

fn configure(mut builder: IntrospectionBuilder) -> Result<IntrospectionBuilder, Box<dyn Error>> {
    builder = builder.with_max_token_length(MAX_TOKEN_LENGTH);
    if let Some(ttl) = parse("INTROSPECTION_TTL_MS", "a number of milliseconds")? {
        let ttl = Duration::from_millis(ttl);
        let negative = ttl.min(Duration::from_secs(2));
        builder = builder.with_ttl(ttl).with_negative_ttl(negative);
    }
    if flag("INTROSPECTION_ALLOW_HTTP")? {
        builder = builder.allow_http_to_loopback();
    }
    if flag("INTROSPECTION_LENIENT")? {
        builder = builder.lenient();
    }
    if let Some(path) = variable("INTROSPECTION_CA")? {
        let pem = fs::read(&path).map_err(|error| format!("INTROSPECTION_CA: {path}: {error}"))?;
        builder = builder.with_root_certificates(pem);
    }
    if let Some(audience) = variable("INTROSPECTION_AUDIENCE")? {
        builder = builder.with_audience(audience);
    }
    if let Some(path) = variable("INTROSPECTION_ROLE_CLAIM")? {
        builder = builder.with_role_claim(&path);
    }
    Ok(builder)
}

fn client_auth() -> Result<ClientAuth, Box<dyn Error>> {
    let required = |name| variable(name)?.ok_or_else(|| missing(name));
    let id = || required("INTROSPECTION_CLIENT_ID");
    let secret = || required("INTROSPECTION_CLIENT_SECRET");
    let method = variable("INTROSPECTION_AUTH")?;
    Ok(match method.as_deref().unwrap_or("basic") {
        "basic" => ClientAuth::basic(id()?, secret()?),
        "basic-raw" => ClientAuth::basic_raw(id()?, secret()?),
        "post" => ClientAuth::post(id()?, secret()?),
        "bearer" => ClientAuth::bearer(secret()?),
        other => {
            let known = "basic, basic-raw, post or bearer";
            return Err(format!("INTROSPECTION_AUTH is '{other}', not {known}").into());
        }
    })
}

/// Returns the value of a variable that is set and not empty.
fn variable(name: &str) -> Result<Option<String>, Box<dyn Error>> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    let value = value.map(OsString::into_string).transpose();
    // The value may be the secret, so the message omits it.
    value.map_err(|_| format!("{name} is not UTF-8").into())
}

fn parse<T: FromStr>(name: &str, expected: &str) -> Result<Option<T>, Box<dyn Error>> {
    let Some(value) = variable(name)? else {
        return Ok(None);
    };
    let parsed = value.parse().map(Some);
    parsed.map_err(|_| format!("{name} is '{value}', not {expected}").into())
}

fn flag(name: &str) -> Result<bool, Box<dyn Error>> {
    match variable(name)?.as_deref() {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(format!("{name} is '{other}', not 0 or 1").into()),
    }
}

fn missing(name: &str) -> Box<dyn Error> {
    format!("{name} is not set").into()
}

/// Formats an error and its sources in one line.
fn error_chain(error: &(dyn Error + 'static)) -> String {
    let chain = iter::successors(Some(error), |&error| error.source());
    chain
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
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
