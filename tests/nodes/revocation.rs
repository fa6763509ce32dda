//! A change on one node reaches the others: at once by the feed, by the time to live without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use test_support::stall::Stopwatch;
use tower_service_token::token::TokenFormat;

use crate::database::TestDatabase;
use crate::node::{Measurements, Node, TIMEOUT, Token, pause};
use crate::process_config::{ProcessConfig, Role};

const TOKENS: usize = 25;

/// Far below the TTL of 30 s.
fn bound(database: &TestDatabase) -> Duration {
    // SQLite is checked every 250 ms.
    Duration::from_secs(if database.is_postgres() { 5 } else { 2 })
}

async fn two_nodes(database: &TestDatabase) -> (Node, Node) {
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
    let (mut a, mut b) = two_nodes(&database).await;
    let mut times = Measurements::default();
    let mut reported = Duration::ZERO;
    for number in 0..TOKENS {
        let token = a.create_and_cache(&mut b, &format!("token-{number}")).await;
        reported = a.revoke(&token).await;
        let acknowledged = Stopwatch::start();
        a.caller.assert(&token.secret, 401).await;
        times.add(b.caller.refused(&token.secret, acknowledged).await);
    }
    database.report(&format!(
        "revoked on a, refused on b, {}; reported: within {reported:?}",
        times.show()
    ));
    assert!(times.max() < bound(&database) && times.max() <= reported);
}

pub(crate) async fn role_and_state_changes_reach_other_nodes_within_the_bound(
    database: TestDatabase,
) {
    let (mut a, mut b) = two_nodes(&database).await;
    let [mut roles, mut disabled, mut enabled, mut rotated] =
        std::array::from_fn(|_| Measurements::default());
    for number in 0..5 {
        let token = a.create_and_cache(&mut b, &format!("token-{number}")).await;
        let Token { id, secret } = &token;
        a.run(&format!("roles {id} writer,auditor")).await;
        let done = Stopwatch::start();
        let expected = (200, "writer,auditor");
        a.caller.becomes(secret, expected, done).await;
        roles.add(b.caller.becomes(secret, expected, done).await);

        a.run(&format!("disable {id}")).await;
        disabled.add(b.caller.refused(secret, Stopwatch::start()).await);
        a.run(&format!("enable {id}")).await;
        enabled.add(
            b.caller
                .becomes(secret, (200, ""), Stopwatch::start())
                .await,
        );

        let new = a.run(&format!("rotate {id} 0")).await;
        let done = Stopwatch::start();
        b.caller.assert(&new, 200).await;
        rotated.add(b.caller.refused(secret, done).await);
    }
    for (change, times) in [
        ("roles updated", roles),
        ("disabled", disabled),
        ("enabled", enabled),
        ("rotated", rotated),
    ] {
        database.report(&format!("{change} on a, seen on b, {}", times.show()));
        assert!(times.max() < bound(&database), "{change}");
    }
}

pub(crate) async fn import_replaces_negative_entries_on_other_nodes(database: TestDatabase) {
    let (mut a, b) = two_nodes(&database).await;
    let mut times = Measurements::default();
    for number in 0..5 {
        let foreign = if number % 2 == 0 {
            junk()
        } else {
            format!("elsewhere-{number}-{}", junk())
        };
        // Both have cached for 10 s that there is no such token.
        for node in [&a, &b] {
            node.caller.assert(&foreign, 401).await;
        }
        a.run(&format!("import foreign reader {foreign}")).await;
        let imported = Stopwatch::start();
        a.caller.assert(&foreign, 200).await;
        times.add(b.caller.becomes(&foreign, (200, "reader"), imported).await);
    }
    database.report(&format!("imported on a, works on b, {}", times.show()));
    assert!(times.max() < bound(&database));
}

/// Only new connections are refused: the stores go on, and cannot listen.
pub(crate) async fn without_feed_revocation_applies_within_ttl(database: TestDatabase) {
    const TTL: Duration = Duration::from_secs(2);
    const SLACK: Duration = Duration::from_secs(1);
    // Of a store of its own making: ten to ask by, and one to listen.
    const CONNECTIONS: i64 = 11;

    let (mut a, mut patient) = two_nodes(&database).await;
    let hasty = ProcessConfig::new(Role::Server, &database.store("hasty")).with_ttl(TTL);
    let mut hasty = Node::with(hasty).await;
    let tables = database.tables().await;
    tables.wait_for_listener("hasty").await;
    // All the connections they may have, so that none opens another one.
    for (node, name) in [(&a, "a"), (&patient, "b"), (&hasty, "hasty")] {
        while tables.connections(name).await < CONNECTIONS {
            let junk = (0..20).map(|_| async { node.caller.get(&junk()).await });
            futures::future::join_all(junk).await;
        }
    }
    allow_connections(&database, false).await;
    for name in ["b", "hasty"] {
        assert_eq!(tables.terminate_listener(name).await, 1);
    }
    let begun = Instant::now();
    let (tokens, revoked) = loop {
        let mut tokens = Vec::new();
        for number in 0..5 {
            tokens.push(a.create(&format!("token-{number}")).await);
        }
        patient.wait_until_cached_stably(&tokens).await;
        let asked = Instant::now();
        hasty.wait_until_cached_stably(&tokens).await;
        let mut revoked = Vec::new();
        for token in &tokens {
            let reported = a.revoke(token).await;
            assert!(TTL <= reported);
            revoked.push((token.secret.clone(), Stopwatch::start()));
        }
        // Else the machine was so slow that what is remembered ends soon by itself.
        if asked.elapsed() < TTL / 2 {
            break (tokens, revoked);
        }
        assert!(begun.elapsed() < TIMEOUT, "the machine is too slow");
    };
    let last = tokens.last().unwrap();
    patient.caller.assert(&last.secret, 200).await;
    let checks = revoked
        .iter()
        .map(|(secret, since)| hasty.caller.refused(secret, *since));
    let mut times = Measurements::default();
    for time in futures::future::join_all(checks).await {
        times.add(time);
    }
    database.report(&format!(
        "feed down, TTL {TTL:?}: refused on b, {}",
        times.show()
    ));
    assert!(times.max() <= TTL + SLACK);
    assert!(times.max() > TTL / 4, "the feed was not down");
    // The other one has no notification either, and may cache for 30 s.
    patient.caller.assert(&last.secret, 200).await;

    allow_connections(&database, true).await;
    let allowed = Stopwatch::start();
    let time = patient.caller.refused(&last.secret, allowed).await;
    database.report(&format!(
        "feed allowed again: what was missed is made up for after {time:.1?}"
    ));
    assert!(time < Duration::from_secs(10));
    for name in ["b", "hasty"] {
        tables.wait_for_listener(name).await;
    }
    let mut times = Measurements::default();
    for number in 0..10 {
        let token = a
            .create_and_cache(&mut patient, &format!("late-{number}"))
            .await;
        a.revoke(&token).await;
        times.add(
            patient
                .caller
                .refused(&token.secret, Stopwatch::start())
                .await,
        );
    }
    database.report(&format!("feed back: refused on b, {}", times.show()));
    assert!(times.max() < bound(&database));
}

pub(crate) async fn revocation_reaches_node_whose_feed_keeps_disconnecting(database: TestDatabase) {
    let (mut a, b) = two_nodes(&database).await;
    let done = Arc::new(AtomicBool::new(false));
    let cuts = Arc::new(AtomicI64::new(0));
    let cutter = {
        let (done, cuts) = (Arc::clone(&done), Arc::clone(&cuts));
        let tables = database.tables().await;
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                cuts.fetch_add(tables.terminate_listener("b").await, Ordering::SeqCst);
                pause().await;
            }
        })
    };
    let mut times = Measurements::default();
    let begun = Instant::now();
    let mut number = 0;
    while number < TOKENS
        || begun.elapsed() < Duration::from_secs(3)
        || cuts.load(Ordering::SeqCst) <= 3
    {
        assert!(
            begun.elapsed() < 2 * TIMEOUT,
            "{number} tokens, {cuts:?} cuts"
        );
        let token = a.create(&format!("token-{number}")).await;
        b.caller.assert(&token.secret, 200).await;
        a.revoke(&token).await;
        times.add(b.caller.refused(&token.secret, Stopwatch::start()).await);
        number += 1;
    }
    done.store(true, Ordering::SeqCst);
    cutter.await.unwrap();
    database.report(&format!(
        "feed cut {cuts:?} times: refused on b, {}",
        times.show()
    ));
    assert!(times.max() < Duration::from_secs(10));
}

/// A token that was never created.
fn junk() -> String {
    let minted = TokenFormat::default().mint().unwrap();
    minted.expose_secret().to_owned()
}

async fn allow_connections(database: &TestDatabase, allow: bool) {
    let TestDatabase::Postgres { server, url } = database else {
        panic!("a server");
    };
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap();
    let statement = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allow}");
    server.run(&statement).await;
}
