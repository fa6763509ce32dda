//! Environment variables that are empty, and the time zone.

use crate::sandbox::Sandbox;
use crate::test_server::TestServer;

#[test]
fn empty_variables_count_as_unset() {
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    for variable in [
        "SVCTOK_STORE",
        "SVCTOK_CONTEXT",
        "SVCTOK_CONFIG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "USER",
        "LOGNAME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "NO_COLOR",
        "RUST_LOG",
    ] {
        let sandbox = Sandbox::without_store()
            .with("SVCTOK_URL", test_server.url())
            .with("SVCTOK_TOKEN", &token)
            .with(variable, "");
        sandbox.run("list").succeeded();
    }
    let sandbox = Sandbox::new()
        .with("SVCTOK_URL", "")
        .with("SVCTOK_TOKEN", "")
        .with("SVCTOK_CONTEXT", "");
    sandbox.create("--name a");
    sandbox.run("list").succeeded();
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", "");
    let stderr = sandbox.run("list").failed(4);
    assert!(stderr.contains("no token specified"), "{stderr}");
}

/// The loader would take the first argument for the program.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn empty_postgres_variable_does_not_restart_the_dynamic_loader() {
    let run = |value: &str| {
        let mut command = std::process::Command::new("/lib64/ld-linux-x86-64.so.2");
        command.arg(env!("CARGO_BIN_EXE_svctok")).arg("--version");
        command.env("PGUSER", value).output().unwrap()
    };
    let (empty, set) = (run(""), run("alice"));
    assert!(empty.status.success() && set.status.success(), "{empty:?}");
    assert_eq!(empty.stdout, set.stdout);
    let warning = String::from_utf8(empty.stderr).unwrap();
    assert!(
        warning.starts_with("warning: cannot restart svctok"),
        "{warning}"
    );
    assert_eq!(set.stderr, b"");
}

#[test]
fn time_zone_does_not_change_dates() {
    for zone in [
        "UTC",
        "Europe/Berlin",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        ":bad",
    ] {
        let sandbox = Sandbox::new().with("TZ", zone);
        // Daylight saving time in Berlin starts on this day.
        let words = "create --name a --expiration 2099-03-29 --not-before 2098-10-26";
        let created = sandbox.json(words);
        let token = &created["service_token"];
        assert_eq!(token["expires_at"], "2099-03-30T00:00:00Z", "{zone}");
        assert_eq!(token["not_before"], "2098-10-26T00:00:00Z", "{zone}");
        let table = sandbox.run("list").succeeded();
        assert!(table.contains("| 2099-03-29 |"), "{zone}: {table}");
        let filter = "list --expires-before 2099-03-30";
        assert_eq!(sandbox.run(filter).succeeded(), empty_table(), "{zone}");
        let filter = "list --expires-before 2099-03-31";
        assert_eq!(sandbox.run(filter).succeeded(), table, "{zone}");
    }
}

fn empty_table() -> &'static str {
    "ID | NAME | EXPIRATION | ROLES\n"
}
