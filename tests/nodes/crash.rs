//! Killed processes and crashed servers: every acknowledged write is stored, and an unacknowledged
//! write is stored completely or not at all.

use std::sync::Arc;
use std::time::Duration;

use test_support::postgres::{Postgres, Stop};

use crate::database::TestDatabase;
use crate::expected_tokens::ExpectedTokens;
use crate::node::Process;
use crate::process_config::{ProcessConfig, Role};

const KILLS: usize = 15;
const CRASHES: usize = 5;

fn process_config(database: &TestDatabase) -> ProcessConfig {
    ProcessConfig::new(Role::Mutator, &database.store("mutator"))
}

fn random(below: u32) -> u32 {
    getrandom::u32().unwrap() % below
}

/// Reads a random number of changes and waits briefly, so that the kill or crash may happen at any
/// point of a change.
async fn read_some_changes(mutator: &mut Process, expected_tokens: &mut ExpectedTokens) {
    let target = expected_tokens.acknowledged + 1 + random(60) as usize;
    while expected_tokens.acknowledged < target {
        let line = mutator.read_line().await;
        let line =
            line.unwrap_or_else(|| panic!("the mutator gave up: {:?}", expected_tokens.errors));
        expected_tokens.record(&line);
    }
    let delay = Duration::from_micros(random(8000).into());
    tokio::time::sleep(delay).await;
}

/// Records the rest of the output.
async fn read_remaining(mutator: &mut Process, expected_tokens: &mut ExpectedTokens) {
    while let Some(line) = mutator.read_line().await {
        expected_tokens.record(&line);
    }
}

pub(crate) async fn acknowledged_writes_survive_sigkill_and_none_are_partial(
    database: TestDatabase,
) {
    let mut expected_tokens = ExpectedTokens::default();
    // Creates the tables, so that no round interrupts their creation.
    drop(database.open().await);
    let tables = database.tables().await;
    for _ in 0..KILLS {
        let mut mutator = Process::spawn(&process_config(&database));
        read_some_changes(&mut mutator, &mut expected_tokens).await;
        mutator.kill().await;
        read_remaining(&mut mutator, &mut expected_tokens).await;
        tables.wait_until_disconnected("mutator").await;
        expected_tokens.check(&database).await;
    }
    assert!(
        expected_tokens.errors.is_empty(),
        "{:?}",
        expected_tokens.errors
    );
    database.report(&format!(
        "killed {KILLS} times: {}",
        expected_tokens.summary()
    ));
}

pub(crate) async fn acknowledged_writes_survive_server_crash(database: TestDatabase) {
    let mut expected_tokens = ExpectedTokens::default();
    for _ in 0..CRASHES {
        // The mutator gives up this long after the crash.
        let process_config = process_config(&database).with_deadline(Duration::from_secs(5));
        let mut mutator = Process::spawn(&process_config);
        read_some_changes(&mut mutator, &mut expected_tokens).await;
        let crash = {
            let server = Arc::clone(database.server());
            tokio::task::spawn_blocking(move || server.stop(Stop::Immediate))
        };
        read_remaining(&mut mutator, &mut expected_tokens).await;
        crash.await.unwrap();
        let server = Arc::clone(database.server());
        let start = tokio::task::spawn_blocking(move || Postgres::start(&server));
        start.await.unwrap();
        expected_tokens.check(&database).await;
    }
    database.report(&format!(
        "crashed {CRASHES} times: {}",
        expected_tokens.summary()
    ));
}
