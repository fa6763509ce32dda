//! Third-party servers that check tokens with the example `introspection_server`: nginx through
//! `auth_request`, with the configuration in `examples/nginx`, and Apache through `mod_oauth2`.

mod apache;
mod app;
mod commands;
mod daemon;
pub(crate) mod http;
mod nginx;
mod tokens;

use libtest_mimic::Trial;
use test_support::optional_trial::optional_trial;

use self::daemon::installed;

/// The programs that some tests need, and those tests.
type TestGroup = (&'static str, &'static [&'static str], &'static [Test]);

type Test = (&'static str, fn());

/// Lists functions `fn()` of a module with their names.
macro_rules! tests {
    ($module:ident: $($name:ident),+ $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),+]
    };
}

const GROUPS: [TestGroup; 4] = [
    (
        "example",
        &[],
        tests![commands: printed_tokens_have_the_stated_rights],
    ),
    (
        "nginx",
        &["/usr/sbin/nginx"],
        tests![nginx:
            valid_token_is_forwarded_as_identity_without_its_secret,
            request_body_reaches_only_the_app,
            invalid_tokens_are_rejected,
            missing_role_is_403,
            path_that_servers_parse_differently_is_400,
            client_supplied_identity_headers_are_removed,
            token_with_many_long_roles_is_forwarded,
            repeated_credential_is_400,
            too_many_unknown_tokens_are_429_but_valid_ones_pass,
            forged_addresses_do_not_escape_the_failure_limit,
            reads_the_forwarded_header_that_nginx_writes,
            unavailable_token_server_is_503_until_it_recovers,
            app_errors_pass_through,
        ],
    ),
    (
        "Apache with mod_oauth2",
        &[
            "/usr/sbin/apache2",
            "/usr/lib/apache2/modules/mod_oauth2.so",
        ],
        tests![apache:
            valid_token_is_accepted_with_its_claims,
            apache_rejects_invalid_tokens,
            missing_role_or_scope_is_403,
            revoked_token_is_rejected_immediately,
            apache_rejects_requests_while_the_token_server_is_down,
        ],
    ),
    (
        "curl",
        &["/usr/bin/curl"],
        tests![commands: printed_commands_succeed_verbatim],
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (program, files, tests) in GROUPS {
        let missing = (!installed(files)).then(|| format!("{program} is not installed"));
        for &(name, test) in tests {
            let test = move || {
                test();
                Ok(())
            };
            trials.push(optional_trial(
                missing.as_ref(),
                format!("proxies::{name}"),
                test,
            ));
        }
    }
    trials
}
