//! [`IntrospectionStore`](tower_service_token::store::IntrospectionStore) against a real authorization
//! server, plain and over TLS with a private certificate authority; see
//! `tests/peers/oidc-provider/server.mjs`.
//!
//! Where there is no `node`, or nothing was installed by
//! `npm ci --prefix tests/peers/oidc-provider`, the tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

#[expect(
    dead_code,
    reason = "only the tests of the examples see a process fail"
)]
#[path = "../support/process.rs"]
mod process;

mod answers;
mod authentication;
#[cfg(feature = "tracing")]
#[path = "../leak/capture.rs"]
mod capture;
mod certificates;
mod clients;
mod discovery;
mod example;
mod guarded;
mod outage;
mod server;
mod site;
mod trust;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use libtest_mimic::{Arguments, Failed, Trial};

use self::site::Site;

type Test = fn(Arc<Site>) -> LocalBoxFuture<'static, ()>;

/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of a deadline is a busy machine's.
const SLACK: Duration = Duration::from_millis(300);

/// Names functions `async fn(Arc<Site>)`.
macro_rules! tests {
    ($($module:ident: [$($name:ident),+ $(,)?]),+ $(,)?) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($name)),
            (|site| $module::$name(site).boxed_local()) as Test,
        )),+),+]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let required = std::env::var_os("SERVICE_TOKEN_REQUIRE_SERVICES").is_some_and(|it| it == "1");
    let (plain, tls) = match Site::both() {
        Ok([plain, tls]) => (Ok(plain), Ok(tls)),
        Err(reason) => (Err(reason.clone()), Err(reason)),
    };
    let mut trials = Vec::new();
    for (scheme, site, own) in [("plain", plain, on_plain()), ("tls", tls, on_tls())] {
        for (name, test) in on_both().into_iter().chain(logged()).chain(own) {
            let ignored = site.as_ref().err().filter(|_| !required);
            let kind = ignored.map(|reason| format!("ignored: {reason}"));
            let ignored = kind.is_some();
            let site = site.clone();
            let run = move || run(test, site?);
            trials.push(
                Trial::test(format!("{scheme}::{name}"), run)
                    .with_kind(kind.unwrap_or_default())
                    .with_ignored_flag(ignored),
            );
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(test: Test, site: Arc<Site>) -> Result<(), Failed> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    let test = async { tokio::time::timeout(PATIENCE, test(site)).await };
    let ended = runtime.block_on(test);
    ended.map_err(|_| Failed::from("the test does not end"))
}

/// Asks until it is so: for what another process does in its own time.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(15);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < end, "it does not come to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn on_both() -> Vec<(&'static str, Test)> {
    tests! {
        answers: [
            an_active_token_is_its_principal,
            a_users_token_has_the_user_as_subject,
            roles_come_from_the_claim_that_is_named,
            a_scope_that_is_lacking_is_forbidden,
            a_token_for_another_audience_is_refused,
            a_token_of_another_issuer_is_refused,
            a_token_that_is_bound_to_a_key_is_refused,
            a_revoked_token_is_refused_within_the_ttl,
            without_a_memory_a_revoked_token_is_refused_at_once,
            a_token_that_is_forgotten_is_asked_about_anew,
            an_expired_token_is_refused,
            what_is_remembered_of_a_token_ends_with_the_token,
            an_unknown_token_is_refused,
            what_cannot_be_a_token_is_not_asked_about,
            a_token_full_of_separators_arrives_as_one_value,
            a_jwt_shaped_token_is_refused_and_opens_no_breaker,
            a_hint_is_sent_only_if_it_is_configured,
            many_requests_with_one_token_ask_once,
            more_tokens_than_lookups_at_a_time_are_all_looked_up,
        ],
        authentication: [
            basic_works,
            basic_works_with_special_characters,
            basic_unencoded_is_not_understood_where_it_must_be_encoded,
            post_works_with_special_characters,
            a_signed_assertion_works,
            an_assertion_may_name_its_key_and_other_audiences,
            the_issuer_is_the_audience_by_default,
            each_request_bears_an_assertion_of_its_own,
            a_wrong_secret_is_our_fault_not_the_callers,
            a_wrong_key_is_our_fault_not_the_callers,
            rejected_credentials_open_no_breaker_and_are_not_tried_twice,
            a_bearer_token_is_not_understood_by_this_server,
        ],
        discovery: [
            the_endpoint_is_found_in_the_oauth_metadata,
            the_endpoint_is_found_in_the_openid_metadata,
            the_issuer_that_was_found_is_the_audience_of_assertions,
            metadata_of_another_issuer_are_refused,
            a_server_that_does_not_answer_is_an_error_in_time,
        ],
        example: [
            every_way_to_authenticate_works,
            callers_are_let_in_or_refused_as_documented,
            an_answer_is_good_for_as_long_as_configured,
            a_secret_that_is_wrong_is_503_and_told_to_the_operator,
            it_needs_no_restart_when_the_server_does,
        ],
        outage: [
            a_hung_server_is_unavailable_within_the_deadline,
            a_deadline_of_ones_own_is_kept,
            a_server_that_is_gone_and_comes_back_is_used_again,
            a_restart_between_two_requests_is_not_noticed,
            a_server_killed_while_it_is_asked_is_unavailable,
            after_many_failures_the_server_is_left_alone_for_a_while,
            what_is_remembered_outlives_the_server_for_its_time_to_live,
            a_stale_answer_is_given_only_if_that_was_asked_for,
        ],
    }
}

#[cfg(not(feature = "tracing"))]
fn logged() -> Vec<(&'static str, Test)> {
    Vec::new()
}

#[cfg(feature = "tracing")]
fn logged() -> Vec<(&'static str, Test)> {
    tests! { authentication: [rejected_credentials_are_an_error_in_the_log] }
}

fn on_plain() -> Vec<(&'static str, Test)> {
    tests! {
        trust: [
            tls_to_a_server_without_it_is_unavailable,
            plain_http_must_be_allowed_and_only_to_loopback,
        ],
    }
}

fn on_tls() -> Vec<(&'static str, Test)> {
    tests! {
        trust: [
            an_authority_that_was_added_is_trusted_by_name_and_address,
            one_of_several_authorities_that_were_added_will_do,
            an_unknown_authority_is_not_trusted,
            another_authority_is_not_trusted,
            a_certificate_for_another_host_is_not_trusted,
            an_expired_certificate_is_not_trusted,
            plain_http_to_a_server_with_tls_is_unavailable,
        ],
    }
}
