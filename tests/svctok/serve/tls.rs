//! TLS, and plain HTTP.

use std::sync::Arc;

use http::{Request, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::certificates::Authority;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::bootstrap::secret_of;
use crate::http1::{self, HttpRequest};
use crate::node::{Node, NodeProcess};
use crate::store_fixture::StoreFixture;

pub(crate) async fn connect(
    authority: &Authority,
    node: &Node,
    protocols: &[&str],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(node.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

/// Starts a node with TLS. Returns it with its administrator token and its certificate authority.
pub(crate) async fn start_with_tls(fixture: &StoreFixture) -> (Node, String, Authority) {
    let authority = Authority::new("test");
    let certificate = authority.certificate(&["localhost"]);
    let cert = fixture.file("cert.pem", Some(&certificate.chain));
    let key = fixture.file("key.pem", Some(&certificate.key));
    let flags = ["--tls-cert", &cert, "--tls-key", &key];
    let (mut node, token) = Node::bootstrap(fixture, &flags).await;
    node.wait_for_log("listening on https://").await;
    (node, token, authority)
}

pub(crate) async fn tls_serves_http1_and_http2(fixture: StoreFixture) {
    let (node, token, authority) = start_with_tls(&fixture).await;
    let verify = HttpRequest::get("/verify").with_key(&token).bytes();
    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = connect(&authority, &node, protocols).await;
        http1::exchange(&mut stream, &verify)
            .await
            .unwrap()
            .assert(200);
    }
    let stream = connect(&authority, &node, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // A client without TLS gets no response and does not affect the next one.
    assert!(
        HttpRequest::get("/healthz")
            .try_send(node.address)
            .await
            .is_err()
    );
    let mut stream = connect(&authority, &node, &[]).await;
    http1::exchange(&mut stream, &verify)
        .await
        .unwrap()
        .assert(200);
    node.stop().await;
}

async fn assert_usage_error(fixture: &StoreFixture, flags: &[&str], error: &str) {
    let output = NodeProcess::start(fixture, flags).wait().await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains(error), "{output:?}");
    assert!(!output.stderr.contains("PRIVATE KEY"), "{output:?}");
    assert_eq!(output.stdout, "", "no token was minted");
}

pub(crate) async fn unusable_certificate_is_a_usage_error(fixture: StoreFixture) {
    let authority = Authority::new("test");
    let [one, other] = [(); 2].map(|()| authority.certificate(&["localhost"]));
    let cert = fixture.file("cert.pem", Some(&one.chain));
    let key = fixture.file("key.pem", Some(&one.key));
    let other_key = fixture.file("other.pem", Some(&other.key));
    let nothing = fixture.file("nothing.pem", Some("nothing\n"));
    let absent = fixture.file("absent.pem", None);
    for (cert, key, error) in [
        (&cert, &other_key, "cert.pem with"),
        (&cert, &nothing, "nothing.pem"),
        (&cert, &absent, "absent.pem"),
        (&cert, &cert, "cert.pem"),
        (&nothing, &key, "nothing.pem: no certificate found"),
        (&absent, &key, "absent.pem"),
    ] {
        assert_usage_error(&fixture, &["--tls-cert", cert, "--tls-key", key], error).await;
    }
    assert_usage_error(&fixture, &["--tls-cert", &cert], "--tls-key").await;
    assert_usage_error(&fixture, &["--tls-key", &key], "--tls-cert").await;
}

pub(crate) async fn byte_order_mark_precedes_certificate_and_key(fixture: StoreFixture) {
    let served = Authority::new("test").certificate(&["localhost"]);
    let marked = |pem: &str| format!("\u{feff}{pem}");
    let cert = fixture.file("cert.pem", Some(&marked(&served.chain)));
    let key = fixture.file("key.pem", Some(&marked(&served.key)));
    let node = Node::start(&fixture, &["--tls-cert", &cert, "--tls-key", &key]).await;
    node.stop().await;
}

pub(crate) async fn plain_http_is_limited_to_loopback(fixture: StoreFixture) {
    let all_addresses = ["--listen", "0.0.0.0:0"];
    assert_usage_error(&fixture, &all_addresses, "--insecure-plain-http").await;

    let flags = ["--insecure-plain-http", "--log-level", "trace"];
    let flags = [&all_addresses[..], &flags].concat();
    let (mut node, token) = Node::bootstrap(&fixture, &flags).await;
    node.wait_for_log("plain HTTP exposes tokens").await;
    node.address.set_ip([127, 0, 0, 1].into());
    let verify = HttpRequest::get("/verify").with_key(&token);
    node.send(&verify).await.assert(200);

    // HTTP/2 without TLS, with prior knowledge.
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let request = Request::get(format!("http://{}/verify", node.address))
        .header("x-api-key", &token)
        .body(String::new())
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_2)
    );
    drop(client);
    let output = node.stop().await;
    assert!(!output.stderr.contains(secret_of(&token)));
}
