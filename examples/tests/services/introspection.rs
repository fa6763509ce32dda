//! Runs the example `introspection` as a process, configured by its environment.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::{FutureExt, LocalBoxFuture};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use libtest_mimic::Trial;
use serde_json::Value;
use test_support::authorization_server::clients::{API, POSTER, SPECIAL};
use test_support::authorization_server::deployment::Deployment;
use test_support::authorization_server::peer::{DJANGO, OIDC_PROVIDER};
use test_support::authorization_server::run_on;
use test_support::authorization_server::server::{OPAQUE_API, TrackedServer};
use test_support::authorization_server::wait_until;
use test_support::optional_trial::optional_trial;
use test_support::port::ReservedPort;
use test_support::process::{Process, example};

type Run = fn(Arc<Deployment>) -> LocalBoxFuture<'static, ()>;

/// Lists functions `async fn(Arc<Deployment>)` with their names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        vec![$((stringify!($name), (|deployment| $name(deployment).boxed_local()) as Run)),+]
    };
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (peer, peer_tests) in [(&OIDC_PROVIDER, on_oidc_provider()), (&DJANGO, on_django())] {
        let [plain, tls] = match Deployment::plain_and_tls(peer) {
            Ok(deployments) => deployments.map(Ok),
            Err(reason) => [Err(reason.clone()), Err(reason)],
        };
        for (scheme, deployment) in [("plain", plain), ("tls", tls)] {
            for &(name, test) in on_each().iter().chain(&peer_tests) {
                let name = format!("introspection::{}::{scheme}::{name}", peer.name);
                let (deployment, reason) = (deployment.clone(), deployment.as_ref().err());
                trials.push(optional_trial(reason, name, move || {
                    run_on(deployment?, test)
                }));
            }
        }
    }
    trials
}

/// Returns the tests that run with each authorization server.
fn on_each() -> Vec<(&'static str, Run)> {
    tests![
        every_client_authentication_method_succeeds,
        example_responds_as_documented,
        discovers_the_endpoint,
        configured_ttl_applies,
        wrong_secret_is_503_and_logged,
    ]
}

fn on_oidc_provider() -> Vec<(&'static str, Run)> {
    tests![
        configured_audience_and_roles_apply,
        recovers_from_a_server_restart,
    ]
}

fn on_django() -> Vec<(&'static str, Run)> {
    tests![bearer_authentication_succeeds]
}

async fn every_client_authentication_method_succeeds(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    for (auth, client) in [
        (None, API),
        (Some("basic"), SPECIAL),
        (Some("basic-raw"), API),
        (Some("post"), POSTER),
    ] {
        let auth = auth.map(|auth| ("INTROSPECTION_AUTH", auth));
        let service = Service::start(&deployment, &server, client, auth.as_slice());
        let (status, _) = service.get("/whoami", Some(("x-api-key", &token))).await;
        assert_eq!(status, 200, "{auth:?}");
    }
}

async fn bearer_authentication_succeeds(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let own_token = server.token_with(&[("scope", "introspection")]).await;
    let bearer = [("INTROSPECTION_AUTH", "bearer")];
    let service = Service::start(&deployment, &server, ["", &own_token], &bearer);
    let header = format!("Bearer {}", server.token().await);
    let (status, body) = service
        .get("/write", Some(("authorization", &header)))
        .await;
    assert_eq!((status, &*body), (200, "ci may write\n"));
}

async fn example_responds_as_documented(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = Service::start(&deployment, &server, API, &[]);
    let writer = server.token().await;
    for (name, scheme) in [
        ("authorization", "Bearer "),
        ("authorization", "ApiKey "),
        ("x-api-key", ""),
    ] {
        let caller = service.whoami(name, &format!("{scheme}{writer}")).await;
        assert_eq!(caller["subject"], "ci");
        assert_eq!(caller["scopes"], serde_json::json!(["read", "write"]));
        let expires_at: Timestamp = caller["expires_at"].as_str().unwrap().parse().unwrap();
        assert!(SystemTime::from(expires_at) > SystemTime::now());
    }

    let reader = server.token_with(&[("scope", "read")]).await;
    let long = format!("eyJhbGciOiJub25lIn0.{}.", "e30".repeat(1000));
    for (path, token, expected) in [
        ("/write", Some(&*writer), 200),
        ("/write", Some(&*reader), 403),
        ("/whoami", Some(&*long), 401),
        ("/whoami", Some("unknown"), 401),
        ("/whoami", None, 401),
        ("/healthz", None, 200),
    ] {
        let header = token.map(|token| ("x-api-key", token));
        let (status, body) = service.get(path, header).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
}

async fn configured_audience_and_roles_apply(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let rules = [
        ("INTROSPECTION_ROLE_CLAIM", "realm_access.roles"),
        ("INTROSPECTION_AUDIENCE", OPAQUE_API),
        ("INTROSPECTION_ISSUER", server.issuer()),
    ];
    let service = Service::start(&deployment, &server, API, &rules);
    let own_token = server.token_with(&[("resource", OPAQUE_API)]).await;
    let caller = service.whoami("x-api-key", &own_token).await;
    assert_eq!(caller["roles"], serde_json::json!(["operator", "auditor"]));
    let other_token = server.token().await;
    let (status, body) = service
        .get("/whoami", Some(("x-api-key", &other_token)))
        .await;
    assert_eq!(status, 401, "{body}");
}

async fn discovers_the_endpoint(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let issuer = [
        ("INTROSPECTION_URL", ""),
        ("INTROSPECTION_ISSUER", server.issuer()),
    ];
    let service = Service::start(&deployment, &server, API, &issuer);
    let caller = service.whoami("x-api-key", &server.token().await).await;
    assert_eq!(caller["subject"], "ci");
}

async fn configured_ttl_applies(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    for (ttl, expected) in [("0", 3), ("600000", 1)] {
        let ttl = [("INTROSPECTION_TTL_MS", ttl)];
        let service = Service::start(&deployment, &server, API, &ttl);
        let token = server.token().await;
        for token in [&*token, "unknown"] {
            for _ in 0..3 {
                service.get("/whoami", Some(("x-api-key", token))).await;
            }
            assert_eq!(server.calls().await, expected, "{ttl:?}");
        }
    }
}

async fn wrong_secret_is_503_and_logged(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let client = [API[0], "wrong-secret"];
    let service = Service::start(&deployment, &server, client, &[]);
    let token = server.token().await;
    let (status, body) = service.get("/whoami", Some(("x-api-key", &token))).await;
    assert_eq!(status, 503, "{body}");
    assert!(!body.contains("credentials"), "{body}");

    service.process.signal("TERM");
    let output = service.process.finish();
    assert!(output.status.success(), "{}", output.status);
    assert!(output.stderr.starts_with("503: "), "{}", output.stderr);
    let reason = "rejects the client credentials";
    assert!(output.stderr.contains(reason), "{}", output.stderr);
    for secret in ["wrong-secret", &*token] {
        assert!(!output.stderr.contains(secret), "{}", output.stderr);
    }
}

async fn recovers_from_a_server_restart(deployment: Arc<Deployment>) {
    let port = ReservedPort::new();
    let server = deployment.start_on(&port);
    let without_cache = [("INTROSPECTION_TTL_MS", "0")];
    let service = Service::start(&deployment, &server.tracked(), API, &without_cache);
    let status = async |token: &str| {
        let header = Some(("x-api-key", token));
        service.get("/whoami", header).await.0
    };
    let token = server.token().await;
    assert_eq!(status(&token).await, 200);
    drop(server);
    assert_eq!(status(&token).await, 503);
    let server = deployment.start_on(&port);
    let token = server.token().await;
    wait_until(async || status(&token).await == 200).await;
}

/// The running example.
struct Service {
    process: Process,
    url: String,
}

impl Service {
    fn start(
        deployment: &Deployment,
        server: &TrackedServer<'_>,
        [id, secret]: [&str; 2],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = example("introspection");
        command
            .env("PORT", "0")
            .env("INTROSPECTION_URL", server.endpoint())
            .env("INTROSPECTION_CLIENT_ID", id)
            .env("INTROSPECTION_CLIENT_SECRET", secret)
            .envs(variables.iter().copied());
        match deployment.root_file() {
            Some(path) => command.env("INTROSPECTION_CA", path),
            None => command.env("INTROSPECTION_ALLOW_HTTP", "1"),
        };
        let mut process = Process::spawn(&mut command);
        let line = process.line();
        let url = line.strip_prefix("listening on ").expect(&line).to_owned();
        Self { process, url }
    }

    async fn whoami(&self, header: &str, value: &str) -> Value {
        let (status, body) = self.get("/whoami", Some((header, value))).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn get(&self, path: &str, header: Option<(&str, &str)>) -> (u16, String) {
        let mut request = Request::get(format!("{}{path}", self.url));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let request = request.body(Empty::new()).unwrap();
        let response = client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
