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

#[test]
fn error_names_the_subject_alt_name_that_is_missing() {
    let ours = Authority::new("ours");
    let stderr = list_error(&ours.certificate(&[]), ours.pem());
    assert!(stderr.contains("it has no subjectAltName"), "{stderr}");
    assert!(stderr.contains("`subjectAltName=IP:127.0.0.1`"), "{stderr}");
    for (hosts, reason) in [
        (
            &["tokens.example"][..],
            "has DNS:tokens.example, but not IP:127.0.0.1",
        ),
        (
            &["10.0.0.1", "b.example"],
            "has IP:10.0.0.1, DNS:b.example, but not IP:127.0.0.1",
        ),
        (
            &["a.example", "b.example", "c.example", "d.example"],
            "has DNS:a.example, DNS:b.example, DNS:c.example, …, but not IP:127.0.0.1",
        ),
    ] {
        let stderr = list_error(&ours.certificate(hosts), ours.pem());
        assert!(
            stderr.contains(&format!("its subjectAltName {reason}")),
            "{stderr}"
        );
    }
    // By a DNS name.
    let test_server = TestServer::start_with(&ours.certificate(&["127.0.0.1"]));
    let sandbox = Sandbox::without_store()
        .with(
            "SVCTOK_URL",
            &test_server.url().replace("127.0.0.1", "localhost"),
        )
        .with("SVCTOK_TOKEN", TOKEN)
        .with("SSL_CERT_FILE", "roots.pem");
    sandbox.write("roots.pem", ours.pem());
    let stderr = sandbox.run("list").failed(4);
    assert!(
        stderr.contains("has IP:127.0.0.1, but not DNS:localhost"),
        "{stderr}"
    );
}

#[test]
fn error_names_a_file_without_certificates() {
    let ours = Authority::new("ours");
    let test_server = TestServer::start_with(&ours.certificate(&["127.0.0.1"]));
    let sandbox = || {
        let sandbox = Sandbox::without_store()
            .with("SVCTOK_URL", test_server.url())
            .with("SVCTOK_TOKEN", TOKEN);
        sandbox.write("empty.pem", "");
        sandbox.write("text.pem", "no certificate\n");
        sandbox.write("folder/key.pem", &ours.certificate(&[]).key);
        sandbox
    };
    let unreadable = |path: &str, error: &str| {
        format!("cannot read certificates from {path} (SSL_CERT_FILE): {error}")
    };
    let empty = |path: &str| format!("{path} (SSL_CERT_FILE) contains no PEM certificate");
    let folder = |path: &str| format!("no PEM certificate in {path} (SSL_CERT_DIR)");
    for (variable, path, reason) in [
        (
            "SSL_CERT_FILE",
            "missing.pem",
            unreadable("missing.pem", "No such file"),
        ),
        ("SSL_CERT_FILE", "empty.pem", empty("empty.pem")),
        ("SSL_CERT_FILE", "text.pem", empty("text.pem")),
        ("SSL_CERT_FILE", "folder/key.pem", empty("folder/key.pem")),
        (
            "SSL_CERT_FILE",
            "folder",
            unreadable("folder", "Is a directory"),
        ),
        ("SSL_CERT_DIR", "folder", folder("folder")),
        ("SSL_CERT_DIR", "missing", folder("missing")),
    ] {
        let stderr = sandbox().with(variable, path).run("list").failed(2);
        assert!(stderr.contains(&format!(": {reason}")), "{stderr}");
    }
    assert_eq!(test_server.handshakes(), 0);
}

/// A process substitution of the shell, such as `<(cat roots.pem)`, is a pipe.
#[cfg(unix)]
#[test]
fn certificates_are_read_once() {
    let ours = Authority::new("ours");
    let test_server = TestServer::start_with(&ours.certificate(&["127.0.0.1"]));
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", &token)
        .with("SSL_CERT_FILE", "pipe.pem");
    let pipe = sandbox.file("pipe.pem");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let pem = ours.pem().to_owned();
    // A second read would wait forever.
    let writer = std::thread::spawn(move || std::fs::write(pipe, pem).unwrap());
    sandbox.run("list").succeeded();
    writer.join().unwrap();
}

#[test]
fn byte_order_mark_precedes_certificates() {
    let ours = Authority::new("ours");
    let test_server = TestServer::start_with(&ours.certificate(&["127.0.0.1"]));
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let sandbox = || {
        let sandbox = Sandbox::without_store()
            .with("SVCTOK_URL", test_server.url())
            .with("SVCTOK_TOKEN", &token);
        sandbox.write("roots/marked.pem", &format!("\u{feff}{}", ours.pem()));
        sandbox
    };
    for (variable, path) in [
        ("SSL_CERT_FILE", "roots/marked.pem"),
        ("SSL_CERT_DIR", "roots"),
    ] {
        sandbox().with(variable, path).run("list").succeeded();
    }
}

/// `http` needs no certificates.
#[test]
fn http_ignores_certificate_variables() {
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", &token)
        .with("SSL_CERT_FILE", "missing.pem");
    sandbox.run("list").succeeded();
}
