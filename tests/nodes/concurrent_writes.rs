//! Two processes change the same tokens at the same time.

use std::collections::BTreeSet;
use std::time::Instant;

use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{NewToken, Page};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::{TokenRecord, TokenState};
use tower_service_token::token::TokenId;

use crate::contender::{ContenderReport, LABELS, NAMES, WORKERS};
use crate::database::TestDatabase;
use crate::node::Process;
use crate::process_config::{ProcessConfig, Role};

/// Waits until every contender reaches this point, then lets all of them continue.
async fn synchronize(contenders: &mut [Process], point: &str) {
    for contender in &mut *contenders {
        let line = contender.read_line().await.expect("the contender runs");
        assert_eq!(line, point);
    }
    for contender in contenders {
        contender.send_line("continue").await;
    }
}

pub(crate) async fn concurrent_writes_of_two_processes_are_not_lost(database: TestDatabase) {
    let tokens = ServiceTokens::new(database.open().await);
    let mut shared = Vec::new();
    for number in 0..3 {
        let new = NewToken::new(format!("shared-{number}"));
        let issued = tokens.create(new).await.unwrap();
        shared.push(issued.record().id().as_i64());
    }
    let mut contenders = Vec::new();
    for name in ["a", "b"] {
        let role = Role::Contender {
            name: name.to_owned(),
            shared: shared.clone(),
        };
        contenders.push(Process::spawn(&ProcessConfig::new(
            role,
            &database.store(name),
        )));
    }
    synchronize(&mut contenders, "ready").await;
    let started = Instant::now();
    synchronize(&mut contenders, "done").await;
    let mut reports = Vec::new();
    for contender in &mut contenders {
        let line = contender.read_line().await.expect("the contender runs");
        let report: ContenderReport = serde_json::from_str(&line).unwrap();
        reports.push(report);
    }
    let elapsed = started.elapsed();

    // Both processes completed, so every change was acknowledged.
    let id = |id| TokenId::from_i64(id).unwrap();
    let acknowledged_labels = |shared| {
        reports.iter().flat_map(move |it: &ContenderReport| {
            let labels_of_token = it.labels.iter().filter(move |(id, _)| *id == shared);
            labels_of_token.map(|(_, label)| label.as_str())
        })
    };
    for shared in &shared {
        let record = tokens.get(id(*shared)).await.unwrap();
        let stored_labels: BTreeSet<&str> = record.labels().map(|(key, _)| key).collect();
        assert_eq!(stored_labels, acknowledged_labels(*shared).collect());
        assert_eq!(stored_labels.len(), 2 * WORKERS * LABELS);
        assert_eq!(record.state(), TokenState::Revoked);
        // The creation, each label, and one revocation.
        let changes = u64::try_from(stored_labels.len()).unwrap() + 2;
        assert_eq!(record.revision(), changes);
    }
    let created = reports.iter().flat_map(|it| &it.created);
    for (created, is_revoked) in created.clone() {
        let record = tokens.get(id(*created)).await.unwrap();
        assert_eq!(record.state() == TokenState::Revoked, *is_revoked);
    }
    let names: Vec<&String> = reports.iter().flat_map(|it| &it.names).collect();
    let distinct: BTreeSet<&String> = names.iter().copied().collect();
    assert_eq!((names.len(), distinct.len()), (NAMES, NAMES));

    let filter = TokenFilter::new();
    let stored = tokens.list(filter, Page::with_limit(1000)).await.unwrap();
    let expected = shared.len() + created.count() + NAMES;
    assert_eq!(stored.records.len(), expected);
    let changes: u64 = stored.records.iter().map(TokenRecord::revision).sum();
    let events = "SELECT COUNT(*), COUNT(*), '' FROM service_token_events";
    let events = database.tables().await.rows(events).await[0].0;
    assert_eq!(events, i64::try_from(changes).unwrap());
    database.report(&format!(
        "{changes} changes by two processes in {elapsed:.1?}, none lost"
    ));
}
