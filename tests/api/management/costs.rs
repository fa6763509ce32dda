//! What the largest requests cost: 16 times the bytes take about 16 times as long, and not 256 times.

use std::fmt::Write;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use serde_json::json;
use tower::ServiceExt;

use crate::management::{ManagementAnswer, Server};

/// The bytes of a small request, and of one of almost the 64 KiB that are accepted.
const SMALL: usize = 4_000;
const LARGE: usize = 64_000;

/// How often each is measured; the fastest counts.
const RUNS: usize = 10;

/// How often a ratio is measured again that other processes may have spoiled. No luck makes a
/// quadratic one linear.
const ATTEMPTS: usize = 5;

/// The most that a large request may take, as a multiple of a small one: 16 is linear, 256 quadratic.
const MAX_RATIO: u32 = 80;

/// What is too short to be compared.
const SHORTEST: Duration = Duration::from_micros(500);

type Text = fn(usize) -> String;

/// Bodies with a list of `bytes` bytes.
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
    /// The shortest time in which this request is answered with this status.
    async fn shortest(&self, build: impl Fn() -> Request<Body>, status: u16) -> Duration {
        let mut shortest = Duration::MAX;
        for _ in 0..RUNS {
            let request = build();
            let begun = Instant::now();
            let response = self.app.clone().oneshot(request).await.unwrap();
            shortest = shortest.min(begun.elapsed());
            assert_eq!(response.status(), status);
        }
        shortest
    }

    /// Asserts that the request of the small size and that of the large one differ by a linear
    /// factor.
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

/// One test, so that no part disturbs another.
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
        let (mut text, mut place) = (String::new(), 0);
        while text.len() < bytes {
            write!(text, "{}=&", name(place)).unwrap();
            place += 1;
        }
        text
    };
    let names: [(&str, Text); 2] = [
        ("distinct parameters", |place| format!("p{place}")),
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
        let answer = server.send(server.request("POST ", None, body)).await;
        let pointers = answer.pointers();
        assert!((1..=100).contains(&pointers.len()), "{}", pointers.len());
        assert!(answer.body.len() < 16_000, "{}", answer.body.len());
    }
    // What is too long is not compared with what was created, nor item by item.
    for key in [None, Some("key")] {
        let body = json!({ "name": "x", "roles": vec![""; 101], "scopes": vec![""; 100] });
        let answer = server.send(server.request("POST ", key, body.to_string()));
        assert_eq!(answer.await.pointers(), ["/roles"]);
    }
}
