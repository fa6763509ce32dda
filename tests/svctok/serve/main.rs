//! Runs `svctok serve` as a process: bootstrap token, routes, logs, shutdown, and two nodes on one store.
//!
//! Without PostgreSQL, its tests are reported as ignored. With `SERVICE_TOKEN_REQUIRE_SERVICES=1` they
//! fail instead.

mod audit;
#[cfg(feature = "introspection")]
mod authority;
mod blocked_output;
mod bootstrap;
mod client_addresses;
mod compatibility;
mod connections;
mod database;
mod descriptors;
mod disk;
mod environment;
#[cfg(target_os = "linux")]
mod floods;
mod full_disk;
mod http1;
mod intake;
mod limits;
mod lists;
mod logs;
mod lost_store;
mod node;
mod permissions;
mod readiness;
mod redaction;
mod routes;
mod shared_store;
mod shutdown;
mod startup;
mod store_fixture;
mod tls;
mod unknown_tokens;

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::{Arguments, Trial};
use test_support::optional_trial::optional_trial;
use test_support::postgres::Postgres;
use test_support::trials::{run, tests};

use self::store_fixture::StoreFixture;

type Test = fn(StoreFixture) -> BoxFuture<'static, ()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let shared = Postgres::shared().map(Arc::new);
    // Tests must not stop the server that `DATABASE_URL` names.
    let can_stop = match std::env::var_os("DATABASE_URL") {
        None => shared.as_ref().map(drop).map_err(Clone::clone),
        Some(_) => Postgres::private().map(drop),
    };
    let mut trials = Vec::new();
    for (name, test) in sqlite_and_postgres_tests()
        .into_iter()
        .chain(sqlite_tests())
    {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { StoreFixture::sqlite() }, StoreFixture::remove)
        }));
    }
    #[cfg(target_os = "linux")]
    for (name, test) in on_linux() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { StoreFixture::sqlite() }, StoreFixture::remove)
        }));
    }
    // Mounting needs privileges, not a service, so `SERVICE_TOKEN_REQUIRE_SERVICES` does not apply.
    let cannot_mount = disk::check_mount().err();
    for (name, test) in on_a_full_disk() {
        let trial = Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { StoreFixture::sqlite() }, StoreFixture::remove)
        });
        trials.push(match &cannot_mount {
            Some(reason) => trial
                .with_kind(format!("ignored: {reason}"))
                .with_ignored_flag(true),
            None => trial,
        });
    }
    for (name, test) in sqlite_and_postgres_tests() {
        let server = shared.clone();
        let reason = shared.as_ref().err();
        trials.push(optional_trial(
            reason,
            format!("postgres::{name}"),
            move || run(test, StoreFixture::postgres(server?), StoreFixture::remove),
        ));
    }
    for (name, test) in on_a_private_postgres() {
        let reason = can_stop.as_ref().err();
        trials.push(optional_trial(
            reason,
            format!("postgres::{name}"),
            move || {
                let fixture = StoreFixture::postgres(Arc::new(Postgres::private()?));
                run(test, fixture, StoreFixture::remove)
            },
        ));
    }
    #[cfg(feature = "introspection")]
    trials.extend(authority::trials(&shared));
    drop(shared);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Returns the tests that run on SQLite and on PostgreSQL.
fn sqlite_and_postgres_tests() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        audit::changes_record_audit_events,
        audit::command_line_changes_record_audit_events,
        audit::audit_trail_can_be_disabled,
        bootstrap::only_the_first_start_mints_an_administrator,
        bootstrap::concurrent_first_starts_mint_one_token,
        lost_store::purged_store_requires_bootstrap,
        shared_store::changes_reach_the_other_node,
        shared_store::killed_node_loses_no_acknowledged_change,
        shutdown::shutdown_writes_last_used_times,
    ])
}

/// Returns the tests that run on SQLite only.
fn sqlite_tests() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        client_addresses::clients_behind_a_trusted_proxy_have_separate_budgets,
        client_addresses::headers_are_ignored_without_a_trusted_proxy,
        client_addresses::invalid_proxy_network_is_a_usage_error,
        audit::audit_events_are_logged_at_every_level,
        audit::events_older_than_the_retention_are_deleted,
        bootstrap::bootstrap_file_is_private,
        bootstrap::paths_that_name_stdout_print_the_bootstrap_token,
        bootstrap::concurrent_first_starts_with_one_file_mint_one_token,
        bootstrap::existing_bootstrap_file_is_not_overwritten,
        bootstrap::bootstrap_file_works_as_service_token_file,
        bootstrap::lost_administrator_token_can_be_replaced,
        bootstrap::unwritable_bootstrap_file_mints_nothing,
        bootstrap::unprintable_bootstrap_token_is_deleted,
        bootstrap::bootstrap_file_with_a_file_store_is_a_usage_error,
        bootstrap::store_with_only_revoked_tokens_mints_no_token,
        compatibility::serves_the_sts_tool,
        compatibility::serves_the_go_sdk,
        database::database_connections_flag_requires_postgres,
        connections::longest_idle_connection_is_closed_at_the_limit,
        connections::idle_http2_connections_are_closed_at_the_limit,
        connections::address_with_most_connections_keeps_a_quarter,
        connections::idle_connections_do_not_block_metrics,
        connections::requests_succeed_during_a_connection_flood,
        descriptors::default_connection_limit_fits_the_open_file_limit,
        descriptors::oversized_connection_limit_is_a_usage_error,
        descriptors::soft_limit_of_open_files_is_raised,
        descriptors::recovers_from_too_many_open_files,
        unknown_tokens::first_uses_succeed_among_300_unknown_tokens_per_second,
        unknown_tokens::first_uses_succeed_among_3000_unknown_tokens_per_second,
        environment::every_variable_of_the_help_is_tested,
        environment::empty_variables_count_as_unset,
        environment::empty_variable_does_not_satisfy_a_required_flag,
        intake::unusual_credential_headers_get_the_expected_status,
        intake::unread_body_is_never_parsed_as_a_request,
        limits::malformed_input_closes_only_its_connection,
        lists::lists_of_several_pages_are_complete,
        logs::each_request_logs_one_json_line_without_secrets,
        logs::log_format_defaults_to_text,
        logs::closed_stderr_does_not_block_requests,
        logs::invalid_log_filter_is_a_usage_error,
        lost_store::missing_database_is_not_recreated,
        lost_store::bootstrap_accepts_another_database_without_minting,
        lost_store::restored_backup_is_accepted,
        lost_store::version_1_database_is_marked_initialized,
        lost_store::empty_version_1_database_mints_a_token,
        lost_store::changes_fail_when_the_database_is_removed,
        lost_store::changes_fail_when_a_backup_is_moved_over_the_database,
        permissions::warns_about_accessible_files,
        permissions::does_not_warn_about_private_files,
        readiness::readiness_reports_reads_and_writes,
        redaction::log_and_audit_hide_stray_tokens,
        redaction::log_hides_bare_and_split_tokens,
        redaction::log_shows_ids_routes_and_request_ids,
        readiness::token_file_node_is_ready_for_reads_only,
        routes::head_has_no_body_over_http2,
        routes::every_route_group_accepts_every_scheme,
        routes::every_route_group_rejects_missing_tokens,
        routes::unknown_paths_have_errors_of_their_dialect,
        routes::health_and_metrics_need_no_token,
        routes::verify_status_and_prefixes_are_configurable,
        routes::metrics_can_have_their_own_listener_or_be_disabled,
        routes::file_store_serves_only_reads,
        routes::environment_variables_replace_missing_flags,
        routes::serve_rejects_client_flags,
        routes::default_store_is_created_in_the_data_directory,
        shutdown::shutdown_completes_in_flight_requests,
        blocked_output::blocked_log_drops_lines_but_no_requests,
        blocked_output::dropped_problem_lines_are_counted,
        blocked_output::blocked_log_does_not_delay_shutdown,
        blocked_output::failed_start_exits_with_blocked_stderr,
        blocked_output::bootstrap_token_is_deleted_if_stdout_blocks,
        blocked_output::full_log_device_does_not_stop_the_service,
        startup::occupied_address_fails_before_the_store_is_opened,
        startup::unreachable_database_is_named_without_its_password,
        shutdown::shutdown_completes_in_flight_http2_requests,
        shutdown::second_signal_aborts_requests,
        shutdown::shutdown_leaves_one_complete_file,
        shutdown::shutdown_with_a_stuck_request_leaves_one_complete_file,
        shutdown::last_of_two_nodes_leaves_one_complete_file,
        shutdown::commands_leave_one_complete_file,
        shutdown::sighup_is_ignored,
        shutdown::signal_before_the_store_is_open_mints_nothing,
        shutdown::failed_start_leaves_one_complete_file,
        shutdown::shutdown_aborts_unfinished_requests,
        tls::tls_serves_http1_and_http2,
        tls::byte_order_mark_precedes_certificate_and_key,
        tls::unusable_certificate_is_a_usage_error,
        tls::plain_http_is_limited_to_loopback,
    ])
}

/// Returns the tests that read `/proc`.
#[cfg(target_os = "linux")]
fn on_linux() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        floods::unread_responses_do_not_exhaust_memory,
        floods::unread_metrics_do_not_exhaust_memory,
        floods::unfinished_requests_do_not_exhaust_memory,
        floods::unread_http1_responses_do_not_exhaust_memory,
        floods::one_address_does_not_starve_others,
    ])
}

/// Returns the tests that mount a small file system.
fn on_a_full_disk() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        full_disk::full_disk_leaves_token_files_and_contexts_unchanged,
        full_disk::secret_that_cannot_be_written_is_reported_lost,
        readiness::full_disk_fails_the_write_readiness_check,
        readiness::shutdown_on_a_full_disk_fails,
        blocked_output::log_resumes_when_the_disk_has_space,
    ])
}

/// Returns the tests that stop or reconfigure the PostgreSQL server.
fn on_a_private_postgres() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        database::database_connections_limit_the_sessions,
        database::refused_connections_are_logged_with_their_reason,
        readiness::readiness_fails_while_the_store_is_unreachable,
        readiness::outage_is_logged_once_without_requests,
        readiness::read_only_database_fails_the_write_readiness_check,
        readiness::lost_feed_is_reported_and_leaves_the_node_ready,
        unknown_tokens::slow_database_does_not_affect_known_tokens_and_other_addresses,
        shutdown::unresponsive_store_delays_shutdown_by_at_most_9_s,
        lost_store::starts_without_rights_on_the_state_table_if_tokens_exist,
    ])
}
