use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A running browser without windows. It ends when this is dropped.
pub(crate) struct Chromium {
    process: Child,
    profile: PathBuf,
}

impl Chromium {
    /// Returns the program.
    pub(crate) fn find() -> Result<PathBuf, String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path);
        let mut programs = folders.flat_map(|folder| NAMES.map(|name| folder.join(name)));
        let reason = "Chromium is not installed; install Debian's chromium as .ci/run does";
        programs
            .find(|program| program.is_file())
            .ok_or_else(|| reason.to_owned())
    }

    pub(crate) fn open(url: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svctok-chromium-{}-{number}", std::process::id());
        let profile = env::temp_dir().join(name);
        fs::create_dir_all(&profile).unwrap();
        let process = Command::new(Self::find().unwrap())
            .args(["--headless", "--disable-gpu", "--disable-dev-shm-usage"])
            // Root, as in CI, has no sandbox. The page is the test's own.
            .arg("--no-sandbox")
            .args([
                "--no-first-run",
                "--no-proxy-server",
                "--disable-background-networking",
            ])
            // Keeps the page open, and ends with the process instead of the first load.
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, profile }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Children may still write for a moment.
        let _ = fs::remove_dir_all(&self.profile);
    }
}
