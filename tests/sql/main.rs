//! `SqliteStore` and `PostgresStore` on real databases.
//!
//! Where there is no PostgreSQL its tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

#[path = "../support/postgres.rs"]
mod postgres;

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
mod kit;
mod listing;
mod migration;
mod moved_file;
#[cfg(feature = "tracing")]
#[path = "../support/log.rs"]
mod log;
#[path = "../support/moving_name.rs"]
mod moving_name;
mod opening;
mod place;
mod plans;
mod races;
mod rules;
mod sessions;
mod site;
#[path = "../support/stall.rs"]
#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
mod stall;
mod trail;
#[path = "../lifecycle/verbs.rs"]
mod verbs;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use self::place::{Place, Server};

/// A test that both stores must pass.
type Test = fn(Place) -> futures::future::BoxFuture<'static, ()>;

/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Names functions `async fn(Place)`.
macro_rules! tests {
    ($module:ident: $($name:ident),+ $(,)?) => {
        [$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|place| Box::pin($module::$name(place))) as Test,
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
            run(test, Place::sqlite())
        }));
        trials.push(on_postgres(name, test, &server, ignored, &reason));
    }
    for (name, test) in sqlite() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, Place::sqlite())
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
            run(test, Place::sqlite())
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
        run(test, Place::postgres(server.clone()))
    })
    .with_kind(reason)
    .with_ignored_flag(ignored)
}

fn run(test: Test, place: Place) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let place = place.ready().await;
        let end = place.clone();
        // A task of its own, so that a panic does not skip what comes after.
        let test = tokio::spawn(test(place));
        let outcome = tokio::time::timeout(PATIENCE, test).await;
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
        a_record_comes_back_as_it_was,
        an_id_or_digest_that_is_taken_is_refused,
        an_update_needs_the_revision_and_counts_it_up,
        a_deletion_needs_the_revision,
        a_reserved_name_is_taken_until_it_is_given_up,
        there_are_no_more_tokens_than_allowed,
        a_touch_moves_forward_only,
        many_tokens_are_touched_at_once,
        a_lookup_finds_the_current_and_the_previous_secret,
        a_row_that_makes_no_sense_is_corrupt,
    ));
    all.extend(tests!(listing: every_filter_lists_what_it_means_page_by_page));
    all.extend(tests!(plans: every_filter_uses_an_index, the_lookup_uses_an_index_for_each_digest));
    all.extend(tests!(races:
        one_of_many_gets_a_unique_name,
        many_creators_do_not_exceed_the_limit,
        concurrent_updates_lose_nothing,
        a_digest_is_one_tokens_current_or_another_ones_previous,
        touches_and_updates_do_not_wait_for_each_other_for_ever,
    ));
    all.extend(tests!(opening:
        opening_again_finds_what_was_kept,
        an_idempotency_key_outlives_the_process,
        many_open_an_empty_database_at_once,
        tables_of_a_newer_release_are_refused,
        your_own_pool_is_used,
    ));
    all.extend(tests!(trail:
        events_are_kept_with_their_changes,
        a_refused_change_leaves_no_event,
        without_a_trail_nothing_is_kept,
        client_addresses_are_kept,
        deletes_events_before_a_time_and_no_others,
        deletes_events_beyond_the_retention,
        changes_get_their_turn_while_events_are_deleted,
    ));
    all.extend(tests!(migration:
        version_1_is_migrated_and_keeps_its_tokens,
        an_empty_version_1_is_not_initialized,
        a_migration_that_fails_leaves_version_1,
        many_migrate_one_database_at_once,
        statements_of_version_1_work_on_version_2,
    ));
    all.extend(tests!(closing: a_closed_store_is_unavailable));
    all.extend(tests!(health:
        checks_that_changes_can_be_committed,
        a_write_check_that_cannot_write_fails,
        a_store_is_initialized_once,
    ));
    all.extend(tests!(feed:
        this_process_is_told_before_the_change_returns,
        another_process_is_told,
        a_dropped_store_stops_listening,
    ));
    all.extend(tests!(authority:
        refuses_writes_that_waited_while_their_actor_ended,
        makes_one_of_ten_rotations_by_one_secret,
        keeps_one_of_the_last_two_admins,
        writes_of_each_others_actors_do_not_deadlock,
        revokes_an_actor_that_writes_all_the_time,
    ));
    all.extend(tests!(bulk:
        revokes_thousands_of_tokens_with_their_events,
        other_nodes_learn_of_each_revocation,
        names_of_revoked_tokens_are_free_again,
        one_call_leaves_the_rows_that_single_updates_leave,
    ));
    all.extend(tests!(earlier_release:
        databases_are_listed_and_authenticate,
        tokens_of_databases_are_rotated_and_revoked,
    ));
    all.extend(tests!(sessions: checking_for_writability_changes_nothing));
    all.extend(tests!(faults:
        an_exhausted_pool_is_unavailable_within_the_deadline,
    ));
    #[cfg(feature = "testing")]
    all.extend(tests!(kit: the_conformance_kit_finds_no_broken_rule));
    all.extend(lifecycle());
    all
}

/// The tests of the verbs, as in `tests/lifecycle`.
fn lifecycle() -> Vec<(&'static str, Test)> {
    macro_rules! on_place {
        ($($name:ident),+ $(,)?) => {
            vec![$((
                concat!("lifecycle::", stringify!($name)),
                (|place| Box::pin(async move {
                    verbs::$name(place.registry().await).await;
                })) as Test,
            )),+]
        };
    }
    verbs::every_test!(on_place)
}

/// Run by `.ci/long`.
fn long() -> Vec<(&'static str, Test)> {
    tests!(bulk: revokes_two_hundred_thousand_tokens_in_a_minute).into()
}

/// Run by `.ci/long`.
fn long_on_postgres() -> Vec<(&'static str, Test)> {
    tests!(failover: names_that_move_twenty_times, primaries_that_fail_twenty_times).into()
}

fn sqlite() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(opening:
        the_files_are_for_their_owner_alone,
        a_path_that_cannot_be_is_told_from_a_file_that_is_no_database,
        a_store_in_memory_works_and_is_gone_with_it,
    ));
    all.extend(tests!(feed: changes_that_were_pruned_are_told_as_everything));
    all.extend(tests!(bulk: a_node_misses_nothing_that_was_pruned));
    #[cfg(feature = "file")]
    all.extend(tests!(earlier_release: token_files_are_read));
    #[cfg(feature = "cli")]
    all.extend(tests!(earlier_release: token_files_are_changed_by_svctok));
    all.extend(tests!(closing: the_last_to_close_leaves_one_complete_file));
    all.extend(tests!(health: the_feed_is_connected_while_the_file_can_be_read));
    all.extend(tests!(moved_file:
        changes_to_a_removed_file_fail,
        changes_to_a_replaced_file_fail,
        changes_without_the_write_ahead_log_fail,
        changes_behind_a_link_that_moved_fail,
        a_file_that_is_replaced_during_a_change_fails_it,
        the_pool_of_an_application_is_compared_too,
    ));
    all.extend(tests!(faults:
        a_file_locked_by_another_process_is_unavailable_within_the_deadline,
        changes_work_again_after_a_full_disk,
    ));
    all
}

fn only_postgres() -> Vec<(&'static str, Test)> {
    let mut all = Vec::new();
    all.extend(tests!(opening: no_error_tells_the_password));
    all.extend(tests!(feed: a_lost_connection_is_told_when_it_is_back));
    all.extend(tests!(migration: a_migration_that_waits_blocks_changes_for_two_seconds_at_most));
    all.extend(tests!(failover:
        changes_work_again_after_the_name_led_to_a_standby,
        changes_work_after_a_standby_is_promoted,
        changes_work_after_the_primary_is_killed_and_restarted,
        changes_work_after_a_primary_that_hangs_is_replaced,
        your_own_pool_follows_the_name_too,
        a_server_that_hangs_as_a_connection_is_released_costs_no_place,
    ));
    #[cfg(feature = "tracing")]
    all.extend(tests!(failover: a_feed_is_logged_once_when_it_is_lost_and_when_it_is_back));
    all.extend(tests!(sessions:
        target_session_attrs_accepts_the_servers_it_names,
        a_store_that_wants_a_primary_does_not_use_a_standby,
        a_change_waits_for_a_lock_no_longer_than_its_deadline,
        an_abandoned_operation_ends_on_the_server,
        a_read_only_default_does_not_stop_changes,
        a_change_whose_session_is_ended_is_made_once,
        a_change_whose_commit_is_not_answered_is_not_repeated,
        a_deadline_during_a_commit_leaves_the_outcome_unknown,
    ));
    all.extend(tests!(connections:
        a_slow_statement_costs_its_own_connection_alone,
        an_abandoned_statement_costs_its_own_connection_alone,
        a_read_only_server_costs_no_connection,
        idle_connections_to_a_server_that_hangs_are_replaced,
    ));
    all.extend(tests!(faults:
        killed_connections_are_not_noticed_by_lookups,
        the_store_recovers_when_the_server_is_back,
        a_frozen_server_is_unavailable_within_the_deadline,
        what_was_acknowledged_survives_a_crash_of_the_server,
    ));
    all
}
