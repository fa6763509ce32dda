//! A `svctok serve` process.

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

/// The timeout of a step. Successful steps are much faster.
pub(crate) const NODE_TIMEOUT: Duration = Duration::from_secs(60);

/// The prefix of the stdout line with the bootstrap token.
const BOOTSTRAP: &str = "bootstrap token: ";

/// A listening process, which is killed on drop.
pub(crate) struct Node {
    process: NodeProcess,
    pub(crate) address: SocketAddr,
}

/// A process whose output is read while it runs.
pub(crate) struct NodeProcess {
    child: Child,
    stdout: LineReader,
    stderr: LineReader,
}

/// The exit code and the whole output of a process.
#[derive(Debug)]
pub(crate) struct NodeOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

struct LineReader {
    /// The lock makes nodes `Sync`. It is never contended.
    pipe: Mutex<Receiver<String>>,
    lines_read: Vec<String>,
}

impl Node {
    /// Starts a node on a free port of the loopback address, with the store of the fixture.
    pub(crate) async fn start(fixture: &StoreFixture, flags: &[&str]) -> Self {
        NodeProcess::start(fixture, flags)
            .wait_until_listening()
            .await
    }

    /// Starts a node on this address. Waits until it accepts connections, without reading the log.
    pub(crate) async fn start_at(
        fixture: &StoreFixture,
        address: SocketAddr,
        flags: &[&str],
    ) -> Self {
        let listen = address.to_string();
        let flags = [&["--listen", &listen], flags].concat();
        let process = NodeProcess::start(fixture, &flags);
        let started_at = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(
                started_at.elapsed() < NODE_TIMEOUT,
                "the node does not listen"
            );
            poll_interval().await;
        }
        Self { process, address }
    }

    /// Starts a node. Returns it with the administrator token that it minted.
    pub(crate) async fn bootstrap(fixture: &StoreFixture, flags: &[&str]) -> (Self, String) {
        let mut node = Self::start(fixture, flags).await;
        let token = node.bootstrap_token().await;
        (node, token)
    }

    pub(crate) async fn bootstrap_token(&mut self) -> String {
        let line = self.process.stdout.find(BOOTSTRAP).await;
        line.strip_prefix(BOOTSTRAP).unwrap().to_owned()
    }

    /// Waits for the first log line that contains this text.
    pub(crate) async fn wait_for_log(&mut self, part: &str) -> String {
        self.process.stderr.find(part).await
    }

    pub(crate) async fn send(&self, request: &HttpRequest) -> HttpResponse {
        request.send(self.address).await
    }

    /// Closes the reading end of the process's stderr.
    pub(crate) fn close_stderr(&mut self) {
        let empty: &[u8] = b"";
        self.process.stderr = LineReader::new(lines(empty));
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// Returns the resident memory in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process_id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Returns the CPU time that the process has used.
    #[cfg(target_os = "linux")]
    pub(crate) fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.process_id());
        let stat = std::fs::read_to_string(path).unwrap();
        // The process name may contain spaces. User and system time are the 12th and 13th field after it.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields = fields.split(' ').skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
        // `USER_HZ` is 100 on the Linux architectures that run these tests.
        Duration::from_millis(ticks * 10)
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Sends SIGTERM and asserts a successful exit.
    pub(crate) async fn stop(self) -> NodeOutput {
        self.signal("TERM");
        let output = self.wait().await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output
    }

    pub(crate) async fn wait(self) -> NodeOutput {
        self.process.wait().await
    }

    /// Sends SIGKILL and waits for the exit.
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

    pub(crate) fn start(fixture: &StoreFixture, flags: &[&str]) -> Self {
        let mut command = Self::command();
        command.args(["--store", &fixture.store]);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(command.args(flags), Stdio::piped())
    }

    pub(crate) fn spawn(command: &mut Command, stdout: Stdio) -> Self {
        command.stdin(Stdio::null()).stdout(stdout);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let empty: &[u8] = b"";
        let stdout = match child.stdout.take() {
            Some(stdout) => lines(stdout),
            None => lines(empty),
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

    /// Waits for the first log line that contains this text.
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
        let started_at = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                started_at.elapsed() < NODE_TIMEOUT,
                "the process does not exit"
            );
            poll_interval().await;
        };
        NodeOutput {
            code: status.code(),
            stdout: self.stdout.read_to_end().await,
            stderr: self.stderr.read_to_end().await,
        }
    }
}

/// Creates a command that runs `svctok` without the environment variables that it reads.
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

    /// Returns the first line that contains this text. Reads further lines as needed.
    async fn find(&mut self, part: &str) -> String {
        let started_at = Instant::now();
        let mut index = 0;
        loop {
            while let Some(line) = self.lines_read.get(index) {
                if line.contains(part) {
                    return line.clone();
                }
                index += 1;
            }
            match self.pipe.get_mut().unwrap().try_recv() {
                Ok(line) => self.lines_read.push(line),
                Err(TryRecvError::Empty) if started_at.elapsed() < NODE_TIMEOUT => {
                    poll_interval().await;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    panic!("no line contains '{part}': {:#?}", self.lines_read)
                }
            }
        }
    }

    /// Reads to the end and returns the whole output.
    async fn read_to_end(&mut self) -> String {
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

/// Waits for the interval between two checks.
pub(crate) async fn poll_interval() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
