//! `SqliteStore` and `PostgresStore` on real databases.
//!
//! Without PostgreSQL, its tests are reported as ignored. With `SERVICE_TOKEN_REQUIRE_SERVICES=1` they
//! fail instead.

mod audit_trail;
mod authority;
#[cfg(feature = "api")]
mod bad_inputs;
mod bulk;
mod closing;
#[cfg(feature = "testing")]
mod conformance;
mod connections;
mod database;
mod earlier_release;
mod failover;
mod failover_proxy;
mod faults;
mod feed;
mod health;
mod listing;
mod manual_schema;
mod migration;
mod moved_file;
mod opening;
mod plans;
mod poolers;
mod races;
mod refusals;
mod replicas;
mod rules;
mod sessions;
mod tickets;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use test_support::optional_trial::optional_trial;
use test_support::postgres::Pooler;
use test_support::trials::run_with_timeout;

use self::database::{Server, TestDatabase};

/// A test of a store.
type Test = fn(TestDatabase) -> futures::future::BoxFuture<'static, ()>;

/// The timeout of a test, longer than any test takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Lists functions `async fn(TestDatabase)` with their names.
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
    let server = Server::find();
    let reason = server.as_ref().err();
    let pooler = Pooler::find().map(drop);
    let no_pooler = reason.or(pooler.as_ref().err());

    let mut trials = Vec::new();
    for (name, test) in sqlite_and_postgres_tests() {
        trials.push(on_sqlite(name, test));
        trials.push(on_postgres(name, test, &server, reason));
    }
    for (name, test) in sqlite_tests() {
        trials.push(on_sqlite(name, test));
    }
    for (name, test) in postgres_tests() {
        trials.push(on_postgres(name, test, &server, reason));
    }
    for (name, test) in on_pgbouncer() {
        trials.push(on_postgres(name, test, &server, no_pooler));
    }
    for (name, test) in long_on_postgres() {
        let trial = on_postgres(name, test, &server, reason);
        trials.push(trial.with_ignored_flag(true));
    }
    for (name, test) in long() {
        trials.push(on_sqlite(name, test).with_ignored_flag(true));
        let postgres = on_postgres(name, test, &server, reason);
        trials.push(postgres.with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn on_sqlite(name: &str, test: Test) -> Trial {
    Trial::test(format!("sqlite::{name}"), move || {
        run(test, TestDatabase::sqlite())
    })
}

fn on_postgres(
    name: &str,
    test: Test,
    server: &Result<Server, String>,
    reason: Option<&String>,
) -> Trial {
    let server = server.clone();
    optional_trial(reason, format!("postgres::{name}"), move || {
        run(test, TestDatabase::postgres(server?))
    })
}

fn run(test: Test, database: TestDatabase) -> Result<(), Failed> {
    run_with_timeout(TIMEOUT, test, database.create(), TestDatabase::remove)
}

/// Returns the tests that run on SQLite and on PostgreSQL.
fn sqlite_and_postgres_tests() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(rules:
        reads_back_stored_records,
        rejects_duplicate_ids_and_digests,
        updates_require_and_increment_the_revision,
        deletions_require_the_revision,
        reserved_names_are_unique_until_released,
        enforces_the_token_limit,
        last_use_never_moves_backwards,
        touches_thousands_of_tokens,
        finds_current_and_previous_secrets,
        invalid_rows_are_reported_as_corrupt,
        listings_read_back_every_value,
    ));
    all.extend(tests!(listing: lists_every_filter_page_by_page));
    all.extend(tests!(plans: every_filter_uses_an_index, lookups_by_number_use_an_index, lookups_use_an_index_for_each_digest));
    all.extend(tests!(races:
        concurrent_creators_cannot_share_a_unique_name,
        concurrent_creators_do_not_exceed_the_limit,
        concurrent_updates_are_not_lost,
        concurrent_writers_cannot_share_a_digest,
        touches_and_updates_do_not_deadlock,
    ));
    all.extend(tests!(audit_trail:
        stores_events_with_their_changes,
        rejected_changes_leave_no_event,
        stores_no_events_without_an_audit_trail,
        stores_client_addresses,
        deletes_only_events_before_a_time,
        deletes_events_beyond_the_retention,
        pruning_does_not_block_changes,
    ));
    all.extend(tests!(closing: closed_stores_are_unavailable));
    all.extend(tests!(health:
        write_check_commits,
        write_check_fails_if_it_cannot_write,
        initialization_is_recorded_once,
    ));
    all.extend(tests!(feed:
        notifies_this_process_before_the_change_returns,
        notifies_other_processes,
        dropped_stores_stop_listening,
    ));
    all.extend(tests!(authority:
        rejects_waiting_writes_whose_actor_was_revoked,
        allows_one_of_ten_concurrent_rotations,
        concurrent_revocations_keep_one_admin,
        writes_by_each_others_actors_do_not_deadlock,
        revokes_an_actor_that_writes_continuously,
    ));
    all.extend(tests!(bulk:
        revokes_thousands_of_tokens_with_their_events,
        notifies_other_nodes_of_each_revocation,
        bulk_revocation_releases_reserved_names,
        bulk_update_stores_the_same_rows_as_single_updates,
    ));
    all.extend(tests!(sessions: write_checks_change_no_token));
    all.extend(tests!(tickets:
        a_ticket_of_another_node_is_taken_once,
        unused_tickets_are_limited_over_all_nodes,
        unused_tickets_of_an_owner_are_limited_over_all_nodes,
        ignores_the_ticket_table_of_earlier_versions,
        expired_tickets_are_deleted,
        expired_tickets_are_deleted_while_others_are_issued,
        stores_the_digest_and_not_the_ticket,
        concurrent_nodes_create_the_table_once,
        closed_and_damaged_stores_return_errors,
    ));
    all.extend(tests!(faults:
        exhausted_pools_are_unavailable_within_the_deadline,
    ));
    #[cfg(feature = "api")]
    all.extend(tests!(bad_inputs: bad_inputs_get_the_same_response_as_in_memory));
    #[cfg(feature = "testing")]
    all.extend(tests!(conformance: passes_the_conformance_suite));
    all.extend(schema());
    all.extend(lifecycle());
    all
}

/// Returns the tests of the tables: new ones, and those of earlier releases.
fn schema() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(opening:
        reopening_finds_stored_tokens,
        idempotency_keys_survive_a_restart,
        concurrent_opens_create_the_tables_once,
        rejects_tables_of_a_newer_release,
        uses_the_pool_of_the_application,
    ));
    all.extend(tests!(migration:
        migrates_version_1_and_keeps_its_tokens,
        empty_version_1_is_not_initialized,
        failed_migration_leaves_version_1,
        concurrent_opens_migrate_once,
        statements_of_earlier_versions_succeed,
        migrates_version_2_and_keeps_ambiguous_numbers,
    ));
    all.extend(tests!(manual_schema:
        scripts_create_all_tables_of_a_store,
        scripts_migrate_version_1,
    ));
    all.extend(tests!(earlier_release:
        opens_databases_before_write_authority,
        opens_databases_of_schema_version_2,
        opens_databases_of_schema_version_3,
        tokens_in_databases_before_write_authority_can_be_changed,
        tokens_in_databases_of_schema_version_2_can_be_changed,
        tokens_in_databases_of_schema_version_3_can_be_changed,
        owners_manage_tokens_in_databases_of_schema_version_3,
    ));
    all
}

/// Returns the tests of the lifecycle operations, which `tests/lifecycle` runs on other stores.
fn lifecycle() -> Vec<(&'static str, Test)> {
    macro_rules! on_database {
        ($module:ident: $($name:ident),+ $(,)?) => {
            vec![$((
                concat!("lifecycle::", stringify!($name)),
                (|database| Box::pin(async move {
                    tests::$module::$name(database.registry().await).await;
                })) as Test,
            )),+]
        };
    }
    macro_rules! operations_on_database {
        ($($names:tt)+) => { on_database!(operations: $($names)+) };
    }
    macro_rules! owners_on_database {
        ($($names:tt)+) => { on_database!(owners: $($names)+) };
    }
    let mut all = tests::every_test!(operations_on_database);
    all.push((
        "lifecycle::nothing_of_another_owner_is_visible",
        |database| {
            Box::pin(async move {
                let store = database.registry().await;
                tests::tenants::nothing_of_another_owner_is_visible(store, 9, 250).await;
            })
        },
    ));
    all.extend(tests::every_owner_test!(owners_on_database));
    all
}

/// Returns the tests that need `PgBouncer`.
fn on_pgbouncer() -> Vec<(&'static str, Test)> {
    tests!(poolers:
        pools_that_share_sessions_are_rejected,
        pools_in_session_mode_are_accepted,
        fewer_sessions_than_connections_are_not_an_error,
        opening_reports_a_pooler_without_free_sessions,
    )
    .into()
}

/// Returns the tests that only `.ci/long` runs.
fn long() -> Vec<(&'static str, Test)> {
    tests!(bulk: revokes_two_hundred_thousand_tokens_in_a_minute).into()
}

/// Returns the tests on PostgreSQL that only `.ci/long` runs.
fn long_on_postgres() -> Vec<(&'static str, Test)> {
    tests!(failover: recovers_when_the_proxy_moves_twenty_times, recovers_when_primaries_fail_twenty_times).into()
}

/// Returns the tests that run on SQLite only.
fn sqlite_tests() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(opening:
        files_are_accessible_to_their_owner_only,
        distinguishes_missing_folders_from_invalid_files,
        in_memory_stores_are_independent,
        concurrent_opens_of_new_files_wait_for_each_other,
    ));
    all.extend(tests!(feed: pruned_changes_notify_everything));
    all.extend(tests!(bulk: nodes_miss_no_pruned_revocations));
    #[cfg(feature = "file")]
    all.extend(tests!(earlier_release: reads_token_files_of_an_earlier_release));
    all.extend(tests!(closing: last_close_leaves_one_complete_file));
    all.extend(tests!(health: feed_status_reports_loss_and_recovery));
    all.extend(tests!(moved_file:
        changes_fail_after_the_file_is_removed,
        changes_fail_after_the_file_is_replaced,
        changes_fail_after_the_log_is_removed,
        changes_fail_after_the_symlink_moves,
        change_fails_if_the_file_is_replaced_during_it,
        checks_the_file_of_application_pools,
    ));
    all.extend(tests!(faults:
        locked_files_are_unavailable_within_the_deadline,
        recovers_from_a_full_disk,
    ));
    all
}

/// Returns the tests that run on PostgreSQL only.
fn postgres_tests() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(opening: errors_do_not_contain_the_password));
    all.extend(tests!(manual_schema:
        role_without_ddl_rights_uses_tables_created_by_scripts,
        role_without_ddl_rights_cannot_migrate_version_1,
        role_without_ddl_rights_uses_the_table_of_tickets,
    ));
    all.extend(tests!(feed: reconnected_feed_notifies_everything));
    all.extend(tests!(migration: waiting_migration_blocks_changes_for_at_most_two_seconds));
    all.extend(tests!(failover:
        recovers_after_the_proxy_moves_to_a_standby_and_back,
        recovers_after_a_promotion,
        recovers_after_the_primary_restarts,
        recovers_after_a_hanging_primary_is_replaced,
        application_pools_follow_the_proxy,
        hanging_release_does_not_occupy_the_pool,
    ));
    #[cfg(feature = "tracing")]
    all.extend(tests!(failover: logs_feed_loss_and_recovery_once));
    all.extend(tests!(sessions:
        target_session_attrs_selects_servers,
        primary_target_rejects_a_standby,
        lock_waits_end_before_the_deadline,
        cancelled_operations_end_on_the_server,
        changes_succeed_with_a_read_only_default,
        retries_changes_of_terminated_sessions_once,
        commits_without_a_response_are_not_retried,
        deadline_during_commit_reports_unknown_outcome,
    ));
    all.extend(tests!(refusals:
        opening_reports_why_the_server_refuses_connections,
        operations_report_why_the_server_refuses_connections,
        fewer_slots_than_connections_are_not_an_error,
        pool_releases_a_slot_for_the_feed,
        uses_at_most_the_configured_connections,
    ));
    all.extend(tests!(connections:
        slow_statements_close_only_their_connection,
        cancelled_statements_close_only_their_connection,
        read_only_servers_keep_their_connections,
        replaces_idle_connections_to_a_hanging_server,
    ));
    all.extend(tests!(faults:
        operations_survive_killed_connections,
        recovers_when_the_server_restarts,
        suspended_servers_are_unavailable_within_the_deadline,
        acknowledged_changes_survive_a_server_crash,
    ));
    all
}
