//! `svctok serve` as a process, as a test sees it.

use std::env;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use test_support::process::{Process, lines};
use tokio::net::TcpStream;

use crate::http1::{HttpRequest, HttpResponse};
use crate::store_fixture::StoreFixture;

/// Longer than any successful step takes.
pub(crate) const NODE_TIMEOUT: Duration = Duration::from_secs(60);

/// The prefix of the line on stdout.
const BOOTSTRAP: &str = "bootstrap token: ";

/// A process that listens, and does not outlive its test.
pub(crate) struct Node {
    process: NodeProcess,
    pub(crate) address: SocketAddr,
}

/// A process whose output is read as it comes.
pub(crate) struct NodeProcess {
    child: Child,
    stdout: LineReader,
    stderr: LineReader,
}

/// The exit status and the whole output of a process.
#[derive(Debug)]
pub(crate) struct NodeOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

struct LineReader {
    /// A lock without contention, so that nodes can be shared.
    pipe: Mutex<Receiver<String>>,
    lines_read: Vec<String>,
}

impl Node {
    /// Listens on a free port of the loopback address, on the place's store.
    pub(crate) async fn start(fixture: &StoreFixture, more: &[&str]) -> Self {
        NodeProcess::start(fixture, more)
            .wait_until_listening()
            .await
    }

    /// Listens on this address; does not read it from the log.
    pub(crate) async fn start_at(
        fixture: &StoreFixture,
        address: SocketAddr,
        more: &[&str],
    ) -> Self {
        let listen = address.to_string();
        let more = [&["--listen", &listen], more].concat();
        let process = NodeProcess::start(fixture, &more);
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < NODE_TIMEOUT, "it does not listen");
            poll_interval().await;
        }
        Self { process, address }
    }

    /// The administrator's token, which this node minted.
    pub(crate) async fn bootstrap(fixture: &StoreFixture, more: &[&str]) -> (Self, String) {
        let mut node = Self::start(fixture, more).await;
        let token = node.bootstrap_token().await;
        (node, token)
    }

    pub(crate) async fn bootstrap_token(&mut self) -> String {
        let line = self.process.stdout.find(BOOTSTRAP).await;
        line.strip_prefix(BOOTSTRAP).unwrap().to_owned()
    }

    /// The first line of the log that contains this text.
    pub(crate) async fn wait_for_log(&mut self, part: &str) -> String {
        self.process.stderr.find(part).await
    }

    pub(crate) async fn send(&self, call: &HttpRequest) -> HttpResponse {
        call.send(self.address).await
    }

    /// Closes the other end of the process's stderr.
    pub(crate) fn close_stderr(&mut self) {
        let none: &[u8] = b"";
        self.process.stderr = LineReader::new(lines(none));
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// The memory in use, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process_id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// The time for which the process has used a core.
    #[cfg(target_os = "linux")]
    pub(crate) fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.process_id());
        let stat = std::fs::read_to_string(path).unwrap();
        // The name may hold spaces. After it come the state and 10 numbers, user and system time.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields = fields.split(' ').skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
        // `USER_HZ` is 100 on every architecture of Linux that matters here.
        Duration::from_millis(ticks * 10)
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Sends SIGTERM, and waits for a successful exit.
    pub(crate) async fn stop(self) -> NodeOutput {
        self.signal("TERM");
        let ended = self.wait().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    }

    pub(crate) async fn wait(self) -> NodeOutput {
        self.process.wait().await
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }
}

impl NodeProcess {
    pub(crate) fn command() -> Command {
        let mut command = svctok();
        command.arg("serve");
        command
    }

    pub(crate) fn start(fixture: &StoreFixture, more: &[&str]) -> Self {
        let mut command = Self::command();
        command.args(["--store", &fixture.store]);
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(command.args(more), Stdio::piped())
    }

    pub(crate) fn spawn(command: &mut Command, stdout: Stdio) -> Self {
        command.stdin(Stdio::null()).stdout(stdout);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let none: &[u8] = b"";
        let stdout = match child.stdout.take() {
            Some(stdout) => lines(stdout),
            None => lines(none),
        };
        Self {
            stdout: LineReader::new(stdout),
            stderr: LineReader::new(lines(child.stderr.take().unwrap())),
            child,
        }
    }

    /// Waits for the log line with its address.
    pub(crate) async fn wait_until_listening(mut self) -> Node {
        let line = self.stderr.find("listening on http").await;
        let (_, address) = line.split_once("://").unwrap();
        let end = address.find(|it: char| it != ':' && it != '.' && !it.is_ascii_digit());
        let address = &address[..end.unwrap_or(address.len())];
        Node {
            address: address.parse().unwrap(),
            process: self,
        }
    }

    /// The first line of the log that contains this text.
    pub(crate) async fn wait_for_log(&mut self, part: &str) -> String {
        self.stderr.find(part).await
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()));
        Process::spawn(&mut kill).finish().succeeded();
    }

    pub(crate) async fn wait(mut self) -> NodeOutput {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < NODE_TIMEOUT, "the process does not end");
            poll_interval().await;
        };
        NodeOutput {
            code: status.code(),
            stdout: self.stdout.rest().await,
            stderr: self.stderr.rest().await,
        }
    }
}

/// The tool, without the environment variables that it reads.
pub(crate) fn svctok() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svctok"));
    command.env_remove("RUST_LOG");
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("SVCTOK_") {
            command.env_remove(name);
        }
    }
    command
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LineReader {
    fn new(pipe: Receiver<String>) -> Self {
        Self {
            pipe: Mutex::new(pipe),
            lines_read: Vec::new(),
        }
    }

    /// The first line that contains this text, among those read and those still to come.
    async fn find(&mut self, part: &str) -> String {
        let begun = Instant::now();
        let mut at = 0;
        loop {
            while let Some(line) = self.lines_read.get(at) {
                if line.contains(part) {
                    return line.clone();
                }
                at += 1;
            }
            match self.pipe.get_mut().unwrap().try_recv() {
                Ok(line) => self.lines_read.push(line),
                Err(TryRecvError::Empty) if begun.elapsed() < NODE_TIMEOUT => poll_interval().await,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    panic!("no line with '{part}', but: {:#?}", self.lines_read)
                }
            }
        }
    }

    /// The whole output.
    async fn rest(&mut self) -> String {
        loop {
            match self.pipe.get_mut().unwrap().try_recv() {
                Ok(line) => self.lines_read.push(line),
                Err(TryRecvError::Empty) => poll_interval().await,
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.lines_read.push(String::new());
        self.lines_read.join("\n")
    }
}

/// The interval between two checks.
pub(crate) async fn poll_interval() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
