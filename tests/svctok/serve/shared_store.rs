//! Two nodes on one store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::stall::Stopwatch;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http1::{self, HttpRequest};
use crate::node::{NODE_TIMEOUT, Node, poll_interval};
use crate::store_fixture::StoreFixture;

const TOKENS: usize = 20;
const CLIENTS: usize = 8;
const CREATED_BEFORE_KILL: usize = 100;

pub(crate) async fn changes_reach_the_other_node(fixture: StoreFixture) {
    let (a, administrator) = Node::bootstrap(&fixture, &[]).await;
    let b = Node::start(&fixture, &[]).await;
    let mut longest = Duration::ZERO;
    let mut promised = 0;
    for number in 0..TOKENS {
        let body = json!({"name": format!("token-{number}"), "roles": ["deployer"]});
        let create =
            HttpRequest::post("/service-tokens", &body.to_string()).with_key(&administrator);
        let created = a.send(&create).await.assert(201);
        let (token, id) = (created.text("/token"), created.text("/service_token/id"));
        let verify = HttpRequest::get("/verify?role=deployer").with_key(&token);
        b.send(&verify).await.assert(200);

        let revoke = HttpRequest::new("DELETE", &format!("/service-tokens/{id}"));
        let revoked = a.send(&revoke.with_key(&administrator)).await.assert(204);
        let since = (Instant::now(), Stopwatch::start());
        let within = revoked.header("service-token-effective-within").unwrap();
        promised = within.parse().unwrap();
        a.send(&verify).await.assert(401);
        while b.send(&verify).await.status != 401 {
            assert!(
                since.0.elapsed() < NODE_TIMEOUT,
                "the token is still accepted"
            );
            poll_interval().await;
        }
        longest = longest.max(since.1.elapsed_without_stalls());
        b.send(&verify).await.assert(401);
    }
    fixture.report(&format!(
        "{TOKENS} tokens revoked on node a, rejected on node b within {longest:.1?}; promised: {promised} s"
    ));
    assert!(longest <= Duration::from_secs(promised), "{longest:?}");
    a.stop().await;
    b.stop().await;
}

/// Creates tokens until the node is killed. Returns the acknowledged tokens by name, and the number of
/// requests.
async fn create_until_killed(
    mut stream: TcpStream,
    administrator: String,
    client: usize,
    acknowledged: Arc<AtomicUsize>,
) -> (BTreeMap<String, String>, usize) {
    let mut created = BTreeMap::new();
    for number in 0.. {
        let name = format!("{client}-{number}");
        let create = HttpRequest::post("/service-tokens", &body(&name).to_string());
        let bytes = create.with_key(&administrator).bytes();
        let Ok(response) = http1::exchange(&mut stream, &bytes).await else {
            return (created, number + 1);
        };
        created.insert(name, response.assert(201).text("/token"));
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    unreachable!("the range is unbounded")
}

/// Returns a creation body whose values the store keeps in several tables.
fn body(name: &str) -> Value {
    json!({
        "name": name,
        "roles": ["deployer", "auditor"],
        "scopes": ["builds:read", "builds:write"],
        "labels": {"team": "a", "name": name},
    })
}

/// Lists all tokens page by page. Returns them by name.
async fn list_all(node: &Node, administrator: &str) -> BTreeMap<String, Value> {
    let mut listed = BTreeMap::new();
    let mut target = "/service-tokens?limit=50".to_owned();
    loop {
        let page = node
            .send(&HttpRequest::get(&target).with_key(administrator))
            .await;
        let page = page.assert(200).json();
        for token in page["service_tokens"].as_array().unwrap() {
            let name = token["name"].as_str().unwrap().to_owned();
            let duplicate = listed.insert(name, token.clone());
            assert!(duplicate.is_none(), "{duplicate:?}");
        }
        match page["next_cursor"].as_str() {
            None => return listed,
            Some(cursor) => target = format!("/service-tokens?limit=50&cursor={cursor}"),
        }
    }
}

pub(crate) async fn killed_node_loses_no_acknowledged_change(fixture: StoreFixture) {
    let (a, administrator) = Node::bootstrap(&fixture, &[]).await;
    let b = Node::start(&fixture, &[]).await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let count = Arc::clone(&acknowledged);
        let stream = TcpStream::connect(a.address).await.unwrap();
        clients.spawn(create_until_killed(
            stream,
            administrator.clone(),
            client,
            count,
        ));
    }
    let started_at = Instant::now();
    while acknowledged.load(Ordering::SeqCst) < CREATED_BEFORE_KILL {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "too few tokens are created"
        );
        poll_interval().await;
    }
    a.kill();
    let mut created = BTreeMap::new();
    let mut requested = 0;
    for (acknowledged, number) in clients.join_all().await {
        created.extend(acknowledged);
        requested += number;
    }
    assert!(created.len() >= CREATED_BEFORE_KILL);
    assert_eq!(
        requested,
        created.len() + CLIENTS,
        "each client has one request in flight"
    );

    let target = "/verify?role=deployer&role=auditor&scope=builds:read&scope=builds:write";
    for token in created.values() {
        b.send(&HttpRequest::get(target).with_key(token))
            .await
            .assert(200);
    }
    let mut stored = list_all(&b, &administrator).await;
    stored.remove("administrator").unwrap();
    for (name, token) in &stored {
        for (field, value) in body(name).as_object().unwrap() {
            let names = |value: &Value| -> Option<BTreeSet<String>> {
                let names = value.as_array()?.iter();
                Some(names.map(ToString::to_string).collect())
            };
            match names(value) {
                None => assert_eq!(&token[field], value, "{token}"),
                value => assert_eq!(names(&token[field]), value, "{token}"),
            }
        }
        assert_eq!(token["state"], "active");
    }
    assert!(created.keys().all(|name| stored.contains_key(name)));
    let unacknowledged = stored.len() - created.len();
    fixture.report(&format!(
        "killed after {} acknowledged creations: none lost, {unacknowledged} of {CLIENTS} in flight stored",
        created.len()
    ));
    assert!(unacknowledged <= CLIENTS);

    let restarted = Node::start(&fixture, &[]).await;
    assert_eq!(
        list_all(&restarted, &administrator).await.len(),
        stored.len() + 1
    );
    let create = HttpRequest::post("/service-tokens", &body("after").to_string());
    let after = restarted
        .send(&create.with_key(&administrator))
        .await
        .assert(201);
    let verify = HttpRequest::get(target).with_key(&after.text("/token"));
    b.send(&verify).await.assert(200);
    assert_eq!(restarted.stop().await.stdout, "");
    b.stop().await;
}
