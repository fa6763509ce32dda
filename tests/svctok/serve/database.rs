//! Connections to PostgreSQL: their limit, and a server that refuses them.

use std::time::Instant;

use futures::future::join_all;
use sqlx::{Connection, PgConnection, Row};
use test_support::postgres::Stop;

use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node, NodeProcess, poll_interval};
use crate::store_fixture::StoreFixture;

/// Returns the number of PostgreSQL sessions of the node.
async fn sessions(fixture: &StoreFixture) -> i64 {
    let mut connection = PgConnection::connect(&fixture.store).await.unwrap();
    let row = sqlx::query(
        "SELECT COUNT(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let count = row.fetch_one(&mut connection).await.unwrap().get(0);
    connection.close().await.unwrap();
    count
}

pub(crate) async fn database_connections_limit_the_sessions(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &["--database-connections", "2"]).await;
    let lists = (0..40).map(|_| async {
        let list = HttpRequest::get("/service-tokens").with_key(&token);
        node.send(&list).await.assert(200);
    });
    join_all(lists).await;
    // The change feed uses one more session. PostgreSQL ends closed sessions with a delay.
    let started_at = Instant::now();
    while sessions(&fixture).await > 3 {
        assert!(started_at.elapsed() < NODE_TIMEOUT, "too many sessions");
        poll_interval().await;
    }
    node.stop().await;
}

pub(crate) async fn database_connections_flag_requires_postgres(fixture: StoreFixture) {
    let started = NodeProcess::start(&fixture, &["--database-connections", "2"]);
    let output = started.wait().await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(
        output
            .stderr
            .contains("--database-connections is for a postgres:// store"),
        "{output:?}"
    );
    for number in ["0", "1001", "-1", "ten"] {
        let started = NodeProcess::start(&fixture, &["--database-connections", number]);
        assert_eq!(started.wait().await.code, Some(2), "{number}");
    }
}

/// The log names the reason, and no request waits for a timeout.
pub(crate) async fn refused_connections_are_logged_with_their_reason(fixture: StoreFixture) {
    let (mut node, token) = Node::bootstrap(&fixture, &[]).await;
    fixture.server().stop(Stop::Fast);
    let list = HttpRequest::get("/service-tokens").with_key(&token);
    let started_at = Instant::now();
    // The first responses come from the cache.
    while node.send(&list).await.status != 503 {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the node still reads the store"
        );
        poll_interval().await;
    }
    node.wait_for_log("Connection refused").await;
    fixture.server().start();
    while node.send(&list).await.status != 200 {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the node does not recover"
        );
        poll_interval().await;
    }
    let output = node.stop().await;
    for timeout in ["no connection in time", "timed out"] {
        assert!(!output.stderr.contains(timeout), "{}", output.stderr);
    }
}
