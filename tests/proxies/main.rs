//! Real servers that go by ours: nginx by `auth_request`, with the configuration of the example,
//! and Apache with `mod_oauth2`, by introspection.
//!
//! Where one of them is not installed its tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

#[path = "../support/needs.rs"]
mod needs;
#[path = "../support/port.rs"]
mod port;
#[path = "../support/process.rs"]
#[expect(
    dead_code,
    reason = "only the tests of the examples see a process fail"
)]
mod process;

mod apache;
mod app;
mod commands;
mod daemon;
mod http;
mod nginx;
mod tokens;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use self::daemon::installed;
use self::needs::needs;

/// What must be installed for some tests, and these.
type Group = (&'static str, &'static [&'static str], &'static [Test]);

type Test = (&'static str, fn());

/// Names functions `fn()` of a module.
macro_rules! tests {
    ($module:ident: $($name:ident),+ $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),+]
    };
}

const GROUPS: [Group; 4] = [
    (
        "example",
        &[],
        tests![commands: it_prints_tokens_that_are_worth_what_it_says],
    ),
    (
        "nginx",
        &["/usr/sbin/nginx"],
        tests![nginx:
            a_good_token_gets_through_with_its_identity_and_without_its_secret,
            a_body_goes_to_the_app_alone,
            without_a_good_token_nothing_gets_through,
            a_role_that_is_lacking_is_403,
            no_client_can_send_an_identity_along,
            a_repeated_credential_is_400_and_not_the_first_one,
            too_many_unknown_tokens_are_429_and_known_ones_pass,
            a_client_cannot_choose_the_address_that_its_failures_count_against,
            forwarded_is_read_where_nginx_writes_it,
            a_server_that_is_down_or_hangs_is_503_until_it_is_back,
            an_error_of_the_app_stays_its_own,
        ],
    ),
    (
        "Apache with mod_oauth2",
        &[
            "/usr/sbin/apache2",
            "/usr/lib/apache2/modules/mod_oauth2.so",
        ],
        tests![apache:
            a_good_token_is_accepted_and_described,
            without_a_good_token_nothing_is_served,
            a_role_or_scope_that_is_lacking_is_403,
            a_token_is_refused_as_soon_as_it_is_revoked,
            nothing_is_served_while_the_server_is_down,
        ],
    ),
    (
        "curl",
        &["/usr/bin/curl"],
        tests![commands: the_printed_commands_work_to_the_letter],
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (what, files, tests) in GROUPS {
        let missing = (!installed(files)).then(|| format!("there is no {what}"));
        for &(name, test) in tests {
            let test = move || {
                test();
                Ok(())
            };
            trials.push(needs(missing.as_ref(), name.to_owned(), test));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
