//! Empty environment variables.

use std::process::Stdio;

use crate::http1::HttpRequest;
use crate::node::NodeProcess;
use crate::store_fixture::StoreFixture;

/// Every environment variable that `svctok serve` reads.
const VARIABLES: [&str; 19] = [
    "SVCTOK_STORE",
    "SVCTOK_LISTEN",
    "SVCTOK_TLS_CERT",
    "SVCTOK_TLS_KEY",
    "SVCTOK_INSECURE_PLAIN_HTTP",
    "SVCTOK_BOOTSTRAP_TOKEN_FILE",
    "SVCTOK_METRICS_LISTEN",
    "SVCTOK_LOG_FORMAT",
    "SVCTOK_LOG_LEVEL",
    "SVCTOK_AUDIT_RETENTION",
    "SVCTOK_SHUTDOWN_TIMEOUT",
    "SVCTOK_MAX_CONNECTIONS",
    "SVCTOK_TRUSTED_PROXY",
    "SVCTOK_CLIENT_ADDRESS_HEADER",
    "SVCTOK_DATABASE_CONNECTIONS",
    "SVCTOK_VERIFY_NO_CONTENT",
    "SVCTOK_VERIFY_PREFIX",
    "RUST_LOG",
    "NO_COLOR",
];

pub(crate) async fn every_variable_of_the_help_is_tested(_: StoreFixture) {
    let output = NodeProcess::command().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let names = help.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    let mut names: Vec<_> = names.filter(|it| it.starts_with("SVCTOK_")).collect();
    names.sort_unstable();
    names.dedup();
    for variable in names {
        assert!(VARIABLES.contains(&variable), "{variable}");
    }
}

pub(crate) async fn empty_variables_count_as_unset(fixture: StoreFixture) {
    let listen = ["--store", &fixture.store, "--listen", "127.0.0.1:0"];
    let mut command = NodeProcess::command();
    command.envs(VARIABLES.map(|it| (it, ""))).args(listen);
    let node = NodeProcess::spawn(&mut command, Stdio::piped());
    let mut node = node.wait_until_listening().await;
    node.bootstrap_token().await;
    node.send(&HttpRequest::get("/metrics")).await.assert(200);
    node.stop().await;
    for variable in VARIABLES {
        let mut command = NodeProcess::command();
        command.env(variable, "").args(listen);
        let node = NodeProcess::spawn(&mut command, Stdio::piped());
        node.wait_until_listening().await.stop().await;
    }
}

/// `--tls-cert` requires `--tls-key`, and `--client-address-header` requires `--trusted-proxy`.
pub(crate) async fn empty_variable_does_not_satisfy_a_required_flag(fixture: StoreFixture) {
    let listen = ["--store", &fixture.store, "--listen", "127.0.0.1:0"];
    for (variable, flag, value) in [
        ("SVCTOK_TLS_KEY", "--tls-cert", "cert.pem"),
        ("SVCTOK_TLS_CERT", "--tls-key", "key.pem"),
        (
            "SVCTOK_TRUSTED_PROXY",
            "--client-address-header",
            "x-real-ip",
        ),
    ] {
        let mut command = NodeProcess::command();
        command.env(variable, "").args(listen).args([flag, value]);
        let output = NodeProcess::spawn(&mut command, Stdio::piped())
            .wait()
            .await;
        assert_eq!(output.code, Some(2), "{output:?}");
        let missing = variable
            .trim_start_matches("SVCTOK_")
            .to_lowercase()
            .replace('_', "-");
        assert!(
            output.stderr.contains(&format!("--{missing}")),
            "{output:?}"
        );
    }
}
