//! Where an authorization server runs: plain, or behind TLS with a private certificate authority.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::certificates::{Authority, Certificate};
use crate::server::AuthorizationServer;

/// The names that the certificates of servers are for.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// What is needed to start authorization servers.
pub(crate) struct Site {
    folder: Arc<Folder>,
    keys: Arc<ClientKeys>,
    authority: Option<Authority>,
    shared: OnceLock<AuthorizationServer>,
}

impl Site {
    /// A plain one, and one with TLS.
    ///
    /// # Errors
    ///
    /// Why there is no authorization server to start.
    pub(crate) fn both() -> Result<[Arc<Self>; 2], String> {
        let program = find_program()?;
        let folder = Arc::new(Folder::new());
        let keys = Arc::new(ClientKeys::new(&program, &folder));
        let authority = Authority::new("tower-service-token tests");
        Ok([None, Some(authority)].map(|authority| {
            Arc::new(Self {
                folder: Arc::clone(&folder),
                keys: Arc::clone(&keys),
                authority,
                shared: OnceLock::new(),
            })
        }))
    }

    /// A server that tests share, and so must leave as it is.
    pub(crate) fn shared(&self) -> &AuthorizationServer {
        self.shared.get_or_init(|| self.start())
    }

    pub(crate) fn start(&self) -> AuthorizationServer {
        self.start_with(&[])
    }

    /// One with these variables in its environment; see `server.mjs`.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> AuthorizationServer {
        let authority = self.authority.as_ref();
        let certificate = authority.map(|authority| authority.certificate(&HOSTS));
        self.start_as(certificate.as_ref(), variables)
    }

    /// One that shows this certificate.
    pub(crate) fn start_showing(&self, certificate: &Certificate) -> AuthorizationServer {
        self.start_as(Some(certificate), &[])
    }

    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The private key of the client of that name, as PEM.
    pub(crate) fn client_key(&self, name: &str) -> &str {
        &self.keys.pem[name]
    }

    /// Where the certificate of the authority is, as PEM.
    pub(crate) fn root_file(&self) -> Option<PathBuf> {
        let authority = self.authority.as_ref()?;
        Some(self.folder.file(authority.pem()))
    }

    fn start_as(
        &self,
        certificate: Option<&Certificate>,
        variables: &[(&str, &str)],
    ) -> AuthorizationServer {
        let mut command = node(&peer().join("server.mjs"));
        command.env("CLIENT_JWKS", &self.keys.public);
        if let Some(certificate) = certificate {
            command
                .env("TLS_CERT", self.folder.file(&certificate.chain))
                .env("TLS_KEY", self.folder.file(&certificate.key));
        }
        command.envs(variables.iter().copied());
        let root = self.authority.as_ref().map(Authority::pem);
        AuthorizationServer::start(&mut command, root.map(str::to_owned))
    }
}

/// The keys of clients that sign their assertions.
struct ClientKeys {
    pem: HashMap<String, String>,
    public: PathBuf,
}

impl ClientKeys {
    fn new(program: &Path, folder: &Folder) -> Self {
        #[derive(Deserialize)]
        struct Printed {
            pem: HashMap<String, String>,
            jwks: serde_json::Value,
        }

        let output = node(program).output().unwrap();
        let printed: Printed = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no keys ({error}): {output:?}"));
        Self {
            public: folder.file(&printed.jwks.to_string()),
            pem: printed.pem,
        }
    }
}

/// A folder for keys, which goes with its owner.
struct Folder {
    path: PathBuf,
    files: AtomicU32,
}

impl Folder {
    fn new() -> Self {
        let name = format!("introspection-peers-{}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self {
            path,
            files: AtomicU32::new(0),
        }
    }

    fn file(&self, content: &str) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(number.to_string());
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The program that makes keys, once it is certain that it can run.
fn find_program() -> Result<PathBuf, String> {
    let node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !node.is_ok_and(|status| status.success()) {
        return Err("there is no node".into());
    }
    if !peer().join("node_modules/oidc-provider").exists() {
        return Err("run npm ci --prefix tests/peers/oidc-provider".into());
    }
    Ok(peer().join("keys.mjs"))
}

fn peer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/oidc-provider")
}

fn node(program: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(program);
    for name in ["PORT", "HOST", "BASE_PATH", "TLS_CERT", "TLS_KEY"] {
        command.env_remove(name);
    }
    command
}
