//! A running authorization server, and the calls of its clients.

use std::ops::Deref;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;
use tower_service_token::introspection::{ClientAuth, IntrospectionBuilder, IntrospectionStore};

use super::peer::Paths;
use crate::process::Process;

/// The resource whose tokens are opaque.
pub const OPAQUE_API: &str = "https://api.example";
/// The resource whose tokens are JWTs.
pub const JWT_API: &str = "https://jwt-api.example";

pub struct AuthorizationServer {
    process: Mutex<Process>,
    paths: Paths,
    issuer: String,
    log: String,
    root: Option<String>,
}

/// A request that the server received.
#[derive(Debug, Deserialize, PartialEq)]
pub struct LoggedRequest {
    pub method: String,
    pub path: String,
    /// The scheme of the `Authorization` header.
    pub scheme: Option<String>,
    pub status: u16,
}

/// A shared server. Its introspection endpoint has a query string of the test, which identifies the
/// requests of the test in the log.
pub struct TrackedServer<'a> {
    server: &'a AuthorizationServer,
    query: String,
}

impl Deref for TrackedServer<'_> {
    type Target = AuthorizationServer;

    fn deref(&self) -> &AuthorizationServer {
        self.server
    }
}

impl TrackedServer<'_> {
    pub fn endpoint(&self) -> String {
        format!("{}{}", self.server.endpoint(), self.query)
    }

    /// Returns the requests of this test since the last call.
    pub async fn logged_requests(&self) -> Vec<LoggedRequest> {
        self.server.logged_requests_with(&self.query).await
    }

    /// Returns the number of introspection requests of this test since the last call.
    pub async fn calls(&self) -> usize {
        self.logged_requests().await.len()
    }
}

impl AuthorizationServer {
    pub fn start(command: &mut Command, paths: Paths, root: Option<String>) -> Self {
        let mut process = Process::spawn(command);
        let mut line_after = |prefix| loop {
            if let Some(url) = process.line().strip_prefix(prefix) {
                break url.to_owned();
            }
        };
        let log = line_after("log ");
        let issuer = line_after("listening ");
        Self {
            process: Mutex::new(process),
            paths,
            issuer,
            log,
            root,
        }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn endpoint(&self) -> String {
        format!("{}{}", self.issuer, self.paths.introspection)
    }

    pub fn token_endpoint(&self) -> String {
        format!("{}{}", self.issuer, self.paths.token)
    }

    /// Returns a handle that counts only the requests of one test.
    pub fn tracked(&self) -> TrackedServer<'_> {
        static TESTS: AtomicU32 = AtomicU32::new(0);

        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        TrackedServer {
            server: self,
            query: format!("?test={number}"),
        }
    }

    /// Returns the certificate of the authority that issued the certificate of this server, as PEM.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Returns a builder of a store that trusts this server.
    pub fn builder(&self, auth: ClientAuth) -> IntrospectionBuilder {
        let builder = IntrospectionStore::builder(auth);
        match &self.root {
            Some(root) => builder.with_root_certificates(root.clone()),
            None => builder.allow_http_to_loopback(),
        }
    }

    /// Issues a token of the client `ci` with the scopes `read` and `write`.
    pub async fn token(&self) -> String {
        self.token_with(&[("scope", "read write")]).await
    }

    /// Issues a token of the client `ci` with these form fields.
    pub async fn token_with(&self, fields: &[(&str, &str)]) -> String {
        self.issue("client_credentials", fields).await
    }

    /// Issues a token of the client `ci` with a user as its subject.
    pub async fn user_token(&self, fields: &[(&str, &str)]) -> String {
        self.issue("urn:example:user", fields).await
    }

    pub async fn revoke(&self, token: &str) {
        self.post(self.paths.revocation, &[("token", token)]).await;
    }

    /// Returns all requests since the last call.
    pub async fn logged_requests(&self) -> Vec<LoggedRequest> {
        self.logged_requests_with("").await
    }

    /// Suspends the server. The kernel keeps its connections open and accepts new ones, but no
    /// request gets a response.
    pub fn suspend(&self) {
        self.process.lock().unwrap().signal("STOP");
    }

    pub fn resume(&self) {
        self.process.lock().unwrap().signal("CONT");
    }

    async fn logged_requests_with(&self, query: &str) -> Vec<LoggedRequest> {
        let request = Request::get(format!("{}/{query}", self.log));
        let body = self.send(request.body(Full::default()).unwrap()).await;
        serde_json::from_slice(&body).unwrap()
    }

    async fn issue(&self, grant: &str, fields: &[(&str, &str)]) -> String {
        let form = [&[("grant_type", grant)], fields].concat();
        let response = self.post(self.paths.token, &form).await;
        let response: Value = serde_json::from_slice(&response).unwrap();
        response["access_token"].as_str().unwrap().to_owned()
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Bytes {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("client_id", "ci"), ("client_secret", "ci-secret")])
            .extend_pairs(form)
            .finish();
        let request = Request::post(format!("{}{path}", self.issuer))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(form))
            .unwrap();
        self.send(request).await
    }

    // Creates a client for each request, because tests with different runtimes share the server.
    async fn send(&self, request: Request<Full<Bytes>>) -> Bytes {
        let mut roots = RootCertStore::empty();
        if let Some(root) = &self.root {
            let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
            roots.add(root).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        let response = client.request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, StatusCode::OK, "{body:?}");
        body
    }
}
