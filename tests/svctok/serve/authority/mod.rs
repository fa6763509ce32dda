//! Authorization of changes over HTTP.
//!
//! The service checks the rights of the caller at the time of the change. A caller cannot grant or gain
//! rights that it does not have. A large bulk revocation requires the expected number of tokens.
//!
//! Each case runs on `svctok serve` with SQLite and PostgreSQL, and in process with a `MemoryStore`.
//! Without PostgreSQL, its cases are reported as ignored. With `SERVICE_TOKEN_REQUIRE_SERVICES=1` they
//! fail instead.

mod actor_names;
mod actor_stores;
mod bulk;
mod connections;
mod error_responses;
mod last_admin;
mod lifetimes;
mod reserved_scopes;
mod rotations;
mod service;
mod slow_bodies;
mod slow_revocations;
mod uncovered_tokens;
mod unread_bodies;

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::Trial;
use test_support::optional_trial::optional_trial;
use test_support::postgres::Postgres;
use test_support::trials::{run, tests};

use self::service::TestService;
use crate::store_fixture::StoreFixture;

type Test = fn(Arc<TestService>) -> BoxFuture<'static, ()>;

/// Returns the trials. `server` is the shared PostgreSQL, or the reason why there is none.
pub(crate) fn trials(server: &Result<Arc<Postgres>, String>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, test) in on_each_store().into_iter().chain(in_process_only()) {
        trials.push(Trial::test(
            format!("memory::authority::{name}"),
            move || run(test, TestService::memory(), TestService::remove),
        ));
    }
    for (name, test) in on_each_store() {
        trials.push(Trial::test(
            format!("sqlite::authority::{name}"),
            move || {
                run(
                    test,
                    TestService::node(StoreFixture::sqlite()),
                    TestService::remove,
                )
            },
        ));
        let server = server.clone();
        let reason = server.as_ref().err().cloned();
        trials.push(optional_trial(
            reason.as_ref(),
            format!("postgres::authority::{name}"),
            move || {
                let fixture = StoreFixture::postgres(server?);
                run(
                    test,
                    async { TestService::node(fixture.await).await },
                    TestService::remove,
                )
            },
        ));
    }
    trials
}

/// Returns the tests that run on each store.
fn on_each_store() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        slow_bodies::rejects_change_if_caller_loses_authority_while_body_arrives,
        slow_bodies::rejects_creating_administrator_after_caller_loses_authority,
        slow_bodies::rotating_the_callers_own_token_needs_no_scope,
        slow_bodies::rejects_introspection_after_caller_loses_authority,
        slow_bodies::disabling_does_not_wait_for_a_body,
        slow_revocations::superseded_secret_revokes_nothing,
        slow_revocations::revokes_disabled_token_by_its_secret,
        rotations::superseded_secret_cannot_complete_rotation,
        rotations::concurrent_self_rotations_allow_one,
        rotations::concurrent_self_rotations_with_grace_allow_one,
        rotations::concurrent_administrator_rotations_leave_one_valid_secret,
        rotations::previous_secret_rotates_only_at_current_revision,
        rotations::recovery_rotation_invalidates_lost_secret_and_keeps_presented_one,
        unread_bodies::does_not_read_body_of_unauthenticated_request,
        unread_bodies::pipeops_api_drains_at_most_64_kib_to_keep_connection,
        uncovered_tokens::rejects_changes_to_uncovered_tokens_by_every_operation,
        uncovered_tokens::bulk_preview_counts_uncovered_tokens_as_forbidden,
        uncovered_tokens::rejects_removing_rights_from_uncovered_token,
        last_admin::last_administrator_removal_requires_confirmation,
        last_admin::confirmed_update_removes_admin_scope,
        last_admin::confirmed_update_postpones_last_administrator,
        last_admin::confirmed_request_disables_last_administrator,
        last_admin::confirmed_request_revokes_last_administrator,
        last_admin::last_administrator_revokes_itself_when_confirmed,
        last_admin::bulk_revocation_never_removes_last_administrator,
        last_admin::dialects_never_remove_last_administrator,
        last_admin::revokes_last_administrator_by_its_secret,
        last_admin::rejects_malformed_confirmation,
        last_admin::concurrent_removals_of_last_two_administrators_allow_one,
        lifetimes::new_token_never_outlives_its_creator,
        lifetimes::update_never_extends_a_token_beyond_the_caller,
        lifetimes::longer_lived_token_can_be_renamed_but_not_rotated_or_enabled,
        lifetimes::dialects_limit_lifetimes_to_the_callers,
        reserved_scopes::leading_wildcards_do_not_cover_reserved_scopes,
        reserved_scopes::reserved_names_and_lone_wildcards_cover_reserved_scopes,
        reserved_scopes::leading_wildcards_do_not_grant_reserved_scopes,
        bulk::filter_matching_all_tokens_needs_expect,
        bulk::filter_matching_over_half_of_tokens_needs_expect,
        bulk::filter_matching_over_100_tokens_needs_expect,
        bulk::callers_own_token_is_revoked_last,
        actor_names::audit_names_token_actors_by_kind_and_id,
        actor_names::idempotency_keys_are_scoped_to_the_caller,
        actor_names::rejects_replay_after_caller_loses_authority,
        connections::authenticates_each_request_on_a_kept_alive_connection,
        connections::revocation_reaches_streams_of_an_open_http2_connection,
    ])
}

/// Returns the tests that need access to the service in this process.
fn in_process_only() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        actor_names::operator_name_cannot_impersonate_token,
        actor_stores::rejects_changes_by_tokens_of_undeclared_store,
        actor_stores::rejects_changes_after_token_is_removed_from_file,
        actor_stores::distinguishes_tokens_with_same_id_in_different_stores,
        actor_stores::ignores_declared_store_for_registry_tokens,
        actor_stores::rejects_changes_based_on_stale_introspection,
        actor_stores::rejects_changes_after_introspected_token_becomes_inactive,
        actor_stores::changes_require_fresh_introspection,
        bulk::filter_matching_100_of_1000_tokens_needs_no_expect,
    ])
}
