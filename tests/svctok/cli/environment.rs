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
