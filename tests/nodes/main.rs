//! Several processes that share one database, SQLite or PostgreSQL: changes reach the other
//! processes, and acknowledged writes survive killed processes and crashed servers.
//!
//! Each process is this binary, started with a [configuration](process_config) in the environment. A
//! node is a process that serves requests.
//!
//! Without PostgreSQL, its tests are reported as ignored. They fail instead if
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` is set.

mod concurrent_writes;
mod contender;
mod crash;
mod database;
mod expected_tokens;
mod fan_out;
mod mutator;
mod node;
mod outage;
mod process_config;
mod revocation;
mod server;

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::{Arguments, Trial};
use test_support::optional_trial::optional_trial;
use test_support::postgres::Postgres;
use test_support::trials::{run, run_with_timeout, runtime, tests};

use self::database::TestDatabase;
use self::process_config::{ProcessConfig, Role};

type Test = fn(TestDatabase) -> BoxFuture<'static, ()>;

fn main() -> ExitCode {
    if let Some(process_config) = ProcessConfig::from_env() {
        runtime().block_on(async {
            match &process_config.role {
                Role::Server => server::serve(process_config).await,
                Role::Mutator => mutator::run(&process_config).await,
                Role::Contender { .. } => contender::run(&process_config).await,
            }
        });
        return ExitCode::SUCCESS;
    }

    let arguments = Arguments::from_args();
    let shared = Postgres::shared().map(Arc::new);
    // Tests must not stop the server of `DATABASE_URL`.
    let can_stop = match std::env::var_os("DATABASE_URL") {
        None => shared.as_ref().map(drop).map_err(Clone::clone),
        Some(_) => Postgres::private().map(drop),
    };
    let mut trials = Vec::new();
    for (name, test) in sqlite_and_postgres_tests() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { TestDatabase::sqlite() }, TestDatabase::remove)
        }));
    }
    for (name, test) in sqlite_and_postgres_tests()
        .into_iter()
        .chain(postgres_tests())
    {
        let server = shared.clone();
        let reason = shared.as_ref().err();
        trials.push(optional_trial(
            reason,
            format!("postgres::{name}"),
            move || run(test, TestDatabase::postgres(server?), TestDatabase::remove),
        ));
    }
    for (name, test) in private_postgres_tests() {
        let reason = can_stop.as_ref().err();
        trials.push(optional_trial(
            reason,
            format!("postgres::{name}"),
            move || {
                let database = TestDatabase::postgres(Arc::new(Postgres::private()?));
                run(test, database, TestDatabase::remove)
            },
        ));
    }
    // Takes too long for CI: `.ci/long` runs it.
    let long = Trial::test(
        "postgres::fan_out::two_hundred_listeners_in_an_idle_minute",
        || {
            let database = TestDatabase::postgres(Arc::new(fan_out::server()?));
            let test: Test =
                |database| fan_out::two_hundred_listeners_in_an_idle_minute(database).boxed();
            run_with_timeout(fan_out::LONG_TIMEOUT, test, database, TestDatabase::remove)
        },
    );
    trials.push(long.with_ignored_flag(true));
    drop(shared);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn sqlite_and_postgres_tests() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        revocation::revocation_reaches_other_nodes_within_the_bound,
        revocation::role_and_state_changes_reach_other_nodes_within_the_bound,
        revocation::import_replaces_negative_entries_on_other_nodes,
        concurrent_writes::concurrent_writes_of_two_processes_are_not_lost,
        crash::acknowledged_writes_survive_sigkill_and_none_are_partial,
    ])
}

fn postgres_tests() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        revocation::without_feed_revocation_applies_within_ttl,
        revocation::revocation_reaches_node_whose_feed_keeps_disconnecting,
    ])
}

fn private_postgres_tests() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        fan_out::revocation_reaches_ten_listeners,
        outage::nodes_and_feeds_recover_after_server_restart,
        outage::outage_under_load_returns_503_and_never_401,
        outage::cached_tokens_are_accepted_for_ttl_during_outage,
        outage::suspended_server_returns_503_within_deadline_and_serves_cached_tokens,
        crash::acknowledged_writes_survive_server_crash,
    ])
}
