//! Authority over HTTP: a change is made on the caller's rights at the moment it is made, power is
//! never taken over from above, and bulk revocation asks before it revokes much.
//!
//! Each case runs on `svctok serve` over SQLite and PostgreSQL, and in process over a
//! `MemoryStore`. Where there is no PostgreSQL its cases are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../support/postgres.rs"]
mod postgres;

#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../support/process.rs"]
mod process;

#[path = "../support/needs.rs"]
mod needs;
#[path = "../support/trials.rs"]
mod trials;

#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../serve/node.rs"]
mod node;
#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../serve/place.rs"]
mod place;
#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../serve/wire.rs"]
mod wire;

mod actor_names;
mod actor_stores;
mod bulk;
mod connections;
mod last_admin;
mod lifetimes;
mod power;
mod refusal;
mod reserved_scopes;
mod rotations;
mod site;
mod slow_bodies;
mod slow_revocations;
mod unread_bodies;

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::{Arguments, Trial};

use self::needs::needs;
use self::place::Place;
use self::postgres::Postgres;
use self::site::Site;
use self::trials::{run, tests};

type Test = fn(Arc<Site>) -> BoxFuture<'static, ()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let server = Postgres::shared().map(Arc::new);
    let mut trials = Vec::new();
    for (name, test) in everywhere().into_iter().chain(in_process()) {
        trials.push(Trial::test(format!("memory::{name}"), move || {
            run(test, Site::memory(), Site::remove)
        }));
    }
    for (name, test) in everywhere() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, Site::node(Place::sqlite()), Site::remove)
        }));
        let server = server.clone();
        let reason = server.as_ref().err().cloned();
        trials.push(needs(
            reason.as_ref(),
            format!("postgres::{name}"),
            move || {
                let place = Place::postgres(server?);
                run(test, async { Site::node(place.await).await }, Site::remove)
            },
        ));
    }
    drop(server);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn everywhere() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        slow_bodies::a_caller_that_ends_while_its_body_arrives_changes_nothing,
        slow_bodies::an_administrator_that_ends_leaves_no_administrator_behind,
        slow_bodies::rotating_its_own_token_needs_no_scope,
        slow_bodies::introspection_ends_with_its_caller,
        slow_bodies::disabling_does_not_wait_for_a_body,
        slow_revocations::a_secret_rotated_away_meanwhile_revokes_nothing,
        slow_revocations::a_disabled_token_is_revoked_by_its_secret,
        rotations::a_secret_rotated_away_does_not_complete_a_rotation,
        rotations::one_of_ten_self_rotations_succeeds,
        rotations::one_of_ten_self_rotations_with_grace_succeeds,
        rotations::one_secret_of_ten_rotations_by_an_administrator_works,
        rotations::a_previous_secret_rotates_at_the_current_revision_only,
        rotations::a_recovery_ends_the_lost_secret_and_keeps_the_presented_one,
        unread_bodies::an_unauthenticated_body_is_not_read,
        unread_bodies::the_pipeops_api_keeps_a_connection_after_64_kib_at_most,
        power::a_stronger_token_is_changed_on_no_path,
        power::a_stronger_token_is_counted_as_forbidden_in_bulk,
        power::a_token_is_not_stripped_to_be_taken_over,
        last_admin::the_last_administrator_is_ended_only_when_confirmed,
        last_admin::a_confirmed_update_strips_it,
        last_admin::a_confirmed_update_postpones_it,
        last_admin::a_confirmed_request_disables_it,
        last_admin::a_confirmed_request_revokes_it,
        last_admin::a_confirmed_request_revokes_itself,
        last_admin::the_last_administrator_is_never_ended_in_bulk,
        last_admin::the_dialects_never_end_the_last_administrator,
        last_admin::the_last_administrator_is_revoked_by_its_secret,
        last_admin::confirmation_is_read_strictly,
        last_admin::of_two_requests_that_end_the_last_two_one_succeeds,
        lifetimes::a_new_token_never_outlives_its_creator,
        lifetimes::an_update_never_extends_beyond_the_caller,
        lifetimes::a_longer_lived_token_is_renamed_and_neither_rotated_nor_enabled,
        lifetimes::the_dialects_bound_lifetimes_alike,
        reserved_scopes::leading_wildcards_do_not_reach_reserved_scopes,
        reserved_scopes::reserved_names_and_lone_wildcards_do,
        reserved_scopes::leading_wildcards_do_not_grant_reserved_scopes,
        bulk::a_filter_that_matches_everything_needs_expect,
        bulk::more_than_half_needs_expect,
        bulk::more_than_100_need_expect,
        bulk::the_callers_own_token_is_revoked_last,
        actor_names::a_token_is_named_by_its_kind_and_id,
        actor_names::idempotency_keys_belong_to_one_caller,
        actor_names::a_replay_is_refused_once_the_caller_ended,
        connections::each_request_of_a_kept_connection_is_judged,
        connections::a_revocation_reaches_streams_of_an_open_http2_connection,
    ])
}

fn in_process() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        actor_names::an_operator_named_like_a_token_is_not_that_token,
        actor_stores::without_a_declared_store_nothing_is_changed,
        actor_stores::a_token_removed_from_its_file_meanwhile_changes_nothing,
        actor_stores::a_token_of_another_store_is_not_its_namesake,
        actor_stores::what_a_declared_store_says_of_the_registrys_tokens_is_not_used,
        actor_stores::an_introspection_from_before_an_outage_changes_nothing,
        actor_stores::an_introspected_token_that_became_inactive_changes_nothing,
        actor_stores::a_remembered_introspection_is_not_enough_for_a_change,
        bulk::a_hundred_of_a_thousand_need_no_expect,
    ])
}
