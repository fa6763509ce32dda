//! A log and a stdout without a reader.

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

/// How long a stop may wait for a log without a reader, with a margin for a busy machine.
const END_BOUND: Duration = Duration::from_secs(15);

/// The text of a report of dropped lines.
const REPORT: &str = "dropped log lines";

/// More than a pipe and the queue hold.
const REQUESTS: usize = 6000;

/// A process whose stderr the test handles itself.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Reads its log up to the line with its address, and no further.
    fn stalled(fixture: &StoreFixture, more: &[&str]) -> (Self, BufReader<PipeReader>) {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = command(fixture, "127.0.0.1:0");
        command.args(more).stderr(writer);
        let child = command.spawn().unwrap();
        // Otherwise its end of the pipe would stay open.
        drop(command);
        let mut reader = BufReader::new(reader);
        let address = loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "no address");
            if let Some(address) = address_in(&line) {
                break address;
            }
        };
        (Self { child, address }, reader)
    }

    async fn with_stderr(
        fixture: &StoreFixture,
        port: &ReservedPort,
        stderr: impl Into<Stdio>,
    ) -> Self {
        let address = port.address();
        let mut command = command(fixture, &address.to_string());
        let child = command.stderr(stderr).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < NODE_TIMEOUT, "it does not listen");
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

    /// Sends so many requests on one connection.
    async fn ask(&self, count: usize, call: &HttpRequest) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        for _ in 0..count {
            let answer = http1::exchange(&mut stream, &call.bytes()).await.unwrap();
            answer.assert(200);
        }
    }

    async fn dropped(&self, class: &str) -> u64 {
        let metrics = HttpRequest::get("/metrics")
            .send(self.address)
            .await
            .assert(200);
        let name = format!("svctok_log_lines_dropped_total{{class=\"{class}\"}} ");
        let mut lines = metrics.body.lines();
        let count = lines.find_map(|line| line.strip_prefix(&name));
        count.unwrap().parse().unwrap()
    }

    async fn stops(mut self) {
        let watch = Stopwatch::start();
        let mut kill = Command::new("sh");
        kill.arg("-c")
            .arg(format!("kill -TERM {}", self.child.id()));
        Process::spawn(&mut kill).finish().succeeded();
        let code = ends(&mut self.child).await;
        assert_eq!(code, Some(0));
        let took = watch.elapsed_without_stalls();
        assert!(took < END_BOUND, "{took:?}");
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

async fn ends(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(begun.elapsed() < NODE_TIMEOUT, "the process does not end");
        poll_interval().await;
    }
}

/// The writing end of a pipe that is full, and its other end.
fn full_pipe() -> (PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    writer.write_all(&vec![b'\n'; 64 * 1024]).unwrap();
    // In case it is larger than usual. Ends when the reader is dropped.
    thread::spawn(move || while filler.write_all(&[b'\n'; 4096]).is_ok() {});
    (reader, writer)
}

pub(crate) async fn blocked_log_drops_lines_and_no_requests(fixture: StoreFixture) {
    let (mut service, reader) = Service::stalled(&fixture, &[]);
    let administrator = service.bootstrap_token();
    let mut created = Vec::new();
    for _ in 0..60 {
        // A line for each: those of requests without a token are limited.
        let own = HttpRequest::get("/service-tokens/self").with_key(&administrator);
        service.ask(REQUESTS / 60, &own).await;
        let name = format!(r#"{{"name":"token-{}"}}"#, created.len());
        let create = HttpRequest::post("/service-tokens", &name).with_key(&administrator);
        let answer = create.send(service.address).await.assert(201);
        created.push(answer.text("/service_token/id"));
    }
    assert_eq!(service.dropped("audit").await, 0);
    assert_eq!(service.dropped("problem").await, 0);
    assert!(service.dropped("ordinary").await > 0);

    let mut log = lines(reader);
    let mut read = Vec::new();
    let report = loop {
        let line = next_line(&mut log).await;
        if line.contains(REPORT) {
            break line;
        }
        read.push(line);
    };
    let dropped = service.dropped("ordinary").await;
    assert!(report.contains("ERROR"), "{report}");
    assert_eq!(reported(&report, "ordinary"), Some(dropped), "{report}");
    for id in &created {
        let is_audit = |it: &&String| it.contains("tower_service_token::audit") && it.contains(id);
        assert_eq!(read.iter().filter(is_audit).count(), 1, "{id}");
    }
    // It continues as before.
    let call = HttpRequest::get("/healthz").with("x-request-id", "after");
    service.ask(1, &call).await;
    loop {
        let line = next_line(&mut log).await;
        assert!(!line.contains(REPORT), "{line}");
        if line.contains("request_id=\"after\"") {
            break;
        }
    }
    service.stops().await;
}

/// Returns how many lines of a class a line of the log reports as dropped.
fn reported(line: &str, class: &str) -> Option<u64> {
    let (_, fields) = line.split_once(REPORT)?;
    let count = fields.strip_prefix(&format!(" class=\"{class}\" count="))?;
    Some(count.trim_end().parse().unwrap())
}

/// The queue of problems is full when the log is read again, and so it is for a report among them.
pub(crate) async fn dropped_problem_lines_are_counted(fixture: StoreFixture) {
    let (mut service, reader) = Service::stalled(&fixture, &[]);
    let administrator = service.bootstrap_token();
    fs::remove_file(fixture.folder.join("tokens.db")).unwrap();
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    let create = create.bytes();
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let begun = Instant::now();
    while service.dropped("problem").await < 1000 {
        assert!(begun.elapsed() < NODE_TIMEOUT, "no line is dropped");
        for _ in 0..500 {
            let answer = http1::exchange(&mut stream, &create).await.unwrap();
            answer.assert(503);
        }
    }
    let mut log = lines(reader);
    let dropped = service.dropped("problem").await;
    let mut sum = 0;
    while sum < dropped {
        let line = next_line(&mut log).await;
        sum += reported(&line, "problem").unwrap_or_default();
    }
    assert_eq!(sum, dropped);
    service.stops().await;
}

async fn next_line(log: &mut Receiver<String>) -> String {
    let begun = Instant::now();
    loop {
        match log.try_recv() {
            Ok(line) => return line,
            Err(TryRecvError::Empty) if begun.elapsed() < NODE_TIMEOUT => poll_interval().await,
            Err(error) => panic!("no line: {error}"),
        }
    }
}

pub(crate) async fn blocked_log_does_not_delay_shutdown(fixture: StoreFixture) {
    let (service, reader) = Service::stalled(&fixture, &[]);
    service.ask(800, &HttpRequest::get("/healthz")).await;
    service.stops().await;
    drop(reader);
}

pub(crate) async fn failed_start_exits_with_blocked_stderr(fixture: StoreFixture) {
    let (reader, writer) = full_pipe();
    let mut start = command(&fixture, "127.0.0.1:0");
    start.args(["--tls-cert", "none", "--tls-key", "none"]);
    let mut child = start.stderr(writer).spawn().unwrap();
    drop(start);
    let watch = Stopwatch::start();
    assert_eq!(ends(&mut child).await, Some(2));
    assert!(watch.elapsed_without_stalls() < END_BOUND);
    drop(reader);
}

pub(crate) async fn bootstrap_token_is_deleted_if_stdout_blocks(fixture: StoreFixture) {
    let (reader, writer) = full_pipe();
    let mut start = command(&fixture, "127.0.0.1:0");
    let child = start.stdout(writer).stderr(Stdio::piped()).spawn();
    drop(start);
    let output = thread::spawn(|| child.unwrap().wait_with_output().unwrap());
    let begun = Instant::now();
    while !output.is_finished() {
        assert!(begun.elapsed() < NODE_TIMEOUT, "the process does not end");
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
    // The store is as empty as before, so that the next start shows one.
    let (mut service, _log) = Service::stalled(&fixture, &[]);
    assert!(service.bootstrap_token().starts_with("svctok-"));
    service.stops().await;
}

pub(crate) async fn full_log_device_does_not_stop_the_service(fixture: StoreFixture) {
    let port = ReservedPort::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut service = Service::with_stderr(&fixture, &port, full).await;
    let administrator = service.bootstrap_token();
    let own = HttpRequest::get("/service-tokens/self").with_key(&administrator);
    service.ask(REQUESTS, &own).await;
    assert!(service.dropped("ordinary").await > 0);
    service.stops().await;
}

pub(crate) async fn log_resumes_when_the_disk_has_space(fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "64k").unwrap();
    let path = disk.path().join("log");
    let log = File::create(&path).unwrap();
    let port = ReservedPort::new();
    let service = Service::with_stderr(&fixture, &port, log).await;
    disk.fill();
    let read = || fs::read_to_string(&path).unwrap();
    for number in 0..100 {
        let id = format!("number-{number}");
        let call = HttpRequest::get("/healthz").with("x-request-id", &id);
        service.ask(1, &call).await;
    }
    assert!(!read().contains("number-99"), "the disk is not full");
    disk.empty();
    let begun = Instant::now();
    while !read().contains("number-99") {
        assert!(begun.elapsed() < NODE_TIMEOUT, "the log does not go on");
        poll_interval().await;
    }
    let log = read();
    for number in 0..100 {
        let id = format!("request_id=\"number-{number}\"");
        assert_eq!(log.matches(&id).count(), 1, "{id}");
    }
    let is_whole = |line: &str| line.starts_with("20") && line.contains(" INFO ");
    for line in log.lines().filter(|it| it.contains("request_id")) {
        assert!(is_whole(line), "{line}");
    }
    service.stops().await;
}
