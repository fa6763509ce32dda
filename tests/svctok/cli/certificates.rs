//! Servers with a certificate that the client rejects.

use test_support::certificates::{Authority, Certificate};

use crate::sandbox::{Sandbox, TOKEN};
use crate::test_server::TestServer;

/// Runs `list` against a server with this certificate, trusting these roots. Returns the error.
fn list_error(served: &Certificate, roots: &str) -> String {
    let test_server = TestServer::start_with(served);
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", TOKEN)
        .with("SSL_CERT_FILE", "roots.pem");
    sandbox.write("roots.pem", roots);
    let stderr = sandbox.run("list").failed(4);
    assert!(!stderr.contains("is running"), "{stderr}");
    assert!(!stderr.contains("OtherError"), "{stderr}");
    stderr
}

#[test]
fn error_names_a_self_signed_ca_certificate() {
    let served = Certificate::self_signed_ca(&["127.0.0.1"]);
    // `openssl req -x509` creates such a certificate. Trusting it makes no difference.
    for roots in [served.chain.as_str(), Authority::new("other").pem()] {
        let stderr = list_error(&served, roots);
        assert!(stderr.contains("a CA certificate"), "{stderr}");
        assert!(
            stderr.contains("basicConstraints=critical,CA:FALSE"),
            "{stderr}"
        );
    }
}

#[test]
fn error_names_the_defect_of_a_certificate() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let hosts = &["127.0.0.1"];
    for (served, roots, reason) in [
        (ours.certificate(hosts), &other, "trusted authority"),
        (ours.expired_certificate(hosts), &ours, "has expired"),
        (ours.certificate(&["tokens.example"]), &ours, "another name"),
    ] {
        let stderr = list_error(&served, roots.pem());
        assert!(stderr.contains("certificate"), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}

#[test]
fn rejected_certificate_is_not_retried() {
    let served = Certificate::self_signed_ca(&["127.0.0.1"]);
    let test_server = TestServer::start_with(&served);
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", TOKEN)
        .with("SSL_CERT_FILE", "roots.pem");
    sandbox.write("roots.pem", &served.chain);
    sandbox.run("list").failed(4);
    assert_eq!(test_server.handshakes(), 1);
}

#[test]
fn error_names_a_plain_http_server() {
    let test_server = TestServer::start();
    let sandbox = Sandbox::without_store()
        .with(
            "SVCTOK_URL",
            &test_server.url().replace("http://", "https://"),
        )
        .with("SVCTOK_TOKEN", TOKEN);
    let stderr = sandbox.run("list").failed(4);
    assert!(stderr.contains("does not speak TLS"), "{stderr}");
}
