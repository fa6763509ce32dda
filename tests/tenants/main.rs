//! An application whose users log in by password and manage their own tokens, over PostgreSQL.
//!
//! Where there is no PostgreSQL its tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

mod application;
mod browser;
mod isolation;
mod sessions;

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::Arguments;
use test_support::optional_trial::optional_trial;
use test_support::postgres::Postgres;
use test_support::trials::{run, tests};

use self::application::TestDatabase;

type Test = fn(TestDatabase) -> BoxFuture<'static, ()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let server = Postgres::shared().map(Arc::new);
    let tests: [(&str, Test); 9] = tests![
        isolation::tenants_see_only_their_own_tokens,
        isolation::tokens_of_other_tenants_are_not_found,
        isolation::bulk_revocations_count_and_revoke_only_own_tokens,
        isolation::names_and_limits_are_per_tenant,
        isolation::tokens_work_at_the_protected_route_until_they_end,
        sessions::requests_without_a_session_change_nothing,
        sessions::sessions_that_end_before_the_write_change_nothing,
        sessions::logouts_during_the_body_change_nothing,
        sessions::forms_of_other_sites_change_nothing,
    ];
    let mut trials = Vec::new();
    for (name, test) in tests {
        let server = server.clone();
        let reason = server.as_ref().err().cloned();
        trials.push(optional_trial(
            reason.as_ref(),
            name.to_owned(),
            move || run(test, TestDatabase::new(server?), TestDatabase::remove),
        ));
    }
    drop(server);
    libtest_mimic::run(&arguments, trials).exit_code()
}
