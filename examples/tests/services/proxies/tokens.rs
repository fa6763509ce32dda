//! The example that holds the tokens, as a process.

use test_support::process::{Process, example};

use crate::proxies::http::{Reply, send};

pub(crate) struct TokenServer {
    process: Process,
    pub(crate) port: u16,
    /// May introspect. Has no role.
    pub(crate) service: String,
    /// Has the role `deployer` and the scope `projects:write`.
    pub(crate) user: String,
    pub(crate) commands: [String; 3],
}

impl TokenServer {
    pub(crate) fn start() -> Self {
        Self::start_on(0)
    }

    /// Listens on a reserved port, or on a free one for 0.
    pub(crate) fn start_on(port: u16) -> Self {
        Self::start_with(&[("PORT", &port.to_string())])
    }

    /// Starts it with these variables in the environment.
    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Self {
        let mut command = example("introspection_server");
        let command = command.env("PORT", "0").envs(environment.iter().copied());
        let mut process = Process::spawn(command);
        let mut behind = |label: &str| {
            let line = process.line();
            line.strip_prefix(label).expect(&line).to_owned()
        };
        let address = behind("listening on http://127.0.0.1:");
        let service = behind("introspect token: ");
        let user = behind("user token: ");
        Self {
            port: address.parse().expect("a port"),
            service,
            user,
            commands: [process.line(), process.line(), process.line()],
            process,
        }
    }

    /// The public part of the service's token.
    pub(crate) fn service_id(&self) -> &str {
        &self.service["svctok-".len()..][..10]
    }

    pub(crate) fn revoke(&self, token: &str) -> Reply {
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        send(
            self.port,
            "POST",
            "/revoke",
            &form,
            &format!("token={token}"),
        )
    }

    /// Suspends it: its port accepts connections and nothing answers.
    pub(crate) fn hang(&self) {
        self.process.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.process.signal("CONT");
    }
}
