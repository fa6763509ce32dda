//! The clients that call the example's tools.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};

use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::Value;
use test_support::process::Process;

const TYPESCRIPT_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers/mcp-client");

/// What a client reports about a connection attempt or a call.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Text(String),
    McpError(i64, Value),
    /// The HTTP response was 401.
    Unauthorized,
}

impl Outcome {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

pub(super) trait Client: Sized {
    /// Returns the connected client, or an error if the server rejects the token.
    async fn connect(url: &str, token: Option<&str>) -> Result<Self, Outcome>;

    async fn call(&mut self, tool: &'static str) -> Outcome;
}

/// rmcp's client with a session, as clients before protocol version 2026-07-28.
pub(super) struct RmcpClient(RunningService<RoleClient, ()>);

/// rmcp's client with protocol version 2026-07-28, which has no sessions.
pub(super) struct SessionlessRmcpClient(RmcpClient);

impl RmcpClient {
    async fn connect_with(
        url: &str,
        token: Option<&str>,
        lifecycle: ClientLifecycleMode,
    ) -> Result<Self, Outcome> {
        let mut config = StreamableHttpClientTransportConfig::with_uri(url);
        if let Some(token) = token {
            config = config.auth_header(token);
        }
        let transport = StreamableHttpClientTransport::from_config(config);
        match ().serve_with_lifecycle(transport, lifecycle).await {
            Ok(client) => Ok(Self(client)),
            Err(error) => {
                assert_challenge(error.auth_challenge(), &error);
                Err(Outcome::Unauthorized)
            }
        }
    }
}

/// Panics unless rmcp reports the challenge of a 401.
fn assert_challenge(challenge: Option<&str>, error: &dyn Error) {
    let challenge = challenge.unwrap_or_else(|| panic!("no challenge: {error}"));
    assert!(challenge.contains("realm="), "{challenge}");
    // As the guide says: there is no OAuth server to announce.
    assert!(!challenge.contains("resource_metadata"), "{challenge}");
}

impl Client for RmcpClient {
    async fn connect(url: &str, token: Option<&str>) -> Result<Self, Outcome> {
        Self::connect_with(url, token, ClientLifecycleMode::Initialize).await
    }

    async fn call(&mut self, tool: &'static str) -> Outcome {
        match self.0.call_tool(CallToolRequestParams::new(tool)).await {
            Ok(result) => {
                let texts = result.content.iter().filter_map(|it| it.as_text());
                Outcome::Text(texts.map(|it| &*it.text).collect())
            }
            Err(ServiceError::McpError(error)) => {
                Outcome::McpError(error.code.0.into(), error.data.unwrap_or_default())
            }
            Err(error) => {
                assert_challenge(error.auth_challenge(), &error);
                Outcome::Unauthorized
            }
        }
    }
}

impl Client for SessionlessRmcpClient {
    async fn connect(url: &str, token: Option<&str>) -> Result<Self, Outcome> {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        let lifecycle = ClientLifecycleMode::Discover { preferred_versions };
        RmcpClient::connect_with(url, token, lifecycle)
            .await
            .map(Self)
    }

    async fn call(&mut self, tool: &'static str) -> Outcome {
        self.0.call(tool).await
    }
}

/// `tests/peers/mcp-client`.
pub(super) struct TypeScriptClient(Process);

impl TypeScriptClient {
    /// Returns the text, or the outcome that the client reports instead.
    fn outcome(&mut self) -> Outcome {
        let line = self.0.line();
        let outcome: Value = serde_json::from_str(&line).expect(&line);
        match (
            &outcome["text"],
            &outcome["mcp_error"],
            &outcome["http_status"],
        ) {
            (Value::String(text), ..) => Outcome::text(text),
            (_, Value::Number(code), _) => {
                Outcome::McpError(code.as_i64().expect(&line), outcome["data"].clone())
            }
            (.., Value::Number(status)) if status.as_u64() == Some(401) => Outcome::Unauthorized,
            _ => panic!("{line}"),
        }
    }
}

impl Client for TypeScriptClient {
    async fn connect(url: &str, token: Option<&str>) -> Result<Self, Outcome> {
        let mut command = Command::new("node");
        command.arg("client.mjs").current_dir(TYPESCRIPT_CLIENT);
        command
            .env("MCP_URL", url)
            .envs(token.map(|token| ("MCP_TOKEN", token)));
        let mut client = Self(Process::spawn_with_stdin(&mut command));
        match client.outcome() {
            Outcome::Text(text) if text == "connected" => Ok(client),
            outcome => Err(outcome),
        }
    }

    async fn call(&mut self, tool: &'static str) -> Outcome {
        self.0.write_line(tool);
        self.outcome()
    }
}

/// Returns the reason if the client is not installed.
pub(super) fn missing_typescript_client() -> Option<String> {
    let node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !node.is_ok_and(|status| status.success()) {
        return Some("node is not installed".to_owned());
    }
    let is_installed = Path::new(TYPESCRIPT_CLIENT).join("node_modules").exists();
    (!is_installed).then(|| "not installed: npm ci --prefix tests/peers/mcp-client".to_owned())
}
