//! Variables that are set to nothing.

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

#[test]
fn time_zone_changes_no_date() {
    for zone in [
        "UTC",
        "Europe/Berlin",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        ":bad",
    ] {
        let sandbox = Sandbox::new().with("TZ", zone);
        // Clocks in Berlin change on this day.
        let words = "create --name a --expiration 2099-03-29 --not-before 2098-10-26";
        let created = sandbox.json(words);
        let token = &created["service_token"];
        assert_eq!(token["expires_at"], "2099-03-30T00:00:00Z", "{zone}");
        assert_eq!(token["not_before"], "2098-10-26T00:00:00Z", "{zone}");
        let shown = sandbox.run("list").succeeded();
        assert!(shown.contains("| 2099-03-29 |"), "{zone}: {shown}");
        let filter = "list --expires-before 2099-03-30";
        assert_eq!(
            sandbox.run(filter).succeeded(),
            shown_without_tokens(),
            "{zone}"
        );
        let filter = "list --expires-before 2099-03-31";
        assert_eq!(sandbox.run(filter).succeeded(), shown, "{zone}");
    }
}

fn shown_without_tokens() -> &'static str {
    "ID | NAME | EXPIRATION | ROLES\n"
}
