//! Tests of the examples that need other programs: `curl`, PostgreSQL, an authorization server, nginx,
//! Apache, Node.js.
//!
//! Tests whose program is missing are reported as ignored. With `SERVICE_TOKEN_REQUIRE_SERVICES=1` they
//! fail instead.

mod curl;
#[cfg(all(feature = "introspection", feature = "rustls"))]
mod introspection;
#[cfg(feature = "api")]
mod mcp;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod postgres;
#[cfg(feature = "api")]
mod proxies;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    #[cfg_attr(not(feature = "api"), expect(unused_mut, reason = "nothing is added"))]
    let mut trials = curl::trials();
    #[cfg(all(feature = "introspection", feature = "rustls"))]
    trials.extend(introspection::trials());
    #[cfg(all(feature = "postgres", feature = "sqlite"))]
    trials.extend(postgres::trials());
    #[cfg(feature = "api")]
    trials.extend(mcp::trials());
    #[cfg(feature = "api")]
    trials.extend(proxies::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
