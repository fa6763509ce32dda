//! A directory and an environment to run `svctok` in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use snapbox::cmd::Command;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::digest::TokenDigest;
use tower_service_token::registry::{TokenRegistry, Write};
use tower_service_token::store::TokenRecord;
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::token::TokenId;

pub(crate) const SVCTOK: &str = env!("CARGO_BIN_EXE_svctok");

/// A token with a valid checksum that is in no store.
pub(crate) const TOKEN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

/// An empty directory, which is also the home directory. It is removed after the test.
pub(crate) struct Sandbox {
    pub(crate) path: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Sandbox {
    /// Creates a sandbox that specifies neither a server nor a store.
    pub(crate) fn without_store() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sandbox-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        let sandbox = Self {
            path,
            variables: BTreeMap::new(),
        };
        let home = sandbox.path.to_str().unwrap().to_owned();
        sandbox.with("HOME", &home).with("USER", "tester")
    }

    /// Creates a sandbox that specifies a store. The first `create` creates the file.
    pub(crate) fn new() -> Self {
        Sandbox::without_store().with("SVCTOK_STORE", "sqlite:tokens.db")
    }

    pub(crate) fn with(mut self, variable: &str, value: &str) -> Self {
        self.variables.insert(variable.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, variable: &str) -> Self {
        self.variables.remove(variable);
        self
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that only its owner can write, regardless of the umask.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o600);
        path
    }

    /// Returns a command with these arguments, which are separated by spaces.
    pub(crate) fn command(&self, words: &str) -> Command {
        Command::new(SVCTOK)
            .args(words.split_whitespace())
            .env_clear()
            .envs(&self.variables)
            .current_dir(&self.path)
            .timeout(Duration::from_secs(60))
    }

    pub(crate) fn run(&self, words: &str) -> CommandOutput {
        CommandOutput::of_command(self.command(words))
    }

    pub(crate) fn run_with(&self, words: &str, stdin: &str) -> CommandOutput {
        CommandOutput::of_command(self.command(words).stdin(stdin))
    }

    /// Creates a token and returns its secret.
    pub(crate) fn create(&self, words: &str) -> String {
        let output = self.run(&format!("create -o token {words}"));
        output.succeeded().trim_end().to_owned()
    }

    /// Returns the output of a command as JSON.
    pub(crate) fn json(&self, words: &str) -> Value {
        let stdout = self.run(&format!("{words} -o json")).succeeded();
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}"))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    pub(crate) fn of_command(command: Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Self {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Returns stdout. Panics if the command failed.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Returns stderr. Panics unless the command failed with this exit code and no output.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self.stderr
    }
}

/// Returns the id in a token.
pub(crate) fn id_of(token: &str) -> String {
    token["svctok-".len()..][..10].to_owned()
}

#[cfg(unix)]
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
pub(crate) fn set_mode(_: &Path, _: u32) {}

#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Creates a store with one token that has a known id and no times.
pub(crate) fn make_store(path: &Path, name: &str, roles: &[&str]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        // The ID in the documentation of the `sts` tool.
        let id = TokenId::from_i64(107_484_341_630_693).unwrap();
        let record = TokenRecord::new(id, TokenDigest::of(TOKEN))
            .with_name(name)
            .with_roles(roles);
        let now = SystemTime::now();
        let event = AuditEvent::new(now, "tester", AuditAction::Imported, id);
        store.insert(&Write::new(record, event)).await.unwrap();
    });
}
