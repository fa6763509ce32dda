//! Deployments of an authorization server over plain HTTP, or over TLS with a private certificate
//! authority.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use super::peer::Peer;
use super::server::{AuthorizationServer, TrackedServer};
use crate::certificates::{Authority, Certificate};
use crate::port::ReservedPort;

/// The names in the certificates of the servers.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// Everything needed to start one kind of authorization server.
pub struct Deployment {
    pub peer: &'static Peer,
    folder: Arc<Folder>,
    keys: Option<Arc<ClientKeys>>,
    authority: Option<Authority>,
    shared: OnceLock<AuthorizationServer>,
}

impl Deployment {
    /// Creates a deployment with plain HTTP and one with TLS.
    ///
    /// # Errors
    ///
    /// Returns the reason if the authorization server is not installed.
    pub fn plain_and_tls(peer: &'static Peer) -> Result<[Arc<Self>; 2], String> {
        if let Some(reason) = peer.missing_dependency() {
            return Err(reason);
        }
        let folder = Arc::new(Folder::new(peer.name));
        let keys = peer
            .accepts_assertions
            .then(|| ClientKeys::new(peer, &folder));
        let keys = keys.map(Arc::new);
        let authority = Authority::new("tower-service-token tests");
        Ok([None, Some(authority)].map(|authority| {
            Arc::new(Self {
                peer,
                folder: Arc::clone(&folder),
                keys: keys.clone(),
                authority,
                shared: OnceLock::new(),
            })
        }))
    }

    /// Returns the server that tests share. Tests must not stop or suspend it.
    pub fn shared(&self) -> TrackedServer<'_> {
        self.shared.get_or_init(|| self.start()).tracked()
    }

    /// Starts a server for one test.
    pub fn start(&self) -> AuthorizationServer {
        self.start_with(&[])
    }

    /// Starts a server that listens on this port.
    pub fn start_on(&self, port: &ReservedPort) -> AuthorizationServer {
        self.start_with(&[("PORT", &port.address().port().to_string())])
    }

    /// Starts a server with these environment variables, which `server.mjs` documents.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> AuthorizationServer {
        let authority = self.authority.as_ref();
        let certificate = authority.map(|authority| authority.certificate(&HOSTS));
        self.start_as(certificate.as_ref(), variables)
    }

    /// Starts a server with this certificate.
    pub fn start_with_certificate(&self, certificate: &Certificate) -> AuthorizationServer {
        self.start_as(Some(certificate), &[])
    }

    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Returns the private key of the client with this name, as PEM.
    pub fn client_key(&self, name: &str) -> &str {
        let keys = self.keys.as_ref();
        &keys.expect("the server accepts assertions").pem[name]
    }

    /// Writes the certificate of the authority to a PEM file and returns its path.
    pub fn root_file(&self) -> Option<PathBuf> {
        let authority = self.authority.as_ref()?;
        Some(self.folder.file(authority.pem()))
    }

    fn start_as(
        &self,
        certificate: Option<&Certificate>,
        variables: &[(&str, &str)],
    ) -> AuthorizationServer {
        let mut command = self.peer.server();
        // Only some servers keep their tokens in a file.
        command.env("DATABASE", self.folder.path());
        if let Some(keys) = &self.keys {
            command.env("CLIENT_JWKS", &keys.public);
        }
        if let Some(certificate) = certificate {
            command
                .env("TLS_CERT", self.folder.file(&certificate.chain))
                .env("TLS_KEY", self.folder.file(&certificate.key));
        }
        command.envs(variables.iter().copied());
        let root = self.authority.as_ref().map(Authority::pem);
        AuthorizationServer::start(&mut command, self.peer.paths, root.map(str::to_owned))
    }
}

/// The keys of the clients that sign assertions.
struct ClientKeys {
    pem: HashMap<String, String>,
    public: PathBuf,
}

impl ClientKeys {
    fn new(peer: &Peer, folder: &Folder) -> Self {
        #[derive(Deserialize)]
        struct Output {
            pem: HashMap<String, String>,
            jwks: serde_json::Value,
        }

        let output = peer.run("keys.mjs").output().unwrap();
        let keys: Output = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no keys ({error}): {output:?}"));
        Self {
            public: folder.file(&keys.jwks.to_string()),
            pem: keys.pem,
        }
    }
}

/// A folder for keys and tokens, removed on drop.
struct Folder {
    path: PathBuf,
    files: AtomicU32,
}

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("introspection-peers-{}-{name}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self {
            path,
            files: AtomicU32::new(0),
        }
    }

    fn file(&self, content: &str) -> PathBuf {
        let path = self.path();
        fs::write(&path, content).unwrap();
        path
    }

    /// Returns a path without a file.
    fn path(&self) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.path.join(number.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
