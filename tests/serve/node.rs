//! `svctok serve` as a process, as a test sees it.

use std::env;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::place::Place;
use crate::process::{Process, lines};
use crate::wire::{Answer, Call};

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the line on stdout begins with.
const BOOTSTRAP: &str = "bootstrap token: ";

/// A process that listens, and does not outlive its test.
pub(crate) struct Node {
    running: Running,
    pub(crate) address: SocketAddr,
}

/// A process whose output is read as it comes.
pub(crate) struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

/// How a process ended, and all it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

struct Stream {
    /// A lock that nobody waits for, so that nodes can be shared.
    pipe: Mutex<Receiver<String>>,
    said: Vec<String>,
}

impl Node {
    /// Listens on a free port of the loopback address, on the place's store.
    pub(crate) async fn start(place: &Place, more: &[&str]) -> Self {
        Running::start(place, more).listening().await
    }

    /// Listens on this address, whatever its log says.
    pub(crate) async fn at(place: &Place, address: SocketAddr, more: &[&str]) -> Self {
        let listen = address.to_string();
        let more = [&["--listen", &listen], more].concat();
        let running = Running::start(place, &more);
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "it does not listen");
            pause().await;
        }
        Self { running, address }
    }

    /// The administrator's token, which this node minted.
    pub(crate) async fn administrator(place: &Place, more: &[&str]) -> (Self, String) {
        let mut node = Self::start(place, more).await;
        let token = node.bootstrap_token().await;
        (node, token)
    }

    pub(crate) async fn bootstrap_token(&mut self) -> String {
        let line = self.running.stdout.find(BOOTSTRAP).await;
        line.strip_prefix(BOOTSTRAP).unwrap().to_owned()
    }

    /// The first line of the log that has this in it.
    pub(crate) async fn logged(&mut self, part: &str) -> String {
        self.running.stderr.find(part).await
    }

    pub(crate) async fn send(&self, call: &Call) -> Answer {
        call.send(self.address).await
    }

    /// Closes the other end of the process's stderr.
    pub(crate) fn stop_listening(&mut self) {
        let none: &[u8] = b"";
        self.running.stderr = Stream::new(lines(none));
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.running.child.id()
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
        self.running.signal(name);
    }

    /// Sends SIGTERM, and waits for the end, which is a good one.
    pub(crate) async fn stop(self) -> Ended {
        self.signal("TERM");
        let ended = self.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    }

    pub(crate) async fn ended(self) -> Ended {
        self.running.ended().await
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.running.child.kill().unwrap();
        self.running.child.wait().unwrap();
    }
}

impl Running {
    pub(crate) fn command() -> Command {
        let mut command = svctok();
        command.arg("serve");
        command
    }

    pub(crate) fn start(place: &Place, more: &[&str]) -> Self {
        let mut command = Self::command();
        command.args(["--store", &place.store]);
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
            stdout: Stream::new(stdout),
            stderr: Stream::new(lines(child.stderr.take().unwrap())),
            child,
        }
    }

    /// Waits until it says where it listens.
    pub(crate) async fn listening(mut self) -> Node {
        let line = self.stderr.find("listening on http").await;
        let (_, address) = line.split_once("://").unwrap();
        let end = address.find(|it: char| it != ':' && it != '.' && !it.is_ascii_digit());
        let address = &address[..end.unwrap_or(address.len())];
        Node {
            address: address.parse().unwrap(),
            running: self,
        }
    }

    /// The first line of the log that has this in it.
    pub(crate) async fn logged(&mut self, part: &str) -> String {
        self.stderr.find(part).await
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()));
        Process::spawn(&mut kill).finish().succeeded();
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "the process does not end");
            pause().await;
        };
        Ended {
            code: status.code(),
            stdout: self.stdout.rest().await,
            stderr: self.stderr.rest().await,
        }
    }
}

/// The tool, and nothing of the environment that it may listen to.
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

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stream {
    fn new(pipe: Receiver<String>) -> Self {
        Self {
            pipe: Mutex::new(pipe),
            said: Vec::new(),
        }
    }

    /// The first line that has this in it, whether it was said before or is still to come.
    async fn find(&mut self, part: &str) -> String {
        let begun = Instant::now();
        let mut at = 0;
        loop {
            while let Some(line) = self.said.get(at) {
                if line.contains(part) {
                    return line.clone();
                }
                at += 1;
            }
            match self.pipe.get_mut().unwrap().try_recv() {
                Ok(line) => self.said.push(line),
                Err(TryRecvError::Empty) if begun.elapsed() < PATIENCE => pause().await,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    panic!("no line with '{part}', but: {:#?}", self.said)
                }
            }
        }
    }

    /// All that was said, to the end.
    async fn rest(&mut self) -> String {
        loop {
            match self.pipe.get_mut().unwrap().try_recv() {
                Ok(line) => self.said.push(line),
                Err(TryRecvError::Empty) => pause().await,
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.said.push(String::new());
        self.said.join("\n")
    }
}

/// Between two looks.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
