//! [`IntrospectionStore`](tower_service_token::store::IntrospectionStore) against real authorization
//! servers, plain and over TLS with a private certificate authority; see `tests/peers`.
//!
//! Where one is not installed, as `.ci/run` does it, its tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

#[expect(
    dead_code,
    reason = "only the tests of the examples see a process fail"
)]
#[path = "../support/process.rs"]
mod process;

mod answers;
mod authentication;
#[path = "../leak/capture.rs"]
mod capture;
#[path = "../support/certificates.rs"]
mod certificates;
mod clients;
mod discovery;
mod example;
mod guarded;
#[path = "../support/log.rs"]
mod log;
mod outage;
mod peer;
#[path = "../support/port.rs"]
mod port;
mod server;
mod site;
#[path = "../support/stall.rs"]
#[expect(dead_code, reason = "other tests of this crate use the rest of it")]
mod stall;
mod trust;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use libtest_mimic::{Arguments, Failed, Trial};

use self::peer::{DJANGO, OIDC_PROVIDER};
use self::site::Site;

type Run = fn(Arc<Site>) -> LocalBoxFuture<'static, ()>;

struct Test {
    name: &'static str,
    /// The one it is for, if not for both.
    scheme: Option<&'static str>,
    run: Run,
}

/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of a deadline is a busy machine's.
const SLACK: Duration = Duration::from_millis(300);

/// Names functions `async fn(Arc<Site>)`.
macro_rules! tests {
    ($($module:ident: [$($name:ident),+ $(,)?]),+ $(,)?) => {
        tests!(None => $($module: [$($name),+]),+)
    };
    ($scheme:expr => $($module:ident: [$($name:ident),+ $(,)?]),+ $(,)?) => {
        vec![$($(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            scheme: $scheme,
            run: |site| $module::$name(site).boxed_local(),
        }),+),+]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let required = std::env::var_os("SERVICE_TOKEN_REQUIRE_SERVICES").is_some_and(|it| it == "1");
    let mut trials = Vec::new();
    for (peer, tests) in [(&OIDC_PROVIDER, on_oidc_provider()), (&DJANGO, on_django())] {
        let [plain, tls] = match Site::both(peer) {
            Ok(sites) => sites.map(Ok),
            Err(reason) => [Err(reason.clone()), Err(reason)],
        };
        for (scheme, site) in [("plain", plain), ("tls", tls)] {
            let own = tests
                .iter()
                .filter(|it| it.scheme.is_none_or(|it| it == scheme));
            for &Test { name, run, .. } in on_each().iter().chain(own) {
                let ignored = site.as_ref().err().filter(|_| !required);
                let kind = ignored.map(|reason| format!("ignored: {reason}"));
                let ignored = kind.is_some();
                let name = format!("{}::{scheme}::{name}", peer.name);
                let site = site.clone();
                trials.push(
                    Trial::test(name, move || run_on(site?, run))
                        .with_kind(kind.unwrap_or_default())
                        .with_ignored_flag(ignored),
                );
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run_on(site: Arc<Site>, test: Run) -> Result<(), Failed> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    let test = async { tokio::time::timeout(PATIENCE, test(site)).await };
    let ended = runtime.block_on(test);
    ended.map_err(|_| Failed::from("the test does not end"))
}

/// Asks until it is so: for what another process does in its own time.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < end, "it does not come to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is true of every authorization server.
fn on_each() -> Vec<Test> {
    let mut tests = tests! {
        answers: [
            an_active_token_is_its_principal,
            a_scope_that_is_lacking_is_forbidden,
            a_revoked_token_is_refused_within_the_ttl,
            without_a_memory_a_revoked_token_is_refused_at_once,
            a_token_that_is_forgotten_is_asked_about_anew,
            an_expired_token_is_refused,
            what_is_remembered_of_a_token_ends_with_the_token,
            an_unknown_token_is_refused,
            what_cannot_be_a_token_is_not_asked_about,
            a_token_full_of_separators_arrives_as_one_value,
            a_jwt_shaped_token_is_refused_and_opens_no_breaker,
            a_hint_does_not_hide_a_token,
            many_requests_with_one_token_ask_once,
            more_tokens_than_lookups_at_a_time_are_all_looked_up,
        ],
        authentication: [
            basic_works,
            basic_works_with_special_characters,
            post_works_with_special_characters,
            a_wrong_secret_is_our_fault_not_the_callers,
            rejected_credentials_open_no_breaker_and_are_not_tried_twice,
        ],
        discovery: [the_endpoint_is_found_in_the_oauth_metadata],
        example: [
            every_way_to_authenticate_works,
            callers_are_let_in_or_refused_as_documented,
            the_endpoint_is_discovered,
            an_answer_is_good_for_as_long_as_configured,
            a_secret_that_is_wrong_is_503_and_told_to_the_operator,
        ],
        outage: [
            a_hung_server_is_unavailable_within_the_deadline,
            a_server_that_is_gone_and_comes_back_is_used_again,
        ],
    };
    if cfg!(feature = "tracing") {
        tests.extend(tests! { authentication: [rejected_credentials_are_an_error_in_the_log] });
    }
    tests
}

fn on_oidc_provider() -> Vec<Test> {
    let mut tests = tests! {
        answers: [
            a_users_token_has_the_user_as_subject,
            roles_come_from_the_claim_that_is_named,
            a_token_for_another_audience_is_refused,
            a_token_of_another_issuer_is_refused,
            a_token_that_is_bound_to_a_key_is_refused,
            a_real_jwt_is_answered_with_400_and_refused,
        ],
        authentication: [
            basic_unencoded_is_not_understood_where_it_must_be_encoded,
            a_signed_assertion_works,
            an_assertion_may_name_its_key_and_other_audiences,
            the_issuer_is_the_audience_by_default,
            each_request_bears_an_assertion_of_its_own,
            a_wrong_key_is_our_fault_not_the_callers,
            a_bearer_token_is_not_understood_by_this_server,
        ],
        discovery: [
            the_endpoint_is_found_in_the_openid_metadata,
            the_issuer_that_was_found_is_the_audience_of_assertions,
            metadata_of_another_issuer_are_refused,
            a_server_that_does_not_answer_is_an_error_in_time,
        ],
        example: [rules_of_ones_own_hold, it_needs_no_restart_when_the_server_does],
        outage: [
            a_server_that_hangs_has_the_whole_deadline,
            a_restart_between_two_requests_is_not_noticed,
            a_server_killed_while_it_is_asked_is_unavailable,
            after_many_failures_the_server_is_left_alone_for_a_while,
            what_is_remembered_outlives_the_server_for_its_time_to_live,
            a_stale_answer_is_given_only_if_that_was_asked_for,
        ],
    };
    tests.extend(tests! { Some("plain") =>
        trust: [
            tls_to_a_server_without_it_is_unavailable,
            plain_http_must_be_allowed_and_only_to_loopback,
        ],
    });
    tests.extend(tests! { Some("tls") =>
        trust: [
            an_authority_that_was_added_is_trusted_by_name_and_address,
            one_of_several_authorities_that_were_added_will_do,
            an_unknown_authority_is_not_trusted,
            another_authority_is_not_trusted,
            a_certificate_for_another_host_is_not_trusted,
            an_expired_certificate_is_not_trusted,
            plain_http_to_a_server_with_tls_is_unavailable,
        ],
    });
    tests
}

fn on_django() -> Vec<Test> {
    tests! {
        answers: [an_issuer_that_is_required_must_be_named],
        authentication: [
            a_bearer_token_works,
            a_bearer_token_without_the_right_to_ask_is_rejected,
        ],
        example: [a_bearer_token_works],
    }
}
