//! Whether a node says that it can be asked.

use std::time::{Duration, Instant};

use crate::node::{Node, PATIENCE, pause};
use crate::place::Place;
use crate::postgres::Stop;
use crate::stall::Stopwatch;
use crate::wire::Call;

/// What `/readyz` may take at most, on a busy machine.
const BOUND: Duration = Duration::from_secs(5);

async fn becomes(node: &Node, status: u16) {
    let begun = Instant::now();
    loop {
        let asked = Stopwatch::start();
        let answer = node.send(&Call::get("/readyz")).await;
        let took = asked.unstalled();
        assert!(took < BOUND, "{took:?}");
        node.send(&Call::get("/healthz")).await.assert(200);
        if answer.status == status {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", answer.status);
        pause().await;
    }
}

pub(crate) async fn a_node_is_ready_while_its_store_can_be_asked(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    node.send(&Call::get("/readyz")).await.assert(200);
    place.server().stop(Stop::Fast);
    becomes(&node, 503).await;
    let create = Call::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&token);
    let answer = node.send(&create).await.assert(503);
    assert!(answer.header("retry-after").is_some());
    place.server().start();
    becomes(&node, 200).await;
    node.send(&create).await.assert(201);

    place.server().freeze();
    becomes(&node, 503).await;
    place.server().thaw();
    becomes(&node, 200).await;
    node.stop().await;
}
