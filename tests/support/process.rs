//! Child processes, such as examples, for tests.

use std::env;
#[cfg(unix)]
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Limits a process. A working example takes less time even on a busy machine.
pub const PROCESS_TIMEOUT: Duration = Duration::from_secs(120);

/// A child process whose output is read line by line. It is killed when this value is dropped.
pub struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    deadline: Instant,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        Self::start(command.stdin(Stdio::null()))
    }

    /// Spawns a process that [`write_line`](Self::write_line) can write to.
    pub fn spawn_with_stdin(command: &mut Command) -> Self {
        Self::start(command.stdin(Stdio::piped()))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            stdout: lines(child.stdout.take().unwrap()),
            stderr: lines(child.stderr.take().unwrap()),
            child,
            deadline: Instant::now() + PROCESS_TIMEOUT,
        }
    }

    /// Writes a line to stdin, which must be a pipe.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    pub fn line(&mut self) -> String {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        self.stdout.recv_timeout(remaining).unwrap_or_else(|error| {
            let stderr: Vec<_> = self.stderr.try_iter().collect();
            panic!("no line on stdout ({error}); stderr: {stderr:?}")
        })
    }

    /// Waits until the process ends. Returns the rest of stdout and stderr.
    pub fn finish(mut self) -> Finished {
        let stdout = rest(&self.stdout, self.deadline);
        let stderr = rest(&self.stderr, self.deadline);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Finished {
                    status,
                    stdout,
                    stderr,
                };
            }
            assert!(Instant::now() < self.deadline, "the process does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()));
        Process::spawn(&mut kill).finish().succeeded();
        if name == "STOP" {
            self.wait_until_stopped();
        }
    }

    /// Waits until all threads have stopped, because the signal does not stop them at the same
    /// time. Returns immediately on systems without `/proc`.
    #[cfg(unix)]
    fn wait_until_stopped(&self) {
        let threads = format!("/proc/{}/task", self.child.id());
        let is_running = |thread: &Path| {
            let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
            // The state follows the name in parentheses.
            !stat
                .rsplit(") ")
                .next()
                .unwrap_or_default()
                .starts_with('T')
        };
        let start = Instant::now();
        while let Ok(mut threads) = fs::read_dir(&threads) {
            if !threads.any(|it| it.is_ok_and(|thread| is_running(&thread.path()))) {
                break;
            }
            assert!(
                start.elapsed() < PROCESS_TIMEOUT,
                "the process does not stop"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn succeeded(self) -> String {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        self.stdout
    }

    pub fn failed(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

pub fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

pub fn rest(pipe: &Receiver<String>, deadline: Instant) -> String {
    let mut all = String::new();
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        match pipe.recv_timeout(remaining) {
            Ok(line) => {
                all.push_str(&line);
                all.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => return all,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the process does not end; its output so far: {all}")
            }
        }
    }
}

pub fn example(name: &str) -> Command {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path: PathBuf = [
        profile.as_os_str(),
        "examples".as_ref(),
        format!("{name}{}", env::consts::EXE_SUFFIX).as_ref(),
    ]
    .iter()
    .collect();
    assert!(
        path.exists(),
        "{} does not exist: `cargo test -p examples` builds it unless `--test` selects a suite, \
         run `cargo build -p examples --examples` first",
        path.display()
    );
    let mut command = Command::new(path);
    command.env_remove("PORT");
    command
}
