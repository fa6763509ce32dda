//! Several processes that share their tokens, by SQLite and PostgreSQL: what one changes the others
//! go by, and what was acknowledged outlives whoever is killed.
//!
//! A node is a process: this binary, started anew with its [orders](orders) in the environment.
//!
//! Where there is no PostgreSQL its tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
#[path = "../support/postgres.rs"]
mod postgres;

#[expect(dead_code, reason = "only the tests of the examples signal a process")]
#[path = "../support/process.rs"]
mod process;

#[path = "../support/needs.rs"]
mod needs;
#[path = "../support/stall.rs"]
#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
mod stall;
#[path = "../support/trials.rs"]
mod trials;

mod contender;
mod crash;
mod example;
mod ledger;
mod mutator;
mod node;
mod orders;
mod outage;
mod place;
mod revocation;
mod server;
mod sharing;

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::{Arguments, Trial};

use self::needs::needs;
use self::orders::{Orders, Role};
use self::place::Place;
use self::postgres::Postgres;
use self::trials::{run, runtime, tests};

type Test = fn(Place) -> BoxFuture<'static, ()>;

fn main() -> ExitCode {
    if let Some(orders) = Orders::given() {
        runtime().block_on(async {
            match &orders.role {
                Role::Server => server::serve(orders).await,
                Role::Mutator => mutator::run(&orders).await,
                Role::Contender { .. } => contender::run(&orders).await,
            }
        });
        return ExitCode::SUCCESS;
    }

    let arguments = Arguments::from_args();
    let shared = Postgres::shared().map(Arc::new);
    // The server of `DATABASE_URL` is not for us to stop.
    let can_stop = match std::env::var_os("DATABASE_URL") {
        None => shared.as_ref().map(drop).map_err(Clone::clone),
        Some(_) => Postgres::private().map(drop),
    };
    let mut trials = Vec::new();
    for (name, test) in on_both() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(test, async { Place::sqlite() }, Place::remove)
        }));
    }
    for (name, test) in on_both().into_iter().chain(on_postgres()) {
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
        revocation::a_token_revoked_on_one_node_is_refused_on_the_other,
        revocation::other_changes_reach_the_other_node_too,
        revocation::a_token_that_was_unknown_works_once_it_is_imported,
        sharing::what_two_processes_do_at_once_is_all_there,
        crash::what_a_killed_process_was_told_is_there_and_nothing_half_done,
    ])
}

fn on_postgres() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        example::two_nodes_share_a_token_and_its_revocation,
        revocation::without_the_feed_the_time_to_live_is_the_bound,
        revocation::a_feed_that_is_cut_all_the_time_does_not_hide_a_revocation,
    ])
}

fn on_a_private_postgres() -> Vec<(&'static str, Test)> {
    Vec::from(tests![
        outage::after_a_restart_the_nodes_and_their_feeds_recover,
        outage::an_outage_under_load_is_never_a_bad_token,
        outage::what_is_remembered_outlives_the_server_for_its_time_to_live,
        outage::a_frozen_server_is_503_in_time_and_200_for_what_is_remembered,
        crash::what_was_acknowledged_before_the_server_crashed_is_there,
    ])
}
