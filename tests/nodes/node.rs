//! Processes of this binary, as a test sees them.

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

/// A process that does not outlive its test.
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

    /// `None` at the end; a line that was not ended is none.
    pub(crate) async fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(TIMEOUT, self.stdout.read_line(&mut line)).await;
        read.expect("a node says nothing").unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A server and its client.
pub(crate) struct Node {
    process: Process,
    pub(crate) caller: HttpClient,
}

/// Sends requests to a node.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client<HttpConnector, String>,
    address: SocketAddr,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) has_retry_after: bool,
    pub(crate) body: String,
}

pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Node {
    /// A node of this name, by which PostgreSQL knows its connections.
    pub(crate) async fn start(database: &TestDatabase, name: &str) -> Self {
        Self::with(ProcessConfig::new(Role::Server, &database.store(name))).await
    }

    pub(crate) async fn with(process_config: ProcessConfig) -> Self {
        let mut process = Process::spawn(&process_config);
        let address = process.read_line().await.expect("a node does not start");
        let caller = HttpClient {
            client: Client::builder(TokioExecutor::new()).build_http(),
            address: address.parse().unwrap(),
        };
        Self { process, caller }
    }

    /// The response to a command.
    pub(crate) async fn try_run(&mut self, command: &str) -> Result<String, String> {
        self.process.send_line(command).await;
        let answer = self.process.read_line().await.expect("a node has ended");
        match answer.split_once(' ') {
            Some(("ok", answer)) => Ok(answer.to_owned()),
            _ => Err(answer),
        }
    }

    pub(crate) async fn run(&mut self, command: &str) -> String {
        let verb = command.split(' ').next().unwrap_or_default().to_owned();
        let answer = self.try_run(command).await;
        answer.unwrap_or_else(|error| panic!("{verb}: {error}"))
    }

    pub(crate) async fn create(&mut self, name: &str) -> Token {
        self.try_create(name).await.unwrap()
    }

    pub(crate) async fn try_create(&mut self, name: &str) -> Result<Token, String> {
        let answer = self.try_run(&format!("create {name} reader")).await?;
        let (id, secret) = answer.split_once(' ').unwrap();
        Ok(Token {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// Creates a token that is valid here and cached by `other`.
    pub(crate) async fn create_and_cache(&mut self, other: &mut Self, name: &str) -> Token {
        let token = self.create(name).await;
        self.caller.assert(&token.secret, 200).await;
        other.wait_until_cached(&token).await;
        token
    }

    /// The token is valid here, and so is its cached entry.
    pub(crate) async fn wait_until_cached(&mut self, token: &Token) {
        let begun = Instant::now();
        loop {
            self.caller.assert(&token.secret, 200).await;
            if self.run(&format!("knows {}", token.secret)).await == "true" {
                return;
            }
            assert!(begun.elapsed() < TIMEOUT, "nothing is remembered");
        }
    }

    /// Has these tokens remembered, and for a while: a feed that comes or goes makes the node forget
    /// nothing any more.
    pub(crate) async fn wait_until_cached_stably(&mut self, tokens: &[Token]) {
        let begun = Instant::now();
        'rebuild: loop {
            assert!(begun.elapsed() < TIMEOUT, "nothing is remembered");
            for token in tokens {
                self.wait_until_cached(token).await;
            }
            let remembered = Instant::now();
            while remembered.elapsed() < Duration::from_millis(200) {
                for token in tokens {
                    if self.run(&format!("knows {}", token.secret)).await != "true" {
                        continue 'rebuild;
                    }
                }
                pause().await;
            }
            return;
        }
    }

    /// Returns what is reported: when all nodes go by it at the latest.
    pub(crate) async fn revoke(&mut self, token: &Token) -> Duration {
        let within = self.run(&format!("revoke {}", token.id)).await;
        Duration::from_millis(within.parse().unwrap())
    }
}

impl HttpClient {
    pub(crate) async fn get(&self, secret: &str) -> Answer {
        let request = Request::get(format!("http://{}/whoami", self.address))
            .header("x-api-key", secret)
            .body(String::new())
            .unwrap();
        let response = timeout(TIMEOUT, self.client.request(request)).await;
        let response = response.expect("a request is not answered").unwrap();
        let status = response.status().as_u16();
        let has_retry_after = response.headers().contains_key(RETRY_AFTER);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer {
            status,
            has_retry_after,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn assert(&self, secret: &str, status: u16) {
        let answer = self.get(secret).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }

    /// How long after `since` the token is rejected for the first time; it is accepted before.
    pub(crate) async fn refused(&self, secret: &str, since: Stopwatch) -> Duration {
        loop {
            let answer = self.get(secret).await;
            let after = since.elapsed_without_stalls();
            if answer.status == 401 {
                self.assert(secret, 401).await;
                return after;
            }
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(after < TIMEOUT, "the token still works");
            pause().await;
        }
    }

    /// How long after `since` it is until the answer is this.
    pub(crate) async fn becomes(
        &self,
        secret: &str,
        (status, body): (u16, &str),
        since: Stopwatch,
    ) -> Duration {
        loop {
            let answer = self.get(secret).await;
            let after = since.elapsed_without_stalls();
            if answer.status == status && answer.body.starts_with(body) {
                return after;
            }
            let (is, body) = (answer.status, answer.body);
            assert!(after < TIMEOUT, "not {status} but {is} {body}");
            pause().await;
        }
    }
}

/// The interval between two checks.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Measured times, to print and compare.
#[derive(Default)]
pub(crate) struct Measurements(Vec<Duration>);

impl Measurements {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap()
    }

    pub(crate) fn show(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let (count, median) = (sorted.len(), sorted[sorted.len() / 2]);
        format!("{count} times: median {median:.1?}, max {:.1?}", self.max())
    }
}
