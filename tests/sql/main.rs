//! `SqliteStore` and `PostgresStore` on real databases.
//!
//! Where there is no PostgreSQL its tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

mod authority;
mod bulk;
mod closing;
mod connections;
mod earlier_release;
mod failover;
mod faults;
mod feed;
mod health;
#[cfg(feature = "testing")]
mod conformance;
mod listing;
mod migration;
mod moved_file;
mod failover_proxy;
mod opening;
mod test_database;
mod plans;
mod races;
mod rules;
mod sessions;
mod failover_pair;
mod audit_log;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use self::test_database::{Server, TestDatabase};

/// A test that both stores must pass.
type Test = fn(TestDatabase) -> futures::future::BoxFuture<'static, ()>;

/// Longer than any test takes on a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Names functions `async fn(TestDatabase)`.
macro_rules! tests {
    ($module:ident: $($name:ident),+ $(,)?) => {
        [$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|database| Box::pin($module::$name(database))) as Test,
        )),+]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let required = std::env::var_os("SERVICE_TOKEN_REQUIRE_SERVICES").is_some_and(|it| it == "1");
    let server = Server::find();
    let (ignored, reason) = match &server {
        Err(reason) if !required => (true, format!("ignored: {reason}")),
        _ => (false, String::new()),
    };
    let server = Arc::new(server);

    let mut trials = Vec::new();
    for (name, test) in both() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, TestDatabase::sqlite())
        }));
        trials.push(on_postgres(name, test, &server, ignored, &reason));
    }
    for (name, test) in sqlite() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, TestDatabase::sqlite())
        }));
    }
    for (name, test) in only_postgres() {
        trials.push(on_postgres(name, test, &server, ignored, &reason));
    }
    for (name, test) in long_on_postgres() {
        let trial = on_postgres(name, test, &server, ignored, &reason);
        trials.push(trial.with_ignored_flag(true));
    }
    for (name, test) in long() {
        let sqlite = Trial::test(format!("sqlite::{name}"), move || {
            run(test, TestDatabase::sqlite())
        });
        trials.push(sqlite.with_ignored_flag(true));
        let postgres = on_postgres(name, test, &server, ignored, &reason);
        trials.push(postgres.with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn on_postgres(
    name: &str,
    test: Test,
    server: &Arc<Result<Server, String>>,
    ignored: bool,
    reason: &str,
) -> Trial {
    let server = Arc::clone(server);
    Trial::test(format!("postgres::{name}"), move || {
        let server = (*server).as_ref().map_err(Failed::from)?;
        run(test, TestDatabase::postgres(server.clone()))
    })
    .with_kind(reason)
    .with_ignored_flag(ignored)
}

fn run(test: Test, database: TestDatabase) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let database = database.create().await;
        let end = database.clone();
        // A task of its own, so that a panic does not skip what comes after.
        let test = tokio::spawn(test(database));
        let outcome = tokio::time::timeout(TEST_TIMEOUT, test).await;
        end.remove().await;
        outcome
    });
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed::from(error.to_string())),
        Err(_) => Err(Failed::from("the test does not end")),
    }
}

fn both() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(rules:
        round_trips_a_record,
        rejects_duplicate_ids_and_digests,
        update_requires_and_increments_the_revision,
        delete_requires_the_revision,
        reserved_name_stays_taken_until_released,
        insert_enforces_the_token_limit,
        touch_never_moves_last_use_backward,
        touches_many_tokens_at_once,
        finds_tokens_by_current_and_previous_digest,
        undecodable_row_is_corrupt,
    ));
    all.extend(tests!(listing: every_filter_lists_the_matching_tokens_across_pages));
    all.extend(tests!(plans: every_filter_uses_an_index, lookup_uses_an_index_for_each_digest));
    all.extend(tests!(races:
        one_of_many_concurrent_inserts_reserves_a_name,
        concurrent_inserts_respect_the_token_limit,
        concurrent_updates_are_not_lost,
        current_and_previous_digests_are_unique_across_tokens,
        touches_and_updates_do_not_deadlock,
    ));
    all.extend(tests!(opening:
        reopened_store_keeps_its_tokens,
        idempotency_key_survives_reopening,
        concurrent_opens_create_the_schema_once,
        rejects_a_newer_schema,
        uses_a_user_supplied_pool,
    ));
    all.extend(tests!(audit_log:
        stores_events_with_their_changes,
        rejected_write_stores_no_event,
        audit_trail_is_off_by_default,
        stores_client_addresses,
        deletes_events_before_a_time_and_no_others,
        deletes_events_beyond_the_retention,
        writes_proceed_while_events_are_pruned,
    ));
    all.extend(tests!(migration:
        version_1_is_migrated_and_keeps_its_tokens,
        an_empty_version_1_is_not_initialized,
        a_migration_that_fails_leaves_version_1,
        concurrent_migrations_succeed,
        statements_of_version_1_work_on_version_2,
    ));
    all.extend(tests!(closing: a_closed_store_is_unavailable));
    all.extend(tests!(health:
        write_check_commits,
        write_check_fails_when_writes_are_impossible,
        a_store_is_initialized_once,
    ));
    all.extend(tests!(feed:
        notifies_this_process_before_the_write_returns,
        notifies_another_process,
        a_dropped_store_stops_listening,
    ));
    all.extend(tests!(authority:
        rejects_writes_whose_actor_was_revoked_while_they_waited,
        one_of_ten_concurrent_rotations_succeeds,
        concurrent_revocations_keep_one_admin,
        mutual_actor_writes_do_not_deadlock,
        revokes_an_actor_under_constant_writes,
    ));
    all.extend(tests!(bulk:
        revokes_thousands_of_tokens_with_their_events,
        bulk_revocation_notifies_other_nodes_of_each_token,
        bulk_revocation_releases_reserved_names,
        bulk_update_writes_the_same_rows_as_single_updates,
    ));
    all.extend(tests!(earlier_release:
        earlier_database_lists_and_authenticates_tokens,
        earlier_database_rotates_and_revokes_tokens,
    ));
    all.extend(tests!(sessions: checking_for_writability_changes_nothing));
    all.extend(tests!(faults:
        exhausted_pool_is_unavailable_within_the_deadline,
    ));
    #[cfg(feature = "testing")]
    all.extend(tests!(conformance: passes_the_conformance_kit));
    all.extend(lifecycle());
    all
}

/// The tests of the verbs, as in `tests/lifecycle`.
fn lifecycle() -> Vec<(&'static str, Test)> {
    macro_rules! on_database {
        ($($name:ident),+ $(,)?) => {
            vec![$((
                concat!("lifecycle::", stringify!($name)),
                (|database| Box::pin(async move {
                    tests::operations::$name(database.registry().await).await;
                })) as Test,
            )),+]
        };
    }
    tests::every_test!(on_database)
}

/// Run by `.ci/long`.
fn long() -> Vec<(&'static str, Test)> {
    tests!(bulk: revokes_two_hundred_thousand_tokens_in_a_minute).into()
}

/// Run by `.ci/long`.
fn long_on_postgres() -> Vec<(&'static str, Test)> {
    tests!(failover: writes_recover_from_twenty_name_moves, writes_recover_from_twenty_primary_failures).into()
}

fn sqlite() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(opening:
        files_are_private_to_the_owner,
        distinguishes_invalid_paths_from_invalid_files,
        in_memory_store_is_dropped_with_its_last_clone,
    ));
    all.extend(tests!(feed: pruned_changes_are_published_as_everything));
    all.extend(tests!(bulk: pruned_change_log_invalidates_everything_on_other_nodes));
    #[cfg(feature = "file")]
    all.extend(tests!(earlier_release: earlier_token_file_is_readable));
    all.extend(tests!(closing: last_close_leaves_one_complete_file));
    all.extend(tests!(health: feed_is_connected_while_the_file_is_readable));
    all.extend(tests!(moved_file:
        writes_to_a_removed_file_fail,
        writes_to_a_replaced_file_fail,
        writes_without_the_write_ahead_log_fail,
        writes_through_a_changed_symlink_fail,
        replacing_the_file_during_a_write_fails_the_write,
        user_supplied_pool_detects_a_replaced_file,
    ));
    all.extend(tests!(faults:
        file_locked_by_another_process_is_unavailable_within_the_deadline,
        writes_recover_after_a_full_disk,
    ));
    all
}

fn only_postgres() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(opening: errors_do_not_contain_the_password));
    all.extend(tests!(feed: reconnecting_publishes_everything));
    all.extend(tests!(migration: waiting_migration_blocks_writes_for_at_most_two_seconds));
    all.extend(tests!(failover:
        writes_recover_after_the_name_pointed_to_a_standby,
        writes_recover_after_a_standby_is_promoted,
        writes_recover_after_the_primary_is_killed_and_restarted,
        writes_recover_after_a_hanging_primary_is_replaced,
        user_supplied_pool_follows_the_name,
        hanging_release_does_not_exhaust_the_pool,
    ));
    #[cfg(feature = "tracing")]
    all.extend(tests!(failover: logs_feed_loss_and_recovery_once));
    all.extend(tests!(sessions:
        target_session_attrs_selects_servers,
        primary_target_rejects_a_standby,
        write_stops_waiting_for_a_lock_at_its_deadline,
        abandoned_operation_ends_on_the_server,
        default_transaction_read_only_does_not_prevent_writes,
        write_is_applied_once_when_its_session_is_terminated,
        write_with_unanswered_commit_is_not_retried,
        deadline_during_commit_reports_unknown_outcome,
    ));
    all.extend(tests!(connections:
        slow_statement_closes_only_its_own_connection,
        abandoned_statement_closes_only_its_own_connection,
        read_only_server_closes_no_connection,
        replaces_idle_connections_to_a_hanging_server,
    ));
    all.extend(tests!(faults:
        lookups_survive_killed_connections,
        store_recovers_when_the_server_returns,
        a_frozen_server_is_unavailable_within_the_deadline,
        acknowledged_writes_survive_a_server_crash,
    ));
    all
}
