//! The time to process a request is linear in its size: 16 times the bytes take about 16 times as
//! long, not 256 times.

use std::fmt::Write;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use serde_json::json;
use tower::ServiceExt;

use crate::management::{ManagementResponse, Server};

/// The size in bytes of a small request, and of one just below the limit of 64 KiB.
const SMALL: usize = 4_000;
const LARGE: usize = 64_000;

/// Measurements per request. The fastest one counts.
const RUNS: usize = 10;

/// Attempts to measure a linear ratio. Other processes may disturb a measurement, but repeating it
/// cannot make a quadratic cost look linear.
const ATTEMPTS: usize = 5;

/// The longest time that a large request may take, as a multiple of a small one. A linear cost
/// gives 16, a quadratic cost 256.
const MAX_RATIO: u32 = 80;

/// Times below this are too short to compare and count as this.
const SHORTEST: Duration = Duration::from_micros(500);

type Text = fn(usize) -> String;

/// Requests whose body has a list of `bytes` bytes: name, call, body, status.
const BODIES: [(&str, &str, Text, u16); 8] = [
    (
        "distinct roles",
        "POST ",
        |bytes| list("roles", bytes, |n| format!("r{n}")),
        422,
    ),
    (
        "distinct scopes",
        "POST ",
        |bytes| list("scopes", bytes, |n| format!("a:{n}")),
        422,
    ),
    (
        "bad roles",
        "POST ",
        |bytes| list("roles", bytes, |_| String::new()),
        422,
    ),
    ("labels", "POST ", labels, 422),
    ("unknown members", "POST ", unknown_members, 422),
    (
        "roles of an update",
        "PATCH /{id}",
        |bytes| list("roles", bytes, |n| format!("r{n}")),
        422,
    ),
    (
        "scopes of an update",
        "PATCH /{id}",
        |bytes| list("scopes", bytes, |n| format!("a:{n}")),
        422,
    ),
    ("labels of an update", "PATCH /{id}", labels, 422),
];

fn list(member: &str, bytes: usize, name: impl Fn(usize) -> String) -> String {
    let (mut names, mut length) = (Vec::new(), 0);
    while length < bytes {
        let name = name(names.len());
        length += name.len() + 3;
        names.push(name);
    }
    json!({ "name": "x", member: names }).to_string()
}

fn labels(bytes: usize) -> String {
    let mut text = r#"{"name":"x","labels":{"":"""#.to_owned();
    while text.len() < bytes {
        let key = text.len();
        write!(text, ",\"{key}\":\"v\"").unwrap();
    }
    text + "}}"
}

fn unknown_members(bytes: usize) -> String {
    let mut text = r#"{"name":"x""#.to_owned();
    while text.len() < bytes {
        let key = text.len();
        write!(text, ",\"~/{key}\":1").unwrap();
    }
    text + "}"
}

impl Server {
    /// Measures the shortest time in which the request gets this status.
    async fn shortest(&self, build: impl Fn() -> Request<Body>, status: u16) -> Duration {
        let mut shortest = Duration::MAX;
        for _ in 0..RUNS {
            let request = build();
            let start = Instant::now();
            let response = self.app.clone().oneshot(request).await.unwrap();
            shortest = shortest.min(start.elapsed());
            assert_eq!(response.status(), status);
        }
        shortest
    }

    /// Asserts that the times of a small and a large request differ by at most a linear factor.
    async fn assert_linear(&self, name: &str, build: impl Fn(usize) -> Request<Body>, status: u16) {
        let mut times = Vec::new();
        for _ in 0..ATTEMPTS {
            let small = self.shortest(|| build(SMALL), status).await;
            let large = self.shortest(|| build(LARGE), status).await;
            if large <= small.max(SHORTEST) * MAX_RATIO {
                println!("{name}: {small:.1?}, {large:.1?}");
                return;
            }
            times.push((small, large));
        }
        panic!("{name}: {times:.1?}");
    }

    fn request(&self, call: &str, key: Option<&str>, body: String) -> Request<Body> {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/service-tokens{path}"))
            .header("x-api-key", self.admin.expose_secret())
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.body(Body::from(body)).unwrap()
    }
}

/// One test, because concurrent tests would disturb each other's measurements.
#[tokio::test]
async fn request_cost_is_linear_in_its_size() {
    let server = Server::new().await;
    large_bodies_cost_linear_time(&server).await;
    long_queries_cost_linear_time(&server).await;
}

async fn large_bodies_cost_linear_time(server: &Server) {
    let (id, _) = server
        .create(json!({ "name": "ci", "roles": ["r0"] }))
        .await;
    let used = server.request("POST ", Some("used"), r#"{"name":"x"}"#.to_owned());
    assert_eq!(server.send(used).await.status, 201);
    for (name, call, body, status) in BODIES {
        let call = call.replace("{id}", &id);
        for key in [None, Some("used")] {
            if key.is_some() && !call.starts_with("POST") {
                continue;
            }
            let build = |bytes| server.request(&call, key, body(bytes));
            let name = format!("{name}, key {key:?}");
            server.assert_linear(&name, build, status).await;
        }
    }
}

async fn long_queries_cost_linear_time(server: &Server) {
    let parameters = |bytes: usize, name: fn(usize) -> String| {
        let (mut text, mut index) = (String::new(), 0);
        while text.len() < bytes {
            write!(text, "{}=&", name(index)).unwrap();
            index += 1;
        }
        text
    };
    let names: [(&str, Text); 2] = [
        ("distinct parameters", |index| format!("p{index}")),
        ("last_admin", |_| "last_admin".to_owned()),
    ];
    for (name, parameter) in names {
        for (call, status) in [("GET ", 422), ("DELETE /7Hq2mX9bTe", 400)] {
            let status = if name == "last_admin" { 400 } else { status };
            let build = |bytes| {
                let call = format!("{call}?{}", parameters(bytes, parameter));
                server.request(&call, None, String::new())
            };
            let name = format!("{name} of {call}");
            server.assert_linear(&name, build, status).await;
        }
    }
}

#[tokio::test]
async fn errors_name_at_most_100_problems() {
    let server = Server::new().await;
    for body in [unknown_members(LARGE), labels(LARGE)] {
        let response = server.send(server.request("POST ", None, body)).await;
        let pointers = response.pointers();
        assert!((1..=100).contains(&pointers.len()), "{}", pointers.len());
        assert!(response.body.len() < 16_000, "{}", response.body.len());
    }
    // A list that is too long gets one error, not one per item, and is not compared with an earlier
    // creation.
    for key in [None, Some("key")] {
        let body = json!({ "name": "x", "roles": vec![""; 101], "scopes": vec![""; 100] });
        let response = server.send(server.request("POST ", key, body.to_string()));
        assert_eq!(response.await.pointers(), ["/roles"]);
    }
}
