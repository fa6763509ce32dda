//! Runs every example as a process and checks the output that its documentation promises.

// The helpers below are for the examples that listen on a socket.
#![cfg(feature = "axum")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use test_support::process::{PROCESS_TIMEOUT, Process, example};

fn output_of(name: &str) -> String {
    Process::spawn(&mut example(name)).finish().succeeded()
}

/// Panics unless `line` is a line of the output, or the start of one.
fn assert_line(output: &str, line: &str) {
    let found = output.lines().any(|printed| printed.starts_with(line));
    assert!(found, "no line {line:?} in:\n{output}");
}

/// Sends a `GET` with these header lines. Returns the status and the body.
fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let mut stream = connect(address);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect(&response);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect(head), body.to_owned())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PROCESS_TIMEOUT).unwrap();
    stream.set_read_timeout(Some(PROCESS_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(PROCESS_TIMEOUT)).unwrap();
    stream
}

/// Returns the address of the server in a printed `curl` command.
fn address_in(command: &str) -> SocketAddr {
    let url = command.split_once("http://").map(|(_, url)| url);
    let authority = url.and_then(|url| url.split('/').next());
    authority.expect(command).parse().expect(command)
}

mod quickstart {
    use super::*;

    /// A running quickstart and its output.
    struct Quickstart {
        process: Process,
        token: String,
        commands: [String; 2],
        address: SocketAddr,
    }

    impl Quickstart {
        fn start() -> Self {
            let mut process = Process::spawn(example("quickstart").env("PORT", "0"));
            let token = process.line();
            let token = token.strip_prefix("token: ").expect(&token).to_owned();
            let commands = [process.line(), process.line()];
            let address = address_in(&commands[0]);
            Self {
                process,
                token,
                commands,
                address,
            }
        }

        fn get(&self, path: &str, headers: &str) -> (u16, String) {
            get(self.address, path, headers)
        }

        fn connect(&self) -> TcpStream {
            connect(self.address)
        }
    }

    fn assert_status_body(body: &str) {
        let body: serde_json::Value = serde_json::from_str(body).expect(body);
        let expected = serde_json::json!({
            "name": "my-service-token",
            "roles": ["stackstate-k8s-troubleshooter"],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn prints_the_token_and_the_documented_commands() {
        let quickstart = Quickstart::start();
        let token = &quickstart.token;
        assert!(token.starts_with("svctok-") && token.len() == 48, "{token}");
        let url = format!("http://{}/api/server/status", quickstart.address);
        assert_eq!(
            quickstart.commands,
            [
                format!(r#"curl -X GET -H "Authorization: ApiKey {token}" {url}"#),
                format!(r#"curl -X GET -H "X-API-Key: {token}" {url}"#),
            ]
        );
    }

    #[test]
    fn accepts_the_documented_requests() {
        let quickstart = Quickstart::start();
        for command in &quickstart.commands {
            let header = command.split('"').nth(1).expect(command);
            let (status, body) = quickstart.get("/api/server/status", &format!("{header}\r\n"));
            assert_eq!(status, 200, "{body}");
            assert_status_body(&body);
        }
    }

    #[test]
    fn requires_a_token_except_for_the_health_check() {
        let quickstart = Quickstart::start();
        let (status, body) = quickstart.get("/api/server/status", "");
        assert_eq!(status, 401);
        assert!(body.contains(r#""code":"missing_token""#), "{body}");
        let (status, body) = quickstart.get("/api/server/status", "x-api-key: guessed\r\n");
        assert_eq!(status, 401);
        assert!(body.contains(r#""code":"invalid_token""#), "{body}");
        assert_eq!(quickstart.get("/healthz", ""), (200, "ok\n".to_owned()));
    }

    #[test]
    fn denies_admin_routes_to_the_token() {
        let quickstart = Quickstart::start();
        let header = format!("x-api-key: {}\r\n", quickstart.token);
        let (status, body) = quickstart.get("/api/admin", &header);
        assert_eq!(status, 403);
        assert!(body.contains(r#""roles":["stackstate-admin"]"#), "{body}");
        assert_eq!(quickstart.get("/api/admin", "").0, 401);
    }

    #[cfg(unix)]
    #[test]
    fn exits_cleanly_on_ctrl_c_and_sigterm() {
        for signal in ["INT", "TERM"] {
            let quickstart = Quickstart::start();
            // An idle connection must not delay the exit.
            let _connection = quickstart.connect();
            quickstart.process.signal(signal);
            let finished = quickstart.process.finish();
            assert_eq!(finished.status.code(), Some(0), "{signal}");
            assert_eq!(finished.stderr, "", "{signal}");
        }
    }

    #[test]
    fn reports_a_port_in_use() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let process = Process::spawn(example("quickstart").env("PORT", &port));
        let message = process.finish().failed();
        let expected = format!("quickstart: cannot listen on 127.0.0.1:{port}: ");
        assert!(message.starts_with(&expected), "{message}");
    }

    #[test]
    fn reports_an_invalid_port() {
        for port in ["http", "65536", "-1"] {
            let process = Process::spawn(example("quickstart").env("PORT", port));
            let message = process.finish().failed();
            let expected = format!("quickstart: PORT is '{port}', not a number from 0 to 65535\n");
            assert_eq!(message, expected);
        }
    }
}

#[test]
fn rotation_accepts_both_secrets_for_an_hour_and_none_after_revocation() {
    let output = output_of("rotation");
    let responses: Vec<_> = output
        .lines()
        .filter_map(|it| it.strip_prefix("  "))
        .collect();
    let expected = [
        ("its secret", "200 nightly build"),
        (
            "the old secret",
            "200 nightly build, with a secret that should be replaced",
        ),
        ("the new secret", "200 nightly build"),
        ("the old secret", "401 "),
        ("the new secret", "200 nightly build"),
        ("the new secret", "401 "),
    ];
    assert_eq!(responses.len(), expected.len(), "{output}");
    for (response, (secret, start)) in responses.iter().zip(expected) {
        assert!(
            response.starts_with(&format!("{secret}: {start}")),
            "{response}"
        );
    }
    assert!(responses[3].contains("token_expired") && responses[5].contains("token_revoked"));
}

#[test]
fn roles_enforces_the_permissions_of_each_caller() {
    let output = output_of("roles");
    for line in [
        "robot POST   /releases         200 released by robot",
        "robot GET    /projects         200 the projects robot may see",
        "robot DELETE /projects/sandbox 200 sandbox deleted by robot",
        "robot DELETE /projects/website 403 {",
        "robot GET    /greeting         200 hello, robot",
        "guest POST   /releases         403 {",
        "guest GET    /projects         403 {",
        "guest DELETE /projects/sandbox 403 {",
        "guest DELETE /projects/website 403 {",
        "guest GET    /greeting         200 hello, guest",
        "-     POST   /releases         401 {",
        "-     GET    /projects         401 {",
        "-     DELETE /projects/sandbox 401 {",
        "-     DELETE /projects/website 401 {",
        "-     GET    /greeting         200 hello, anonymous caller",
    ] {
        assert_line(&output, line);
    }
    assert!(output.contains(r#""scopes":["projects:delete:website"]"#));
}

#[test]
fn custom_store_distinguishes_unknown_tokens_corrupt_rows_and_outages() {
    let output = output_of("custom_store");
    for line in [
        r#"a valid token: 200 OK hello, valid ["reader", "writer"]"#,
        "a revoked token: 401 Unauthorized {",
        "an unknown token: 401 Unauthorized {",
        "a row with an unknown state: 500 Internal Server Error {",
        "a valid token during an outage: 503 Service Unavailable {",
    ] {
        assert_line(&output, line);
    }
}

#[test]
fn custom_rejection_changes_the_body_and_keeps_the_challenge() {
    let output = output_of("custom_rejection");
    for line in [
        r#"/reports 200 {"ok":true}"#,
        r#"/drafts 403 {"error":{"code":"insufficient_scope","message":"#,
        r#"  www-authenticate: ApiKey realm="api", error="insufficient_scope", scope="reports:write""#,
        r#"/reports 401 {"error":{"code":"token_disabled","message":"#,
        r#"/reports 401 {"error":{"code":"invalid_token","message":"#,
        r#"/reports 400 {"error":{"code":"invalid_request","message":"#,
    ] {
        assert_line(&output, line);
    }
    assert!(!output.contains("about:blank"), "{output}");
}

#[test]
fn hyper_only_requires_the_token() {
    let output = output_of("hyper_only");
    assert_line(&output, "with the token: 200 OK hello, ci");
    assert_line(&output, "with another: 401 Unauthorized {");
    assert_line(&output, "without: 401 Unauthorized {");
}

#[test]
fn tonic_requires_the_token() {
    let output = output_of("tonic");
    for line in [
        "server: called by monitor",
        "with the token: HealthCheckResponse { status: Serving }",
        "with another: Unauthenticated, the service token is not valid",
        "without: Unauthenticated, no service token provided",
    ] {
        assert_line(&output, line);
    }
    assert_eq!(output.matches("called by").count(), 1, "{output}");
}

#[test]
fn load_completes_every_request_and_prints_the_ratio() {
    let output = Process::spawn(example("load").arg("1"))
        .finish()
        .succeeded();
    let (_, ratio) = output.split_once("ratio with / without = ").expect(&output);
    let ratio: f64 = ratio.split(' ').next().unwrap().parse().unwrap();
    assert!(ratio > 0.0, "{output}");
}

#[cfg(all(feature = "file", unix))]
mod file_store {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn does_not_store_the_token_and_reloads_the_file() {
        let name = format!("file-store-example-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir(&folder.0).unwrap();
        let path = folder.0.join("tokens.toml");
        let start = || {
            let mut command = example("file_store");
            Process::spawn(command.env("PORT", "0").env("TOKENS_FILE", &path))
        };

        let mut process = start();
        assert_eq!(process.line(), format!("file: {}", path.display()));
        let token = process.line();
        let token = token.strip_prefix("token: ").expect(&token).to_owned();
        let hello = process.line();
        let (_health, revoke) = (process.line(), process.line());
        let address = address_in(&hello);
        let header = hello.split('"').nth(1).expect(&hello);
        let header = format!("{header}\r\n");
        let expected = (200, "hello, ci\n".to_owned());
        assert_eq!(get(address, "/hello", &header), expected);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("sha256:") && !text.contains(&token));

        let mut shell = Command::new("sh");
        Process::spawn(shell.arg("-c").arg(revoke))
            .finish()
            .succeeded();
        assert_eq!(process.line(), "reloaded: 1 in the file");
        let (status, body) = get(address, "/hello", &header);
        assert_eq!(status, 401, "{body}");
        assert!(body.contains("token_revoked"), "{body}");

        assert_eq!(get(address, "/healthz", "").0, 200);
        fs::write(&path, "broken").unwrap();
        let started = Instant::now();
        // The write truncates the file first. An empty file causes a different error.
        loop {
            let (status, body) = get(address, "/healthz", "");
            if status == 500 && body.ends_with("line 1: is not TOML\n") {
                break;
            }
            assert!(started.elapsed() < PROCESS_TIMEOUT, "{status} {body}");
        }
        drop(process);

        let message = start().finish().failed();
        assert!(
            message.starts_with("file_store: the token file "),
            "{message}"
        );
    }
}

#[cfg(all(feature = "sqlite", unix))]
mod sqlite {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn second_run_finds_the_stored_token_and_its_last_use() {
        let name = format!("sqlite-example-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir(&folder.0).unwrap();
        let path = folder.0.join("tokens.db");
        let start = || {
            let mut command = example("sqlite");
            Process::spawn(command.env("PORT", "0").env("TOKENS_DB", &path))
        };

        let mut first = start();
        assert_eq!(first.line(), format!("file: {}", path.display()));
        let token = first.line();
        let token = token.strip_prefix("token: ").expect(&token).to_owned();
        let command = first.line();
        let address = address_in(&command);
        let expected = format!(r#"curl -H "Authorization: ApiKey {token}" http://{address}/hello"#);
        assert_eq!(command, expected);
        let header = format!("authorization: ApiKey {token}\r\n");
        let hello = (200, "hello, ci\n".to_owned());
        assert_eq!(get(address, "/hello", &header), hello);
        first.signal("TERM");
        first.finish().succeeded();

        let mut second = start();
        let (_file, found, command) = (second.line(), second.line(), second.line());
        let id = &token["svctok-".len()..][..10];
        let used = format!("found: {id} ci, last used ");
        assert!(found.starts_with(&used), "{found}");
        assert!(!command.contains(&token), "{command}");
        assert_eq!(get(address_in(&command), "/hello", &header), hello);
        assert_eq!(get(address_in(&command), "/hello", "").0, 401);
        // The drop kills the process without a graceful shutdown.
        drop(second);
        let mut third = start();
        let (_file, found, command) = (third.line(), third.line(), third.line());
        assert!(found.starts_with(&used), "{found}");
        assert_eq!(get(address_in(&command), "/hello", &header), hello);
    }

    #[test]
    fn reports_an_unusable_database_file() {
        let mut command = example("sqlite");
        let process = Process::spawn(command.arg("/nowhere/tokens.db"));
        let message = process.finish().failed();
        assert!(
            message.starts_with("sqlite: /nowhere/tokens.db: "),
            "{message}"
        );
    }
}

#[cfg(all(feature = "introspection", feature = "rustls"))]
mod introspection {
    use std::io::BufRead;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// Returns the command of the example with only these variables.
    fn configured(variables: &[(&str, &str)]) -> Command {
        let mut command = example("introspection");
        for name in [
            "URL",
            "CLIENT_ID",
            "CLIENT_SECRET",
            "AUTH",
            "TTL_MS",
            "ALLOW_HTTP",
            "CA",
        ] {
            command.env_remove(format!("INTROSPECTION_{name}"));
        }
        for name in ["ISSUER", "AUDIENCE", "ROLE_CLAIM", "LENIENT"] {
            command.env_remove(format!("INTROSPECTION_{name}"));
        }
        for (name, value) in variables {
            let prefix = if *name == "PORT" {
                ""
            } else {
                "INTROSPECTION_"
            };
            command.env(format!("{prefix}{name}"), value);
        }
        command
    }

    #[test]
    fn reports_missing_and_invalid_settings() {
        let valid = [
            ("URL", "https://as.example/introspect"),
            ("CLIENT_ID", "api"),
            ("CLIENT_SECRET", "api-secret"),
        ];
        let port = "PORT is '-1', not a number from 0 to 65535";
        let auth = "INTROSPECTION_AUTH is 'digest', not basic, basic-raw, post or bearer";
        let ttl = "INTROSPECTION_TTL_MS is '10s', not a number of milliseconds";
        for (name, value, expected) in [
            ("URL", "", "INTROSPECTION_URL is not set"),
            (
                "URL",
                "http://127.0.0.1:1/introspect",
                "the url is not https",
            ),
            (
                "URL",
                "introspect",
                "the url is not an absolute http or https url",
            ),
            (
                "URL",
                "https://api:secret@as.example/",
                "the url has a user name",
            ),
            ("CLIENT_ID", "", "INTROSPECTION_CLIENT_ID is not set"),
            (
                "CLIENT_SECRET",
                "",
                "INTROSPECTION_CLIENT_SECRET is not set",
            ),
            ("AUTH", "digest", auth),
            ("TTL_MS", "10s", ttl),
            (
                "ALLOW_HTTP",
                "yes",
                "INTROSPECTION_ALLOW_HTTP is 'yes', not 0 or 1",
            ),
            (
                "CA",
                "/nowhere/ca.pem",
                "INTROSPECTION_CA: /nowhere/ca.pem: ",
            ),
            (
                "CA",
                concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
                "the root certificates",
            ),
            ("PORT", "-1", port),
        ] {
            let variables = [&valid[..], &[(name, value)]].concat();
            let message = Process::spawn(&mut configured(&variables))
                .finish()
                .failed();
            let expected = format!("introspection: {expected}");
            assert!(message.starts_with(&expected), "{name} {value}: {message}");
            assert!(!message.contains("secret@"), "{message}");
        }
    }

    #[test]
    fn authenticates_with_a_bearer_token() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/introspect", server.local_addr().unwrap());
        let request_lines = thread::spawn(move || respond_once(&server));
        let mut service = Process::spawn(&mut configured(&[
            ("PORT", "0"),
            ("URL", &url),
            ("AUTH", "bearer"),
            ("CLIENT_SECRET", "the-services-own-token"),
            ("ALLOW_HTTP", "1"),
        ]));
        let address = address_in(&service.line());
        let header = "authorization: Bearer the-callers-token\r\n";
        let (status, body) = get(address, "/whoami", header);
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(r#""subject":"ci""#), "{body}");
        let request_lines = request_lines.join().unwrap();
        let credential = "authorization: bearer the-services-own-token";
        assert!(
            request_lines.contains(&credential.to_owned()),
            "{request_lines:?}"
        );
    }

    /// Responds to one request. Returns its header lines in lower case.
    fn respond_once(server: &TcpListener) -> Vec<String> {
        let (mut stream, _) = server.accept().unwrap();
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let lines = reader
            .by_ref()
            .lines()
            .map(|line| line.unwrap().to_lowercase());
        let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let length = lines
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        assert_eq!(body, b"token=the-callers-token");
        let response = r#"{"active":true,"sub":"ci"}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 26";
        write!(stream, "{head}\r\n\r\n{response}").unwrap();
        lines
    }
}
