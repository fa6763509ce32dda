//! nginx with the configuration of the example.

use serde_json::Value;
use test_support::port::ReservedPort;
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

use crate::proxies::app::App;
use crate::proxies::daemon::{Daemon, Folder};
use crate::proxies::http::{HttpResponse, get, get_from, send};
use crate::proxies::tokens::TokenServer;

const CONFIGURATION: &str = include_str!("../../../nginx/nginx.conf");
const INCLUDED: &str = include_str!("../../../nginx/verify.conf");
/// A well-formed token that is in no store.
const UNKNOWN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

/// The token server, an app, and nginx in front of both.
struct NginxServer {
    nginx: Daemon,
    tokens: TokenServer,
    _app: App,
}

impl NginxServer {
    fn new() -> Self {
        Self::in_front_of(TokenServer::start())
    }

    fn in_front_of(tokens: TokenServer) -> Self {
        Self::with_included(INCLUDED, tokens)
    }

    /// Starts the servers with `included` as the part of the configuration that calls `/verify`.
    fn with_included(included: &str, tokens: TokenServer) -> Self {
        let app = App::start();
        let port = ReservedPort::new();
        let mut configuration = CONFIGURATION.to_owned();
        let nginx = port.address().port();
        for (example, actual) in [(8080, tokens.port), (3000, app.port), (8000, nginx)] {
            let (example, actual) = (
                format!("127.0.0.1:{example};"),
                format!("127.0.0.1:{actual};"),
            );
            assert!(configuration.contains(&example), "{example}");
            configuration = configuration.replace(&example, &actual);
        }
        let folder = Folder::new();
        folder.write("nginx.conf", &configuration);
        folder.write("verify.conf", included);
        let prefix = folder.path().to_str().expect("UTF-8").to_owned();
        let command = [
            "/usr/sbin/nginx",
            "-e",
            "stderr",
            "-p",
            &prefix,
            "-c",
            "nginx.conf",
        ];
        Self {
            nginx: Daemon::start(folder, port, &command),
            tokens,
            _app: app,
        }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
        get(self.nginx.port(), path, headers)
    }

    /// Sends an unknown token from this address, with these header lines. Returns the status.
    fn send_unknown_from(&self, client: [u8; 4], header: &str, lines: &[&str]) -> u16 {
        let mut headers = vec![("X-API-Key", UNKNOWN)];
        headers.extend(lines.iter().map(|line| (header, *line)));
        get_from(client.into(), self.nginx.port(), "/", &headers).status
    }

    /// Exhausts the budget of a client that sends forged header lines. Returns the number of unknown tokens
    /// that it sent.
    fn exhaust_budget(
        &self,
        client: [u8; 4],
        header: &str,
        forged: impl Fn(usize) -> String,
    ) -> usize {
        let mut sent = 0;
        while self.send_unknown_from(client, header, &[&forged(sent)]) == 401 {
            sent += 1;
            assert!(sent < 1_000, "each forged address has its own budget");
        }
        sent
    }

    fn get_with(&self, path: &str, token: &str) -> HttpResponse {
        self.get(path, &[("X-API-Key", token)])
    }
}

/// Returns the request that the app received.
fn received_request(response: &HttpResponse) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).expect(&response.body)
}

pub(crate) fn valid_token_is_forwarded_as_identity_without_its_secret() {
    let server = NginxServer::new();
    let user = &server.tokens.user;
    for (name, value) in [
        ("X-API-Key", user.clone()),
        ("Authorization", format!("ApiKey {user}")),
        ("Authorization", format!("Bearer {user}")),
    ] {
        let response = server.get("/", &[(name, &value)]);
        let received = received_request(&response);
        let headers = &received["headers"];
        assert_eq!(headers["x-service-token-id"], user["svctok-".len()..][..10]);
        assert_eq!(headers["x-service-token-name"], "ci");
        assert_eq!(headers["x-service-token-roles"], "deployer");
        assert_eq!(headers["x-service-token-scopes"], "projects:write");
        assert!(!response.body.contains(user.as_str()), "{}", response.body);
    }
}

pub(crate) fn request_body_reaches_only_the_app() {
    let server = NginxServer::new();
    let key = [("X-API-Key", &*server.tokens.user)];
    // The body is larger than the limit of the token server.
    let body = "x".repeat(200_000);
    let response = send(server.nginx.port(), "POST", "/", &key, &body);
    assert_eq!(received_request(&response)["body"], body);
}

pub(crate) fn invalid_tokens_are_rejected() {
    let server = NginxServer::new();
    let revoked = server.tokens.user.clone();
    assert_eq!(server.tokens.revoke(&revoked).status, 200);
    let bearer = format!("Bearer {UNKNOWN}");
    for headers in [
        &[][..],
        &[("X-API-Key", UNKNOWN)],
        &[("Authorization", &*bearer)],
        &[("Authorization", "Basic eDp5")],
        &[("X-API-Key", &*revoked)],
        &[("X-Service-Token-Id", "7Hq2mX9bTe")],
        &[("Content-Type", "application/grpc")],
        &[("Content-Type", "application/grpc"), ("X-API-Key", UNKNOWN)],
    ] {
        for path in ["/", "/deploy/x"] {
            let response = server.get(path, headers);
            assert_eq!(response.status, 401, "{headers:?}");
            let challenge = response.header("WWW-Authenticate");
            assert!(challenge.contains(r#"realm="api""#), "{challenge}");
        }
    }
    let long = "x".repeat(600);
    assert_eq!(server.get_with("/", &long).status, 400);
    for path in ["/_verify", "/_verify_deployer"] {
        assert_eq!(server.get_with(path, &server.tokens.service).status, 404);
    }
}

pub(crate) fn missing_role_is_403() {
    let server = NginxServer::new();
    assert_eq!(
        server.get_with("/deploy/x", &server.tokens.user).status,
        200
    );
    assert_eq!(server.get_with("/", &server.tokens.service).status, 200);
    let protected = [
        "/deploy",
        "/deploy/x",
        "/deploy?x",
        "/deploy/x?role=introspect",
        "/deploy/x?y=/../z",
        "/Deploy/x",
        "/DEPLOY",
        "/%64eploy/x",
    ];
    for path in protected {
        assert_eq!(
            server.get_with(path, &server.tokens.service).status,
            403,
            "{path}"
        );
    }
    assert_eq!(
        server
            .get_with("/deployments", &server.tokens.service)
            .status,
        200
    );
}

pub(crate) fn path_that_servers_parse_differently_is_400() {
    let server = NginxServer::new();
    let ambiguous = [
        "//deploy/x",
        "/x//deploy",
        "/x/../deploy/",
        "/./deploy/",
        "/x/..",
        "/x/.",
        "/x/%2e%2e/deploy/",
        "/x/.%2E/deploy/",
        "/x/..%2fdeploy/",
        "/%2Fdeploy/",
        "/deploy;/x",
        "/deploy;a=b/x",
        "/deploy%3b/x",
        r"/x\..\deploy",
        "/deploy%5cx",
        "/%2564eploy/x",
        "/deploy%00/x",
    ];
    for path in ambiguous {
        for token in [&server.tokens.service, &server.tokens.user] {
            let response = server.get_with(path, token);
            assert_eq!(response.status, 400, "{path}");
            assert!(!response.body.contains("x-service-token-id"), "{path}");
        }
    }
    for path in [
        "/a%20b",
        "/a..b",
        "/...",
        "/x?a;b=//..%2f",
        "/.well-known/x",
    ] {
        let response = server.get_with(path, &server.tokens.service);
        assert_eq!(response.status, 200, "{path}");
    }
}

pub(crate) fn client_supplied_identity_headers_are_removed() {
    let server = NginxServer::new();
    let sent = [
        ("X-API-Key", &*server.tokens.service),
        ("X-Service-Token-Id", "0000000000"),
        ("X-Service-Token-Name", "root"),
        ("X-Service-Token-Subject", "root"),
        ("x-service-token-roles", "admin"),
        ("X-Service-Token-Roles", "deployer"),
        ("X_Service_Token_Roles", "admin"),
        ("X-Service-Token-Scopes", "**"),
        ("X-Service-Token-Truncated", "roles"),
    ];
    let received = received_request(&server.get("/", &sent));
    let mut service_headers: Vec<_> = received["headers"]
        .as_object()
        .expect("an object")
        .iter()
        .collect();
    service_headers.retain(|(name, _)| name.contains("service"));
    let expected = [
        ("x-service-token-id", server.tokens.service_id()),
        ("x-service-token-name", "resource-server"),
        ("x-service-token-scopes", "introspect"),
    ];
    let service_headers: Vec<_> = service_headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")))
        .collect();
    assert_eq!(service_headers, expected);
    assert_eq!(server.get("/deploy/x", &sent).status, 403);
}

/// The token has the longest headers that a token of the management API can have.
pub(crate) fn token_with_many_long_roles_is_forwarded() {
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint().expect("random bytes");
    let long = |prefix: &str| -> Vec<String> {
        let names = (0..99).map(|number| format!("{prefix}{number:02}{}", "x".repeat(190)));
        names.chain([prefix.to_owned()]).collect()
    };
    // Each character is twelve bytes long when it is percent-encoded.
    let text = "\u{1f511}".repeat(200);
    let record = TokenRecord::from(&token)
        .with_name(&*text)
        .with_subject(&*text)
        .with_roles(long("deployer"))
        .with_scopes(long("scope"));
    store.insert(record).expect("an empty store");
    let verify = ForwardAuth::new(ServiceTokenLayer::new(store)).into_router();
    let verify = App::serve(verify);
    let mut tokens = TokenServer::start();
    tokens.port = verify.port;
    let server = NginxServer::in_front_of(tokens);
    // The second path requires the last role of the list.
    for path in ["/", "/deploy/x"] {
        let request = received_request(&server.get_with(path, token.expose_secret()));
        let headers = &request["headers"];
        assert_eq!(headers["x-service-token-truncated"], "roles, scopes");
        for (header, separator, first) in [
            ("x-service-token-roles", ',', "deployer00x"),
            ("x-service-token-scopes", ' ', "scope00x"),
        ] {
            let list = headers[header].as_str().expect("a text");
            assert!((1800..=2048).contains(&list.len()), "{}", list.len());
            assert!(
                list.split(separator).all(|entry| entry.ends_with("xxx")),
                "{list}"
            );
            assert!(list.starts_with(first), "{list}");
        }
        let name = headers["x-service-token-name"].as_str();
        assert_eq!(name.map(str::len), Some(2400));
    }
}

pub(crate) fn repeated_credential_is_400() {
    let server = NginxServer::new();
    let user = &*server.tokens.user;
    let bearer = format!("Bearer {UNKNOWN}");
    for headers in [
        [("X-API-Key", user), ("X-API-Key", UNKNOWN)],
        [("X-API-Key", user), ("X-API-Key", user)],
        [("X-API-Key", user), ("Authorization", &*bearer)],
    ] {
        assert_eq!(server.get("/", &headers).status, 400);
    }
}

pub(crate) fn too_many_unknown_tokens_are_429_but_valid_ones_pass() {
    let server = NginxServer::new();
    let limited = (0..2000).find_map(|_| {
        let response = server.get_with("/", UNKNOWN);
        assert!([401, 429].contains(&response.status), "{}", response.status);
        (response.status == 429).then_some(response)
    });
    let limited = limited.expect("a 429 response");
    assert_eq!(limited.header("Retry-After"), "1");
    assert_eq!(limited.header("Cache-Control"), "no-store");
    assert_eq!(server.get_with("/", &server.tokens.user).status, 200);
}

pub(crate) fn forged_addresses_do_not_escape_the_failure_limit() {
    let tokens = TokenServer::start_with(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let server = NginxServer::in_front_of(tokens);
    let (attacker, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    for (header, client) in [
        ("X-Forwarded-For", attacker),
        ("Forwarded", [127, 0, 0, 4]),
        ("X-Real-IP", [127, 0, 0, 5]),
    ] {
        let prefix = if header == "Forwarded" { "for=" } else { "" };
        let forged = |number| format!("{prefix}198.51.{}.{}", number / 250, number % 250);
        assert!(
            server.exhaust_budget(client, header, forged) >= 100,
            "{header}"
        );
    }
    // An attacker cannot exhaust the budget of another client either.
    let forged = |_| "127.0.0.3".to_owned();
    server.exhaust_budget([127, 0, 0, 6], "X-Forwarded-For", forged);
    for lines in [&[][..], &["x"], &["198.51.100.1", "127.0.0.2"]] {
        assert_eq!(
            server.send_unknown_from(other, "X-Forwarded-For", lines),
            401
        );
        let status = server.send_unknown_from(attacker, "X-Forwarded-For", lines);
        assert!([401, 429].contains(&status), "{status}");
    }
}

pub(crate) fn reads_the_forwarded_header_that_nginx_writes() {
    let settings = [
        ("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
        ("CLIENT_ADDRESS_HEADER", "Forwarded"),
    ];
    let written = r#"proxy_set_header Forwarded "$http_forwarded, for=\"$remote_addr\"";"#;
    let included = format!("{INCLUDED}\n{written}\n");
    let server = NginxServer::with_included(&included, TokenServer::start_with(&settings));
    let attacker = [127, 0, 0, 2];
    let forged = |number| format!("for=\"[2001:db8::{number:x}]:4711\";by=x, for=10.0.0.1");
    assert!(server.exhaust_budget(attacker, "Forwarded", forged) >= 100);
    for lines in [&[][..], &["for=127.0.0.2"], &["for=_hidden"]] {
        assert_eq!(
            server.send_unknown_from([127, 0, 0, 3], "Forwarded", lines),
            401
        );
    }
    // An unreadable address counts against nginx and against no other client.
    server.exhaust_budget([127, 0, 0, 4], "Forwarded", |_| "for=\"".to_owned());
    assert_eq!(
        server.send_unknown_from([127, 0, 0, 3], "Forwarded", &[]),
        401
    );
    // `X-Forwarded-For` is not configured, so it is not read.
    let other = |number| format!("198.51.{}.{}", number / 250, number % 250);
    assert!(server.exhaust_budget([127, 0, 0, 5], "X-Forwarded-For", other) >= 100);
}

pub(crate) fn unavailable_token_server_is_503_until_it_recovers() {
    // The port stays reserved while the server is down, so that the server can return to it.
    let port = ReservedPort::new();
    let mut server = NginxServer::in_front_of(TokenServer::start_on(port.address().port()));
    let user = server.tokens.user.clone();
    assert_eq!(server.get_with("/", &user).status, 200);
    server.tokens.suspend();
    let response = server.get_with("/", &user);
    server.tokens.resume();
    assert_eq!(response.status, 503);
    assert_eq!(response.header("Retry-After"), "1");
    assert_eq!(response.header("Cache-Control"), "no-store");
    assert_eq!(server.get_with("/", &user).status, 200);

    let stopped = std::mem::replace(&mut server.tokens, TokenServer::start());
    drop(stopped);
    for path in ["/", "/deploy/x"] {
        let response = server.get_with(path, &user);
        assert_eq!(response.status, 503, "{path}");
        assert_eq!(response.header("WWW-Authenticate"), "");
    }
    server.tokens = TokenServer::start_on(port.address().port());
    // nginx avoids an unreachable server for a while unless it is the only one.
    assert_eq!(server.get_with("/", &server.tokens.user).status, 200);
    assert_eq!(server.get_with("/", &user).status, 401);
}

pub(crate) fn app_errors_pass_through() {
    let server = NginxServer::new();
    let response = server.get_with("/broken", &server.tokens.user);
    assert_eq!((response.status, &*response.body), (500, "broken"));
}
