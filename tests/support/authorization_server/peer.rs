//! The authorization servers, as programs in `tests/peers`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An authorization server that can be started.
pub struct Peer {
    pub name: &'static str,
    /// Whether its clients may sign assertions, with keys that `keys.mjs` makes.
    pub takes_assertions: bool,
    pub paths: Paths,
    interpreter: &'static str,
    program: &'static str,
    installed_by: &'static str,
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
    takes_assertions: true,
    paths: Paths {
        token: "/token",
        introspection: "/token/introspection",
        revocation: "/token/revocation",
    },
    interpreter: "node",
    program: "server.mjs",
    installed_by: "npm ci --prefix tests/peers/oidc-provider",
};

pub static DJANGO: Peer = Peer {
    name: "django-oauth-toolkit",
    takes_assertions: false,
    paths: Paths {
        token: "/token/",
        introspection: "/introspect/",
        revocation: "/revoke_token/",
    },
    interpreter: ".venv/bin/python",
    program: "server.py",
    installed_by: "python3 -m venv and pip, as .ci/run does",
};

impl Peer {
    /// Why it cannot be started.
    pub fn missing_dependency(&self) -> Option<String> {
        let interpreter = self.interpreter();
        let status = Command::new(&interpreter)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return Some(format!("there is no {}", self.interpreter));
        }
        let modules = ["node_modules", ".venv"].map(|name| self.folder().join(name));
        let installed = modules.iter().any(|path| path.exists());
        (!installed).then(|| format!("not installed: {}", self.installed_by))
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
        // Uses its own interpreter, or the one on the path.
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
