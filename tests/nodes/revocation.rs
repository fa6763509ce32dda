//! A change on one node reaches the others: at once through the change feed, and within the TTL
//! without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use test_support::stall::Stopwatch;
use tower_service_token::token::TokenFormat;

use crate::database::TestDatabase;
use crate::node::{Measurements, Node, TIMEOUT, Token, pause};
use crate::process_config::{ProcessConfig, Role};

const TOKENS: usize = 25;

/// The longest accepted delay, which is far below the TTL of 30 s.
fn bound(database: &TestDatabase) -> Duration {
    // A node polls SQLite every 250 ms.
    Duration::from_secs(if database.is_postgres() { 5 } else { 2 })
}

async fn start_two_nodes(database: &TestDatabase) -> (Node, Node) {
    let nodes = (
        Node::start(database, "a").await,
        Node::start(database, "b").await,
    );
    if database.is_postgres() {
        let tables = database.tables().await;
        tables.wait_for_listener("a").await;
        tables.wait_for_listener("b").await;
    }
    nodes
}

pub(crate) async fn revocation_reaches_other_nodes_within_the_bound(database: TestDatabase) {
    let (mut a, mut b) = start_two_nodes(&database).await;
    let mut times = Measurements::default();
    let mut reported = Duration::ZERO;
    for number in 0..TOKENS {
        let token = a.create_and_cache(&mut b, &format!("token-{number}")).await;
        reported = a.revoke(&token).await;
        let acknowledged = Stopwatch::start();
        a.client.assert_status(&token.secret, 401).await;
        times.add(
            b.client
                .time_until_rejected(&token.secret, acknowledged)
                .await,
        );
    }
    database.report(&format!(
        "revoked on a, rejected on b, {}; reported bound {reported:?}",
        times.summary()
    ));
    assert!(times.max() < bound(&database) && times.max() <= reported);
}

pub(crate) async fn role_and_state_changes_reach_other_nodes_within_the_bound(
    database: TestDatabase,
) {
    let (mut a, mut b) = start_two_nodes(&database).await;
    let [mut roles, mut disabled, mut enabled, mut rotated] =
        std::array::from_fn(|_| Measurements::default());
    for number in 0..5 {
        let token = a.create_and_cache(&mut b, &format!("token-{number}")).await;
        let Token { id, secret } = &token;
        a.run(&format!("roles {id} writer,auditor")).await;
        let changed = Stopwatch::start();
        let expected = (200, "writer,auditor");
        a.client
            .time_until_response(secret, expected, changed)
            .await;
        roles.add(
            b.client
                .time_until_response(secret, expected, changed)
                .await,
        );

        a.run(&format!("disable {id}")).await;
        disabled.add(
            b.client
                .time_until_rejected(secret, Stopwatch::start())
                .await,
        );
        a.run(&format!("enable {id}")).await;
        enabled.add(
            b.client
                .time_until_response(secret, (200, ""), Stopwatch::start())
                .await,
        );

        let new = a.run(&format!("rotate {id} 0")).await;
        let changed = Stopwatch::start();
        b.client.assert_status(&new, 200).await;
        rotated.add(b.client.time_until_rejected(secret, changed).await);
    }
    for (change, times) in [
        ("roles updated", roles),
        ("disabled", disabled),
        ("enabled", enabled),
        ("rotated", rotated),
    ] {
        database.report(&format!("{change} on a, applied on b, {}", times.summary()));
        assert!(times.max() < bound(&database), "{change}");
    }
}

pub(crate) async fn import_replaces_negative_entries_on_other_nodes(database: TestDatabase) {
    let (mut a, b) = start_two_nodes(&database).await;
    let mut times = Measurements::default();
    for number in 0..5 {
        let token = if number % 2 == 0 {
            unknown_token()
        } else {
            format!("imported-{number}-{}", unknown_token())
        };
        // Both nodes cache for 10 s that the token is unknown.
        for node in [&a, &b] {
            node.client.assert_status(&token, 401).await;
        }
        a.run(&format!("import imported reader {token}")).await;
        let imported = Stopwatch::start();
        a.client.assert_status(&token, 200).await;
        times.add(
            b.client
                .time_until_response(&token, (200, "reader"), imported)
                .await,
        );
    }
    database.report(&format!(
        "imported on a, accepted on b, {}",
        times.summary()
    ));
    assert!(times.max() < bound(&database));
}

/// PostgreSQL rejects new connections only, so the stores work and cannot reopen their feeds.
pub(crate) async fn without_feed_revocation_applies_within_ttl(database: TestDatabase) {
    const TTL: Duration = Duration::from_secs(2);
    const SLACK: Duration = Duration::from_secs(1);
    // A store opens ten connections for queries and one for the feed.
    const CONNECTIONS: i64 = 11;

    let (mut a, mut long_ttl_node) = start_two_nodes(&database).await;
    let config = ProcessConfig::new(Role::Server, &database.store("short-ttl")).with_ttl(TTL);
    let mut short_ttl_node = Node::start_with(config).await;
    let tables = database.tables().await;
    tables.wait_for_listener("short-ttl").await;
    // Opens every connection of each pool, because no new connection is possible later.
    for (node, name) in [
        (&a, "a"),
        (&long_ttl_node, "b"),
        (&short_ttl_node, "short-ttl"),
    ] {
        while tables.connections(name).await < CONNECTIONS {
            let requests = (0..20).map(|_| async { node.client.get(&unknown_token()).await });
            futures::future::join_all(requests).await;
        }
    }
    allow_connections(&database, false).await;
    for name in ["b", "short-ttl"] {
        assert_eq!(tables.terminate_listener(name).await, 1);
    }
    let started = Instant::now();
    let (tokens, revoked) = loop {
        let mut tokens = Vec::new();
        for number in 0..5 {
            tokens.push(a.create(&format!("token-{number}")).await);
        }
        long_ttl_node.wait_until_cached_stably(&tokens).await;
        let first_request = Instant::now();
        short_ttl_node.wait_until_cached_stably(&tokens).await;
        let mut revoked = Vec::new();
        for token in &tokens {
            let reported = a.revoke(token).await;
            assert!(TTL <= reported);
            revoked.push((token.secret.clone(), Stopwatch::start()));
        }
        // On a slow machine the entries would expire soon, so the round is repeated.
        if first_request.elapsed() < TTL / 2 {
            break (tokens, revoked);
        }
        assert!(started.elapsed() < TIMEOUT, "the machine is too slow");
    };
    let last = tokens.last().unwrap();
    long_ttl_node.client.assert_status(&last.secret, 200).await;
    let checks = revoked
        .iter()
        .map(|(secret, since)| short_ttl_node.client.time_until_rejected(secret, *since));
    let mut times = Measurements::default();
    for time in futures::future::join_all(checks).await {
        times.add(time);
    }
    database.report(&format!(
        "feed down, TTL {TTL:?}: rejected on short-ttl, {}",
        times.summary()
    ));
    assert!(times.max() <= TTL + SLACK);
    assert!(times.max() > TTL / 4, "the feed was not down");
    // The other node got no notification either, and its TTL is 30 s.
    long_ttl_node.client.assert_status(&last.secret, 200).await;

    allow_connections(&database, true).await;
    let allowed = Stopwatch::start();
    let time = long_ttl_node
        .client
        .time_until_rejected(&last.secret, allowed)
        .await;
    database.report(&format!(
        "feed reconnected: missed changes applied after {time:.1?}"
    ));
    assert!(time < Duration::from_secs(10));
    for name in ["b", "short-ttl"] {
        tables.wait_for_listener(name).await;
    }
    let mut times = Measurements::default();
    for number in 0..10 {
        let token = a
            .create_and_cache(&mut long_ttl_node, &format!("late-{number}"))
            .await;
        a.revoke(&token).await;
        times.add(
            long_ttl_node
                .client
                .time_until_rejected(&token.secret, Stopwatch::start())
                .await,
        );
    }
    database.report(&format!(
        "feed reconnected: rejected on b, {}",
        times.summary()
    ));
    assert!(times.max() < bound(&database));
}

pub(crate) async fn revocation_reaches_node_whose_feed_keeps_disconnecting(database: TestDatabase) {
    let (mut a, b) = start_two_nodes(&database).await;
    let done = Arc::new(AtomicBool::new(false));
    let disconnects = Arc::new(AtomicI64::new(0));
    let disconnector = {
        let (done, disconnects) = (Arc::clone(&done), Arc::clone(&disconnects));
        let tables = database.tables().await;
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                disconnects.fetch_add(tables.terminate_listener("b").await, Ordering::SeqCst);
                pause().await;
            }
        })
    };
    let mut times = Measurements::default();
    let started = Instant::now();
    let mut number = 0;
    while number < TOKENS
        || started.elapsed() < Duration::from_secs(3)
        || disconnects.load(Ordering::SeqCst) <= 3
    {
        assert!(
            started.elapsed() < 2 * TIMEOUT,
            "{number} tokens, {disconnects:?} disconnects"
        );
        let token = a.create(&format!("token-{number}")).await;
        b.client.assert_status(&token.secret, 200).await;
        a.revoke(&token).await;
        times.add(
            b.client
                .time_until_rejected(&token.secret, Stopwatch::start())
                .await,
        );
        number += 1;
    }
    done.store(true, Ordering::SeqCst);
    disconnector.await.unwrap();
    database.report(&format!(
        "feed disconnected {disconnects:?} times: rejected on b, {}",
        times.summary()
    ));
    assert!(times.max() < Duration::from_secs(10));
}

/// Returns a well-formed token that no node has created.
fn unknown_token() -> String {
    let minted = TokenFormat::default().mint().unwrap();
    minted.expose_secret().to_owned()
}

async fn allow_connections(database: &TestDatabase, allow: bool) {
    let TestDatabase::Postgres { server, url } = database else {
        panic!("SQLite has no server");
    };
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap();
    let statement = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allow}");
    server.run(&statement).await;
}
