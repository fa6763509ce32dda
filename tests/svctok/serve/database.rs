//! The connections to PostgreSQL, and a server that refuses them.

use std::time::Instant;

use futures::future::join_all;
use sqlx::{Connection, PgConnection, Row};
use test_support::postgres::Stop;

use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node, NodeProcess, poll_interval};
use crate::store_fixture::StoreFixture;

/// The sessions of the node.
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
    // One more listens. A session that was closed ends a little later.
    let begun = Instant::now();
    while sessions(&fixture).await > 3 {
        assert!(begun.elapsed() < NODE_TIMEOUT, "too many sessions");
        poll_interval().await;
    }
    node.stop().await;
}

pub(crate) async fn database_connections_are_for_postgres(fixture: StoreFixture) {
    let started = NodeProcess::start(&fixture, &["--database-connections", "2"]);
    let ended = started.wait().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("--database-connections is for a postgres:// store"),
        "{ended:?}"
    );
    for number in ["0", "1001", "-1", "ten"] {
        let started = NodeProcess::start(&fixture, &["--database-connections", number]);
        assert_eq!(started.wait().await.code, Some(2), "{number}");
    }
}

/// The reason is in the log, and the response comes at once.
pub(crate) async fn refused_connections_are_logged_with_their_reason(fixture: StoreFixture) {
    let (mut node, token) = Node::bootstrap(&fixture, &[]).await;
    fixture.server().stop(Stop::Fast);
    let list = HttpRequest::get("/service-tokens").with_key(&token);
    let begun = Instant::now();
    // The token is cached at first.
    while node.send(&list).await.status != 503 {
        assert!(begun.elapsed() < NODE_TIMEOUT, "no failure");
        poll_interval().await;
    }
    node.wait_for_log("Connection refused").await;
    fixture.server().start();
    while node.send(&list).await.status != 200 {
        assert!(begun.elapsed() < NODE_TIMEOUT, "no recovery");
        poll_interval().await;
    }
    let ended = node.stop().await;
    for timeout in ["no connection in time", "timed out"] {
        assert!(!ended.stderr.contains(timeout), "{}", ended.stderr);
    }
}
