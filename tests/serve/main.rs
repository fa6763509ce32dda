//! `svctok serve` as a process: its first token, its routes, its log, its end, and two of them on one
//! PostgreSQL.
//!
//! Where there is no PostgreSQL its tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../support/postgres.rs"]
mod postgres;

#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../support/process.rs"]
mod process;

#[path = "../support/needs.rs"]
mod needs;
#[path = "../support/stall.rs"]
#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
mod stall;
#[path = "../support/trials.rs"]
mod trials;

#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../support/certificates.rs"]
mod certificates;

mod addresses;
mod audit;
mod bootstrap;
mod connections;
mod descriptors;
mod dialects;
#[cfg(target_os = "linux")]
mod floods;
mod disk;
mod junk;
mod limits;
mod logs;
mod lost_store;
mod node;
mod nodes;
mod permissions;
mod place;
mod readiness;
mod routes;
mod stalled;
mod starting;
mod stopping;
mod tls;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::{Arguments, Trial};

use self::needs::needs;
use self::place::Place;
use self::postgres::Postgres;
use self::trials::{run, tests};

type Test = fn(Place) -> BoxFuture<'static, ()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let shared = Postgres::shared().map(Arc::new);
    // The server of `DATABASE_URL` is not for us to stop.
    let can_stop = match std::env::var_os("DATABASE_URL") {
        None => shared.as_ref().map(drop).map_err(Clone::clone),
        Some(_) => Postgres::private().map(drop),
    };
    let mut trials = Vec::new();
    for (name, test) in on_both().into_iter().chain(on_sqlite()) {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { Place::sqlite() }, Place::remove)
        }));
    }
    #[cfg(target_os = "linux")]
    for (name, test) in on_linux() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { Place::sqlite() }, Place::remove)
        }));
    }
    // Not a service: where nothing may be mounted, CI does without as well.
    let cannot_mount = disk::can_be_mounted().err();
    for (name, test) in on_a_full_disk() {
        let trial = Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { Place::sqlite() }, Place::remove)
        });
        trials.push(match &cannot_mount {
            Some(reason) => trial
                .with_kind(format!("ignored: {reason}"))
                .with_ignored_flag(true),
            None => trial,
        });
    }
    for (name, test) in on_both() {
        let server = shared.clone();
        let reason = shared.as_ref().err();
        trials.push(needs(reason, format!("postgres::{name}"), move || {
            run(test, Place::postgres(server?), Place::remove)
        }));
    }
    for (name, test) in on_a_private_postgres() {
        let reason = can_stop.as_ref().err();
        trials.push(needs(reason, format!("postgres::{name}"), move || {
            let place = Place::postgres(Arc::new(Postgres::private()?));
            run(test, place, Place::remove)
        }));
    }
    drop(shared);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn on_both() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        audit::changes_leave_events_in_the_store,
        audit::changes_from_the_command_line_leave_events_in_the_store,
        audit::an_audit_trail_can_be_switched_off,
        bootstrap::the_first_start_mints_an_administrator_and_no_other_does,
        bootstrap::of_first_starts_at_once_one_mints,
        lost_store::a_purged_store_gets_an_administrator_only_by_bootstrap,
        nodes::what_is_changed_on_one_node_holds_on_the_other,
        nodes::what_a_killed_node_acknowledged_is_there_and_nothing_half_made,
        stopping::last_uses_are_written_at_the_end,
    ])
}

fn on_sqlite() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        addresses::behind_a_trusted_proxy_each_client_has_its_own_budget,
        addresses::without_a_trusted_proxy_no_header_is_read,
        addresses::a_proxy_that_is_no_network_is_a_usage_error,
        audit::audit_events_are_logged_at_every_level,
        audit::events_older_than_the_retention_are_deleted,
        bootstrap::the_file_is_for_its_owner_alone,
        bootstrap::of_first_starts_at_once_with_one_file_one_mints,
        bootstrap::a_file_that_is_there_is_not_overwritten,
        bootstrap::the_file_is_what_the_commands_take,
        bootstrap::who_lost_the_token_mints_another_on_the_store,
        bootstrap::what_cannot_be_written_is_not_minted,
        bootstrap::what_cannot_be_shown_is_taken_back,
        bootstrap::a_file_has_no_first_token,
        bootstrap::a_store_of_revoked_tokens_is_not_empty,
        dialects::the_calls_of_the_sts_tool_are_answered,
        dialects::the_calls_of_the_go_sdk_are_answered,
        connections::the_longest_idle_makes_room,
        connections::http2_connections_that_answer_pings_make_room,
        connections::an_address_keeps_no_more_than_its_share,
        connections::idle_connections_do_not_keep_others_from_metrics,
        connections::a_request_in_flight_survives_a_flood_of_connections,
        descriptors::a_default_limit_shrinks_to_the_open_files,
        descriptors::an_explicit_limit_that_does_not_fit_is_a_usage_error,
        descriptors::the_soft_limit_is_raised,
        descriptors::too_many_open_files_are_too_many_for_a_while,
        junk::first_uses_succeed_among_300_unknown_tokens_per_second,
        junk::first_uses_succeed_among_3000_unknown_tokens_per_second,
        limits::nonsense_on_a_connection_ends_that_connection_alone,
        logs::each_request_has_a_line_of_json_and_no_line_a_secret,
        logs::a_log_is_text_unless_asked_otherwise,
        logs::a_log_that_nobody_reads_keeps_no_request_from_its_answer,
        logs::a_filter_that_is_none_is_a_usage_error,
        lost_store::a_missing_database_is_not_replaced_by_an_empty_one,
        lost_store::another_database_is_accepted_by_bootstrap_and_mints_nothing,
        lost_store::a_restored_backup_is_the_same_store,
        lost_store::a_database_of_version_1_is_marked_at_the_first_start,
        lost_store::an_empty_database_of_version_1_is_new,
        lost_store::changes_fail_when_the_database_is_removed,
        lost_store::changes_fail_when_a_backup_is_moved_over_the_database,
        permissions::files_that_others_can_write_or_read_are_warned_about,
        permissions::files_of_their_owner_alone_are_not_warned_about,
        readiness::readiness_says_what_works,
        readiness::a_token_file_is_ready_for_reads_alone,
        routes::each_group_takes_each_credential,
        routes::each_group_refuses_who_has_none,
        routes::health_and_metrics_need_no_token,
        routes::metrics_can_have_an_address_of_their_own_or_none,
        routes::a_file_is_asked_and_not_changed,
        routes::the_environment_says_what_no_flag_does,
        routes::what_names_a_server_is_not_for_a_server,
        routes::without_a_store_one_is_made_in_the_data_directory,
        stopping::a_request_in_flight_is_answered,
        stalled::a_log_that_stalls_costs_lines_and_no_answers,
        stalled::dropped_problems_are_reported_with_their_number,
        stalled::a_log_that_stalls_does_not_hold_up_the_end,
        stalled::a_failed_start_ends_although_nobody_reads_why,
        stalled::a_bootstrap_token_that_nobody_takes_is_deleted,
        stalled::a_log_on_a_full_device_stops_nothing,
        starting::an_address_that_is_taken_leaves_the_store_alone,
        starting::a_database_that_cannot_be_reached_is_named_without_its_password,
        stopping::an_http2_request_in_flight_is_answered_over_tls,
        stopping::a_second_signal_does_not_wait,
        stopping::a_stop_leaves_one_complete_file,
        stopping::a_stop_with_a_stuck_request_leaves_one_complete_file,
        stopping::the_last_of_two_nodes_leaves_one_complete_file,
        stopping::commands_leave_one_complete_file,
        stopping::a_hangup_stops_nothing,
        stopping::a_stop_before_the_store_is_open_mints_nothing,
        stopping::a_failed_start_leaves_one_complete_file,
        stopping::a_request_that_does_not_end_is_not_waited_for,
        tls::both_protocols_are_spoken_over_tls,
        tls::a_certificate_that_cannot_work_is_a_usage_error,
        tls::without_tls_only_loopback_is_listened_on,
    ])
}

/// What reads `/proc`.
#[cfg(target_os = "linux")]
fn on_linux() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        floods::unread_responses_do_not_fill_the_memory,
        floods::unread_metrics_do_not_fill_the_memory,
        floods::unfinished_requests_do_not_fill_the_memory,
        floods::unread_http1_responses_do_not_fill_the_memory,
        floods::one_address_does_not_occupy_what_others_need,
    ])
}

/// Needs to mount a file system.
fn on_a_full_disk() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        readiness::a_full_disk_makes_writes_unready,
        readiness::a_stop_on_a_full_disk_is_not_a_clean_one,
        stalled::a_log_goes_on_when_its_disk_has_room_again,
    ])
}

fn on_a_private_postgres() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        readiness::a_node_is_ready_while_its_store_can_be_asked,
        readiness::an_outage_is_logged_once_although_nobody_asks,
        readiness::a_read_only_server_makes_writes_unready,
        readiness::a_lost_feed_is_told_and_leaves_a_node_ready,
        junk::a_slow_database_has_room_for_remembered_tokens_and_other_addresses,
        stopping::a_store_that_hangs_delays_a_stop_by_9_s_at_most,
        lost_store::a_role_without_rights_on_the_state_starts_on_a_store_with_tokens,
    ])
}
