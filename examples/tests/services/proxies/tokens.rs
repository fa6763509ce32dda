//! The example `introspection_server` as a process.

use test_support::process::{Process, example};

use crate::proxies::http::{HttpResponse, send};

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

    /// Starts the example on a reserved port, or on a free one for 0.
    pub(crate) fn start_on(port: u16) -> Self {
        Self::start_with(&[("PORT", &port.to_string())])
    }

    /// Starts the example with these environment variables.
    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Self {
        let mut command = example("introspection_server");
        let command = command.env("PORT", "0").envs(environment.iter().copied());
        let mut process = Process::spawn(command);
        let mut value_after = |label: &str| {
            let line = process.line();
            line.strip_prefix(label).expect(&line).to_owned()
        };
        let address = value_after("listening on http://127.0.0.1:");
        let service = value_after("introspect token: ");
        let user = value_after("user token: ");
        Self {
            port: address.parse().expect("a port"),
            service,
            user,
            commands: [process.line(), process.line(), process.line()],
            process,
        }
    }

    /// Returns the ID in the service's token.
    pub(crate) fn service_id(&self) -> &str {
        &self.service["svctok-".len()..][..10]
    }

    pub(crate) fn revoke(&self, token: &str) -> HttpResponse {
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        send(
            self.port,
            "POST",
            "/revoke",
            &form,
            &format!("token={token}"),
        )
    }

    /// Suspends the process. Its port accepts connections, but no response follows.
    pub(crate) fn suspend(&self) {
        self.process.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.process.signal("CONT");
    }
}
