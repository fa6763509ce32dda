//! The programs in `tests/peers` that run an authorization server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An authorization server that can be started.
pub struct Peer {
    pub name: &'static str,
    /// Whether its clients may sign assertions, with keys that `keys.mjs` generates.
    pub accepts_assertions: bool,
    pub paths: Paths,
    interpreter: &'static str,
    program: &'static str,
    install_command: &'static str,
}

/// The paths of a server's endpoints.
#[derive(Clone, Copy)]
pub struct Paths {
    pub token: &'static str,
    pub introspection: &'static str,
    pub revocation: &'static str,
}

pub static OIDC_PROVIDER: Peer = Peer {
    name: "oidc-provider",
    accepts_assertions: true,
    paths: Paths {
        token: "/token",
        introspection: "/token/introspection",
        revocation: "/token/revocation",
    },
    interpreter: "node",
    program: "server.mjs",
    install_command: "npm ci --prefix tests/peers/oidc-provider",
};

pub static DJANGO: Peer = Peer {
    name: "django-oauth-toolkit",
    accepts_assertions: false,
    paths: Paths {
        token: "/token/",
        introspection: "/introspect/",
        revocation: "/revoke_token/",
    },
    interpreter: ".venv/bin/python",
    program: "server.py",
    install_command: "python3 -m venv and pip, as .ci/run does",
};

impl Peer {
    /// Returns the reason if the server is not installed.
    pub fn missing_dependency(&self) -> Option<String> {
        let interpreter = self.interpreter();
        let status = Command::new(&interpreter)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return Some(format!("{} is not installed", self.interpreter));
        }
        let modules = ["node_modules", ".venv"].map(|name| self.folder().join(name));
        let installed = modules.iter().any(|path| path.exists());
        (!installed).then(|| format!("not installed: {}", self.install_command))
    }

    pub fn server(&self) -> Command {
        let mut command = self.run(self.program);
        for name in ["PORT", "HOST", "BASE_PATH", "TLS_CERT", "TLS_KEY"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, program: &str) -> Command {
        let mut command = Command::new(self.interpreter());
        command.arg(self.folder().join(program));
        command
    }

    fn interpreter(&self) -> PathBuf {
        // Prefers the interpreter of a virtual environment to the one in `PATH`.
        let own = self.folder().join(self.interpreter);
        if own.exists() {
            own
        } else {
            self.interpreter.into()
        }
    }

    fn folder(&self) -> PathBuf {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers");
        peers.join(self.name)
    }
}
