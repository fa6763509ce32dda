//! [`IntrospectionStore`](tower_service_token::introspection::IntrospectionStore) against the real
//! authorization servers in `tests/peers`, over plain HTTP and over TLS with a private certificate
//! authority.
//!
//! `.ci/run` installs the servers. The tests of a server that is not installed are reported as
//! ignored. They fail instead if `SERVICE_TOKEN_REQUIRE_SERVICES=1` is set.

mod authentication;
mod discovery;
mod outage;
mod protected_service;
mod responses;
mod trust;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use libtest_mimic::Arguments;
use test_support::authorization_server::deployment::Deployment;
use test_support::authorization_server::peer::{DJANGO, OIDC_PROVIDER};
use test_support::authorization_server::run_on;
use test_support::optional_trial::optional_trial;

type Run = fn(Arc<Deployment>) -> LocalBoxFuture<'static, ()>;

struct Test {
    name: &'static str,
    /// `plain` or `tls` if the test applies to only one of them.
    scheme: Option<&'static str>,
    run: Run,
}

/// Additional time that a busy machine may need.
const SLACK: Duration = Duration::from_millis(300);

/// Lists functions `async fn(Arc<Deployment>)` with their names as `Test`s.
macro_rules! tests {
    ($($module:ident: [$($name:ident),+ $(,)?]),+ $(,)?) => {
        tests!(None => $($module: [$($name),+]),+)
    };
    ($scheme:expr => $($module:ident: [$($name:ident),+ $(,)?]),+ $(,)?) => {
        vec![$($(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            scheme: $scheme,
            run: |deployment| $module::$name(deployment).boxed_local(),
        }),+),+]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (peer, tests) in [
        (&OIDC_PROVIDER, oidc_provider_tests()),
        (&DJANGO, django_tests()),
    ] {
        let [plain, tls] = match Deployment::plain_and_tls(peer) {
            Ok(deployments) => deployments.map(Ok),
            Err(reason) => [Err(reason.clone()), Err(reason)],
        };
        for (scheme, deployment) in [("plain", plain), ("tls", tls)] {
            let scheme_tests = tests
                .iter()
                .filter(|it| it.scheme.is_none_or(|it| it == scheme));
            for &Test { name, run, .. } in common_tests().iter().chain(scheme_tests) {
                let name = format!("{}::{scheme}::{name}", peer.name);
                let reason = deployment.as_ref().err();
                let deployment = deployment.clone();
                trials.push(optional_trial(reason, name, move || {
                    run_on(deployment?, run)
                }));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Returns the tests for every authorization server.
fn common_tests() -> Vec<Test> {
    let mut tests = tests! {
        responses: [
            active_token_yields_its_principal,
            missing_scope_is_forbidden,
            rejects_a_revoked_token_within_the_ttl,
            without_a_cache_revocation_is_immediate,
            invalidated_token_is_introspected_again,
            rejects_an_expired_token,
            cached_entry_ends_with_the_token,
            rejects_an_unknown_token,
            malformed_tokens_cause_no_call,
            token_with_separators_is_sent_as_one_value,
            rejects_a_jwt_shaped_token_without_opening_the_breaker,
            token_type_hint_does_not_prevent_lookup,
            concurrent_requests_for_one_token_share_one_call,
            more_tokens_than_permits_are_all_looked_up,
        ],
        authentication: [
            basic_credentials_are_accepted,
            basic_credentials_with_special_characters_are_accepted,
            post_credentials_with_special_characters_are_accepted,
            wrong_client_secret_is_503,
            rejected_credentials_are_not_retried_and_do_not_open_the_breaker,
        ],
        discovery: [finds_the_endpoint_in_oauth_metadata],
        outage: [
            hanging_server_is_unavailable_within_the_deadline,
            recovers_after_an_outage,
        ],
    };
    if cfg!(feature = "tracing") {
        tests.extend(tests! { authentication: [rejected_credentials_are_logged_as_an_error] });
    }
    tests
}

fn oidc_provider_tests() -> Vec<Test> {
    let mut tests = tests! {
        responses: [
            user_token_has_the_user_as_subject,
            reads_roles_from_the_configured_claim,
            rejects_a_token_for_another_audience,
            rejects_a_token_of_another_issuer,
            rejects_a_key_bound_token,
            rejects_a_jwt_if_the_server_responds_400,
        ],
        authentication: [
            server_rejects_unencoded_basic_credentials,
            signed_assertion_is_accepted,
            assertion_supports_key_id_and_other_audiences,
            assertion_audience_defaults_to_the_issuer,
            each_call_sends_a_new_assertion,
            wrong_client_key_is_503,
            server_rejects_bearer_client_authentication,
        ],
        discovery: [
            finds_the_endpoint_in_openid_metadata,
            discovered_issuer_is_the_assertion_audience,
            rejects_the_metadata_of_another_issuer,
            discovery_of_a_silent_server_times_out,
        ],
        outage: [
            request_to_hanging_server_lasts_until_the_deadline,
            request_succeeds_after_a_server_restart,
            server_killed_during_a_call_is_unavailable,
            repeated_failures_open_the_breaker,
            cached_tokens_are_accepted_for_ttl_during_outage,
            serves_stale_entries_only_if_configured,
        ],
    };
    tests.extend(tests! { Some("plain") =>
        trust: [
            tls_to_a_plain_server_is_unavailable,
            plain_http_requires_opt_in_and_loopback,
        ],
    });
    tests.extend(tests! { Some("tls") =>
        trust: [
            trusts_an_added_root_by_name_and_address,
            trusts_any_of_several_added_roots,
            rejects_an_unknown_root,
            rejects_another_root,
            rejects_a_certificate_for_another_host,
            rejects_an_expired_certificate,
            plain_http_to_a_tls_server_is_unavailable,
        ],
    });
    tests
}

fn django_tests() -> Vec<Test> {
    tests! {
        responses: [required_issuer_must_be_present],
        authentication: [
            bearer_token_is_accepted,
            bearer_token_without_introspection_rights_is_rejected,
        ],
    }
}
