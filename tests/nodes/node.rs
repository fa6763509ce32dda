//! The child processes of a test, and an HTTP client for nodes.

use std::env;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use http::Request;
use http::header::RETRY_AFTER;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use test_support::stall::Stopwatch;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::database::TestDatabase;
use crate::process_config::{CONFIG_VARIABLE, ProcessConfig, Role};

/// Longer than any successful step takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A child process that is killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn spawn(process_config: &ProcessConfig) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(
                CONFIG_VARIABLE,
                serde_json::to_string(process_config).unwrap(),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub(crate) async fn send_line(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
    }

    /// Returns the next complete line, or `None` at the end of the output.
    pub(crate) async fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(TIMEOUT, self.stdout.read_line(&mut line)).await;
        read.expect("the process prints a line in time").unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// Sends SIGKILL and waits until the process has ended.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A server process and an HTTP client for it.
pub(crate) struct Node {
    process: Process,
    pub(crate) client: HttpClient,
}

/// Sends requests to a node.
#[derive(Clone)]
pub(crate) struct HttpClient {
    inner: Client<HttpConnector, String>,
    address: SocketAddr,
}

pub(crate) struct NodeResponse {
    pub(crate) status: u16,
    pub(crate) has_retry_after: bool,
    pub(crate) body: String,
}

pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Node {
    /// Starts a node. PostgreSQL shows its connections under this name.
    pub(crate) async fn start(database: &TestDatabase, name: &str) -> Self {
        Self::start_with(ProcessConfig::new(Role::Server, &database.store(name))).await
    }

    pub(crate) async fn start_with(process_config: ProcessConfig) -> Self {
        let mut process = Process::spawn(&process_config);
        let address = process.read_line().await.expect("the node starts");
        let client = HttpClient {
            inner: Client::builder(TokioExecutor::new()).build_http(),
            address: address.parse().unwrap(),
        };
        Self { process, client }
    }

    /// Runs a command and returns its output.
    pub(crate) async fn try_run(&mut self, command: &str) -> Result<String, String> {
        self.process.send_line(command).await;
        let line = self.process.read_line().await.expect("the node runs");
        match line.split_once(' ') {
            Some(("ok", output)) => Ok(output.to_owned()),
            _ => Err(line),
        }
    }

    pub(crate) async fn run(&mut self, command: &str) -> String {
        let verb = command.split(' ').next().unwrap_or_default().to_owned();
        let output = self.try_run(command).await;
        output.unwrap_or_else(|error| panic!("{verb}: {error}"))
    }

    pub(crate) async fn create(&mut self, name: &str) -> Token {
        self.try_create(name).await.unwrap()
    }

    pub(crate) async fn try_create(&mut self, name: &str) -> Result<Token, String> {
        let output = self.try_run(&format!("create {name} reader")).await?;
        let (id, secret) = output.split_once(' ').unwrap();
        Ok(Token {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// Creates a token that this node accepts and that `other` has cached.
    pub(crate) async fn create_and_cache(&mut self, other: &mut Self, name: &str) -> Token {
        let token = self.create(name).await;
        self.client.assert_status(&token.secret, 200).await;
        other.wait_until_cached(&token).await;
        token
    }

    /// Sends requests until this node accepts the token from its cache.
    pub(crate) async fn wait_until_cached(&mut self, token: &Token) {
        let started = Instant::now();
        loop {
            self.client.assert_status(&token.secret, 200).await;
            if self.run(&format!("is_cached {}", token.secret)).await == "true" {
                return;
            }
            assert!(
                started.elapsed() < TIMEOUT,
                "the tokens are not cached in time"
            );
        }
    }

    /// Waits until these tokens stay cached for 200 ms. A feed that connects or disconnects clears
    /// the cache, so until then an entry may disappear.
    pub(crate) async fn wait_until_cached_stably(&mut self, tokens: &[Token]) {
        let started = Instant::now();
        'rebuild: loop {
            assert!(
                started.elapsed() < TIMEOUT,
                "the tokens are not cached in time"
            );
            for token in tokens {
                self.wait_until_cached(token).await;
            }
            let cached_since = Instant::now();
            while cached_since.elapsed() < Duration::from_millis(200) {
                for token in tokens {
                    if self.run(&format!("is_cached {}", token.secret)).await != "true" {
                        continue 'rebuild;
                    }
                }
                pause().await;
            }
            return;
        }
    }

    /// Revokes the token and returns the reported bound, within which all nodes reject it.
    pub(crate) async fn revoke(&mut self, token: &Token) -> Duration {
        let milliseconds = self.run(&format!("revoke {}", token.id)).await;
        Duration::from_millis(milliseconds.parse().unwrap())
    }
}

impl HttpClient {
    pub(crate) async fn get(&self, secret: &str) -> NodeResponse {
        let request = Request::get(format!("http://{}/whoami", self.address))
            .header("x-api-key", secret)
            .body(String::new())
            .unwrap();
        let response = timeout(TIMEOUT, self.inner.request(request)).await;
        let response = response.expect("the node responds in time").unwrap();
        let status = response.status().as_u16();
        let has_retry_after = response.headers().contains_key(RETRY_AFTER);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        NodeResponse {
            status,
            has_retry_after,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn assert_status(&self, secret: &str, status: u16) {
        let response = self.get(secret).await;
        assert_eq!(response.status, status, "{}", response.body);
    }

    /// Returns the time from `since` until the token is rejected. Every earlier response must have
    /// status 200.
    pub(crate) async fn time_until_rejected(&self, secret: &str, since: Stopwatch) -> Duration {
        loop {
            let response = self.get(secret).await;
            let elapsed = since.elapsed_without_stalls();
            if response.status == 401 {
                self.assert_status(secret, 401).await;
                return elapsed;
            }
            assert_eq!(response.status, 200, "{}", response.body);
            assert!(elapsed < TIMEOUT, "the token is still accepted");
            pause().await;
        }
    }

    /// Returns the time from `since` until a response has this status and a body with this prefix.
    pub(crate) async fn time_until_response(
        &self,
        secret: &str,
        (status, body): (u16, &str),
        since: Stopwatch,
    ) -> Duration {
        loop {
            let response = self.get(secret).await;
            let elapsed = since.elapsed_without_stalls();
            if response.status == status && response.body.starts_with(body) {
                return elapsed;
            }
            let (actual, body) = (response.status, response.body);
            assert!(elapsed < TIMEOUT, "expected {status}, got {actual} {body}");
            pause().await;
        }
    }
}

/// The interval between two checks.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Measured durations.
#[derive(Default)]
pub(crate) struct Measurements(Vec<Duration>);

impl Measurements {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap()
    }

    pub(crate) fn summary(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let (count, median) = (sorted.len(), sorted[sorted.len() / 2]);
        format!("{count} times: median {median:.1?}, max {:.1?}", self.max())
    }
}
