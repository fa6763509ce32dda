//! A log or stdout that is not read.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use test_support::port::ReservedPort;
use test_support::process::{Process, lines};
use test_support::stall::Stopwatch;
use tokio::net::TcpStream;

use crate::disk::Disk;
use crate::http1::{self, HttpRequest};
use crate::node::{NODE_TIMEOUT, NodeProcess, poll_interval};
use crate::store_fixture::StoreFixture;

/// The maximum shutdown time with a blocked log, with a margin for a busy machine.
const MAX_SHUTDOWN: Duration = Duration::from_secs(15);

/// The message of a log line that reports dropped lines.
const REPORT: &str = "dropped log lines";

/// Enough requests to fill the pipe and the queue.
const REQUESTS: usize = 6000;

/// A process whose stderr the test reads or blocks.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Starts a process and reads its log only up to the line with its address.
    fn start_with_blocked_log(
        fixture: &StoreFixture,
        flags: &[&str],
    ) -> (Self, BufReader<PipeReader>) {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = command(fixture, "127.0.0.1:0");
        command.args(flags).stderr(writer);
        let child = command.spawn().unwrap();
        // The command holds a writing end of the pipe, which must close with the process.
        drop(command);
        let mut reader = BufReader::new(reader);
        let address = loop {
            let mut line = String::new();
            assert!(
                reader.read_line(&mut line).unwrap() > 0,
                "the log has no address"
            );
            if let Some(address) = address_in(&line) {
                break address;
            }
        };
        (Self { child, address }, reader)
    }

    async fn start_with_stderr(
        fixture: &StoreFixture,
        port: &ReservedPort,
        stderr: impl Into<Stdio>,
    ) -> Self {
        let address = port.address();
        let mut command = command(fixture, &address.to_string());
        let child = command.stderr(stderr).spawn().unwrap();
        let started_at = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(
                started_at.elapsed() < NODE_TIMEOUT,
                "the service does not listen"
            );
            poll_interval().await;
        }
        Self { child, address }
    }

    fn bootstrap_token(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let token = line.strip_prefix("bootstrap token: ").unwrap();
        token.trim_end().to_owned()
    }

    /// Sends the request `count` times on one connection.
    async fn send(&self, count: usize, request: &HttpRequest) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        for _ in 0..count {
            let response = http1::exchange(&mut stream, &request.bytes())
                .await
                .unwrap();
            response.assert(200);
        }
    }

    /// Returns the number of dropped lines of this class, from the metrics.
    async fn dropped_lines(&self, class: &str) -> u64 {
        let metrics = HttpRequest::get("/metrics")
            .send(self.address)
            .await
            .assert(200);
        let name = format!("svctok_log_lines_dropped_total{{class=\"{class}\"}} ");
        let mut lines = metrics.body.lines();
        let count = lines.find_map(|line| line.strip_prefix(&name));
        count.unwrap().parse().unwrap()
    }

    /// Sends SIGTERM and asserts a successful exit in time.
    async fn stop(mut self) {
        let watch = Stopwatch::start();
        let mut kill = Command::new("sh");
        kill.arg("-c")
            .arg(format!("kill -TERM {}", self.child.id()));
        Process::spawn(&mut kill).finish().succeeded();
        let code = wait_for_exit(&mut self.child).await;
        assert_eq!(code, Some(0));
        let elapsed = watch.elapsed_without_stalls();
        assert!(elapsed < MAX_SHUTDOWN, "{elapsed:?}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(fixture: &StoreFixture, address: &str) -> Command {
    let mut command = NodeProcess::command();
    command.args(["--store", &fixture.store, "--listen", address]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("listening on http://")?;
    Some(address.trim_end().parse().unwrap())
}

async fn wait_for_exit(child: &mut Child) -> Option<i32> {
    let started_at = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the process does not exit"
        );
        poll_interval().await;
    }
}

/// Returns both ends of a full pipe.
fn full_pipe() -> (PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    writer.write_all(&vec![b'\n'; 64 * 1024]).unwrap();
    // The pipe may hold more than 64 KiB. The thread ends when the reader is dropped.
    thread::spawn(move || while filler.write_all(&[b'\n'; 4096]).is_ok() {});
    (reader, writer)
}

pub(crate) async fn blocked_log_drops_lines_but_no_requests(fixture: StoreFixture) {
    let (mut service, reader) = Service::start_with_blocked_log(&fixture, &[]);
    let administrator = service.bootstrap_token();
    let mut created = Vec::new();
    for _ in 0..60 {
        // These requests log a line each. Lines about requests without a token are rate limited.
        let get_self = HttpRequest::get("/service-tokens/self").with_key(&administrator);
        service.send(REQUESTS / 60, &get_self).await;
        let name = format!(r#"{{"name":"token-{}"}}"#, created.len());
        let create = HttpRequest::post("/service-tokens", &name).with_key(&administrator);
        let response = create.send(service.address).await.assert(201);
        created.push(response.text("/service_token/id"));
    }
    assert_eq!(service.dropped_lines("audit").await, 0);
    assert_eq!(service.dropped_lines("problem").await, 0);
    assert!(service.dropped_lines("ordinary").await > 0);

    let mut log = lines(reader);
    let mut lines_read = Vec::new();
    let report = loop {
        let line = next_line(&mut log).await;
        if line.contains(REPORT) {
            break line;
        }
        lines_read.push(line);
    };
    let dropped = service.dropped_lines("ordinary").await;
    assert!(report.contains("ERROR"), "{report}");
    assert_eq!(
        reported_count(&report, "ordinary"),
        Some(dropped),
        "{report}"
    );
    for id in &created {
        let is_audit = |it: &&String| it.contains("tower_service_token::audit") && it.contains(id);
        assert_eq!(lines_read.iter().filter(is_audit).count(), 1, "{id}");
    }
    // The log continues, without another report.
    let request = HttpRequest::get("/healthz").with("x-request-id", "after");
    service.send(1, &request).await;
    loop {
        let line = next_line(&mut log).await;
        assert!(!line.contains(REPORT), "{line}");
        if line.contains("request_id=\"after\"") {
            break;
        }
    }
    service.stop().await;
}

/// Returns how many lines of a class a line of the log reports as dropped.
fn reported_count(line: &str, class: &str) -> Option<u64> {
    let (_, fields) = line.split_once(REPORT)?;
    let count = fields.strip_prefix(&format!(" class=\"{class}\" count="))?;
    Some(count.trim_end().parse().unwrap())
}

/// The queue for problem lines is full when reading resumes, so a report may not fit into it at first.
pub(crate) async fn dropped_problem_lines_are_counted(fixture: StoreFixture) {
    let (mut service, reader) = Service::start_with_blocked_log(&fixture, &[]);
    let administrator = service.bootstrap_token();
    fs::remove_file(fixture.folder.join("tokens.db")).unwrap();
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    let create = create.bytes();
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let started_at = Instant::now();
    while service.dropped_lines("problem").await < 1000 {
        assert!(started_at.elapsed() < NODE_TIMEOUT, "no line is dropped");
        for _ in 0..500 {
            let response = http1::exchange(&mut stream, &create).await.unwrap();
            response.assert(503);
        }
    }
    let mut log = lines(reader);
    let dropped = service.dropped_lines("problem").await;
    let mut sum = 0;
    while sum < dropped {
        let line = next_line(&mut log).await;
        sum += reported_count(&line, "problem").unwrap_or_default();
    }
    assert_eq!(sum, dropped);
    service.stop().await;
}

async fn next_line(log: &mut Receiver<String>) -> String {
    let started_at = Instant::now();
    loop {
        match log.try_recv() {
            Ok(line) => return line,
            Err(TryRecvError::Empty) if started_at.elapsed() < NODE_TIMEOUT => {
                poll_interval().await;
            }
            Err(error) => panic!("no log line: {error}"),
        }
    }
}

pub(crate) async fn blocked_log_does_not_delay_shutdown(fixture: StoreFixture) {
    let (service, reader) = Service::start_with_blocked_log(&fixture, &[]);
    service.send(800, &HttpRequest::get("/healthz")).await;
    service.stop().await;
    drop(reader);
}

pub(crate) async fn failed_start_exits_with_blocked_stderr(fixture: StoreFixture) {
    let (reader, writer) = full_pipe();
    let mut start = command(&fixture, "127.0.0.1:0");
    start.args(["--tls-cert", "none", "--tls-key", "none"]);
    let mut child = start.stderr(writer).spawn().unwrap();
    drop(start);
    let watch = Stopwatch::start();
    assert_eq!(wait_for_exit(&mut child).await, Some(2));
    assert!(watch.elapsed_without_stalls() < MAX_SHUTDOWN);
    drop(reader);
}

pub(crate) async fn bootstrap_token_is_deleted_if_stdout_blocks(fixture: StoreFixture) {
    let (reader, writer) = full_pipe();
    let mut start = command(&fixture, "127.0.0.1:0");
    let child = start.stdout(writer).stderr(Stdio::piped()).spawn();
    drop(start);
    let output = thread::spawn(|| child.unwrap().wait_with_output().unwrap());
    let started_at = Instant::now();
    while !output.is_finished() {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the process does not exit"
        );
        poll_interval().await;
    }
    let output = output.join().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("cannot write the bootstrap token to stdout"),
        "{stderr}"
    );
    drop(reader);
    // The store is still empty, so the next start prints a token.
    let (mut service, _log) = Service::start_with_blocked_log(&fixture, &[]);
    assert!(service.bootstrap_token().starts_with("svctok-"));
    service.stop().await;
}

pub(crate) async fn full_log_device_does_not_stop_the_service(fixture: StoreFixture) {
    let port = ReservedPort::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut service = Service::start_with_stderr(&fixture, &port, full).await;
    let administrator = service.bootstrap_token();
    let get_self = HttpRequest::get("/service-tokens/self").with_key(&administrator);
    service.send(REQUESTS, &get_self).await;
    assert!(service.dropped_lines("ordinary").await > 0);
    service.stop().await;
}

pub(crate) async fn log_resumes_when_the_disk_has_space(fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "64k").unwrap();
    let path = disk.path().join("log");
    let log = File::create(&path).unwrap();
    let port = ReservedPort::new();
    let service = Service::start_with_stderr(&fixture, &port, log).await;
    disk.fill();
    let read_log = || fs::read_to_string(&path).unwrap();
    for number in 0..100 {
        let id = format!("number-{number}");
        let request = HttpRequest::get("/healthz").with("x-request-id", &id);
        service.send(1, &request).await;
    }
    assert!(!read_log().contains("number-99"), "the disk is not full");
    disk.empty();
    let started_at = Instant::now();
    while !read_log().contains("number-99") {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the log does not resume"
        );
        poll_interval().await;
    }
    let log = read_log();
    for number in 0..100 {
        let id = format!("request_id=\"number-{number}\"");
        assert_eq!(log.matches(&id).count(), 1, "{id}");
    }
    let is_complete = |line: &str| line.starts_with("20") && line.contains(" INFO ");
    for line in log.lines().filter(|it| it.contains("request_id")) {
        assert!(is_complete(line), "{line}");
    }
    service.stop().await;
}
