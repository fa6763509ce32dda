//! MCP: the layer in front of an rmcp server (streamable HTTP), and the caller's scopes in its tools.
//!
//! Run `cargo run --example mcp --features api`, and give the URL and a token to an MCP client, as
//! `Authorization: Bearer …` or `X-API-Key: …`. Then paste the command that the example prints: it
//! revokes `release-bot`, whose next call is rejected. The server listens on port 8080, or on `PORT`;
//! `PORT=0` selects a free port.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use http::request::Parts;
use rmcp::handler::server::tool::Extension;
use rmcp::model::ErrorData;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{tool, tool_router};
use serde_json::json;
use tokio::net::TcpListener;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::authorize::Caller;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::principal::Requirement;
use tower_service_token::reject::Rejection;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

struct Deployments;

#[tool_router(server_handler)]
impl Deployments {
    /// The parts are those of the request that calls the tool, not of the one that opened the session.
    #[tool(description = "Returns the name of the caller")]
    fn whoami(Extension(request): Extension<Parts>) -> Result<String, ErrorData> {
        let caller = Caller::from_extensions(&request.extensions).map_err(to_error)?;
        Ok(caller.name().to_owned())
    }

    #[tool(description = "Deploys the latest release. Requires the scope deploy:write")]
    fn deploy(Extension(request): Extension<Parts>) -> Result<String, ErrorData> {
        let caller = Caller::from_extensions(&request.extensions).map_err(to_error)?;
        let requirement = Requirement::all_scopes(["deploy:write"]);
        caller.require(requirement).map_err(to_error)?;
        Ok(format!("deployed by {}", caller.name()))
    }
}

/// Converts the rejection of a tool.
#[expect(clippy::needless_pass_by_value, reason = "used with `map_err`")]
fn to_error(rejection: Rejection) -> ErrorData {
    let required: Vec<_> = rejection
        .required()
        .into_iter()
        .flat_map(Requirement::names)
        .collect();
    let data = json!({ "code": rejection.code(), "required": required });
    if rejection.status().is_server_error() {
        ErrorData::internal_error(rejection.detail(), Some(data))
    } else {
        ErrorData::invalid_request(rejection.detail(), Some(data))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcp: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone());
    let bot = NewToken::new("release-bot").with_scopes(["deploy:write"]);
    let bot = tokens.create(bot).await?;
    let reader = tokens.create(NewToken::new("reader")).await?;
    let admin = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
    let admin = tokens.create(admin).await?;

    let mcp = StreamableHttpService::new(
        || Ok(Deployments),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    // MCP clients send bearer tokens. The tools do not see the credential.
    let layer = ServiceTokenLayer::new(store.clone())
        .accept_bearer()
        .strip_credential();
    let app = Router::new()
        .route_service("/mcp", mcp)
        .route_layer(layer)
        .merge(ManagementApi::new(tokens, ServiceTokenLayer::new(store)).into_router());

    let port = port()?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut out = io::stdout();
    writeln!(out, "listening on {url}/mcp")?;
    writeln!(out, "release-bot: {}", bot.expose_secret())?;
    writeln!(out, "reader: {}", reader.expose_secret())?;
    let (id, admin) = (bot.record().id(), admin.expose_secret());
    writeln!(
        out,
        r#"curl -X DELETE -H "X-API-Key: {admin}" {url}/service-tokens/{id}"#
    )?;
    out.flush()?;

    axum::serve(listener, app).await?;
    Ok(())
}

fn port() -> Result<u16, String> {
    let Some(port) = env::var_os("PORT").filter(|port| !port.is_empty()) else {
        return Ok(8080);
    };
    let port = port.to_string_lossy();
    port.parse()
        .map_err(|_| format!("PORT is '{port}', not a number from 0 to 65535"))
}
