//! The tokens and the shell commands that the example prints.

use std::process::Command;

use serde_json::Value;
use test_support::process::Process;

use crate::proxies::http::get;
use crate::proxies::tokens::TokenServer;

fn output(command: &str) -> String {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("NO_PROXY", "*");
    Process::spawn(&mut shell).finish().succeeded()
}

pub(crate) fn printed_tokens_have_the_stated_rights() {
    let tokens = TokenServer::start();
    for (path, token, status) in [
        ("/verify", &tokens.user, 200),
        (
            "/verify?role=deployer&scope=projects:write",
            &tokens.user,
            200,
        ),
        ("/verify?scope=introspect", &tokens.service, 200),
        ("/verify?role=deployer", &tokens.service, 403),
    ] {
        let response = get(tokens.port, path, &[("X-API-Key", token)]);
        assert_eq!(response.status, status, "{path}");
    }
}

pub(crate) fn printed_commands_succeed_verbatim() {
    let tokens = TokenServer::start();
    let [introspect, verify, revoke] = &tokens.commands;
    let introspected: Value = serde_json::from_str(&output(introspect)).expect("JSON");
    assert_eq!(introspected["active"], true);
    assert_eq!(introspected["roles"][0], "deployer");
    let verified = output(verify);
    assert!(verified.starts_with("HTTP/1.1 200"), "{verified}");
    assert!(verified.contains("x-service-token-name: ci"), "{verified}");
    let revoked = output(revoke);
    assert!(revoked.starts_with("HTTP/1.1 200"), "{revoked}");
    assert!(
        revoked.contains("service-token-effective-within: 0"),
        "{revoked}"
    );
    assert_eq!(output(introspect).trim(), r#"{"active":false}"#);
    assert!(output(verify).starts_with("HTTP/1.1 401"));
}
