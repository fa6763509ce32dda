//! Runs the example `mcp` with rmcp's client and with the client of the TypeScript SDK.

mod clients;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use test_support::optional_trial::optional_trial;
use test_support::process::{Process, example};
use test_support::trials::runtime;

use self::clients::{
    Client, Outcome, RmcpClient, SessionlessRmcpClient, TypeScriptClient, missing_typescript_client,
};
use crate::proxies::http::{HttpResponse, send};

/// The header with which both clients send their token.
const BEARER: &str = "authorization";

pub(crate) fn trials() -> Vec<Trial> {
    let missing = missing_typescript_client();
    vec![
        trial(
            "rmcp_client_calls_tools_until_revocation",
            tools_answer_until_revocation::<RmcpClient>,
            None,
        ),
        trial(
            "rmcp_client_without_a_session_calls_tools_until_revocation",
            tools_answer_until_revocation::<SessionlessRmcpClient>,
            None,
        ),
        trial(
            "typescript_client_calls_tools_until_revocation",
            tools_answer_until_revocation::<TypeScriptClient>,
            missing.as_ref(),
        ),
        trial(
            "session_id_alone_gives_no_access",
            session_id_alone_gives_no_access,
            None,
        ),
        trial(
            "tools_see_the_caller_of_their_request",
            tools_see_the_caller_of_their_request,
            None,
        ),
    ]
}

fn trial(name: &str, test: fn(), missing: Option<&String>) -> Trial {
    optional_trial(missing, format!("mcp::{name}"), move || {
        test();
        Ok(())
    })
}

/// The running example and what it prints.
struct Server {
    _process: Process,
    url: String,
    port: u16,
    bot: String,
    reader: String,
    revocation: String,
}

impl Server {
    fn start() -> Self {
        let mut process = Process::spawn(example("mcp").env("PORT", "0"));
        let mut value = |label: &str| {
            let line = process.line();
            line.strip_prefix(label).expect(&line).to_owned()
        };
        let url = value("listening on ");
        let [bot, reader] = ["release-bot: ", "reader: "].map(&mut value);
        let revocation = value("");
        let port = url.rsplit(':').next().and_then(|it| it.split('/').next());
        let port = port.and_then(|port| port.parse().ok()).expect(&url);
        Self {
            _process: process,
            url,
            port,
            bot,
            reader,
            revocation,
        }
    }

    /// Sends the request of the printed command.
    fn revoke_bot(&self) {
        let (_, header) = self.revocation.split_once("X-API-Key: ").expect("a header");
        let (admin, url) = header.split_once("\" ").expect("a URL");
        let (_, path) = url.split_once("/service-tokens").expect("a path");
        let path = format!("/service-tokens{path}");
        let response = send(self.port, "DELETE", &path, &[("X-API-Key", admin)], "");
        assert!((200..300).contains(&response.status), "{}", response.body);
    }

    fn request(&self, method: &str, headers: &[(&str, &str)], body: &Value) -> HttpResponse {
        let mut all = vec![
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
        ];
        all.extend(headers);
        send(self.port, method, "/mcp", &all, &body.to_string())
    }

    /// Opens a session as a client of the protocol before 2026-07-28. Returns its id.
    fn open_session(&self, token: &str) -> String {
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "0" },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let token = format!("Bearer {token}");
        let response = self.request("POST", &[(BEARER, &token)], &body);
        assert_eq!(response.status, 200, "{}", response.body);
        let session = response.header("mcp-session-id").to_owned();
        assert!(!session.is_empty());
        let body = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let headers = [(BEARER, &*token), ("mcp-session-id", &*session)];
        let response = self.request("POST", &headers, &body);
        assert_eq!(response.status, 202, "{}", response.body);
        session
    }
}

fn tools_answer_until_revocation<C: Client>() {
    runtime().block_on(calls_until_revocation::<C>());
}

async fn calls_until_revocation<C: Client>() {
    let server = Server::start();
    for token in [None, Some("another")] {
        let outcome = C::connect(&server.url, token).await.err();
        assert_eq!(outcome, Some(Outcome::Unauthorized), "{token:?}");
    }

    let mut bot = C::connect(&server.url, Some(&server.bot))
        .await
        .expect("a session");
    let mut reader = C::connect(&server.url, Some(&server.reader))
        .await
        .expect("a session");
    assert_eq!(bot.call("whoami").await, Outcome::text("release-bot"));
    assert_eq!(
        bot.call("deploy").await,
        Outcome::text("deployed by release-bot")
    );
    assert_eq!(reader.call("whoami").await, Outcome::text("reader"));
    let data = json!({ "code": "insufficient_scope", "required": ["deploy:write"] });
    assert_eq!(reader.call("deploy").await, Outcome::McpError(-32600, data));
    // The session outlives the error.
    assert_eq!(reader.call("whoami").await, Outcome::text("reader"));

    server.revoke_bot();
    assert_eq!(bot.call("whoami").await, Outcome::Unauthorized);
    assert_eq!(bot.call("deploy").await, Outcome::Unauthorized);
    assert_eq!(reader.call("whoami").await, Outcome::text("reader"));
}

fn session_id_alone_gives_no_access() {
    let server = Server::start();
    let session = server.open_session(&server.bot);
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "whoami" },
    });
    let session = ("mcp-session-id", &*session);
    for method in ["POST", "GET", "DELETE"] {
        let response = server.request(method, &[session], &call);
        assert_eq!(response.status, 401, "{method}: {}", response.body);
        assert!(response.body.contains("missing_token"), "{}", response.body);
    }
    let response = server.request("POST", &[session, (BEARER, "Bearer another")], &call);
    assert_eq!(response.status, 401, "{}", response.body);

    // The session was neither closed nor damaged.
    let token = format!("Bearer {}", server.bot);
    let response = server.request("POST", &[session, (BEARER, &token)], &call);
    assert!(response.body.contains("release-bot"), "{}", response.body);
}

fn tools_see_the_caller_of_their_request() {
    let server = Server::start();
    let session = server.open_session(&server.bot);
    let reader = format!("Bearer {}", server.reader);
    let call = |tool: &str| {
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool },
        });
        let headers = [("mcp-session-id", &*session), (BEARER, &*reader)];
        server.request("POST", &headers, &call).body
    };
    let body = call("whoami");
    assert!(body.contains(r#""text":"reader""#), "{body}");
    let body = call("deploy");
    assert!(body.contains("insufficient_scope"), "{body}");
}
