//! Streams in Chromium: a WebSocket and an `EventSource` connect with a ticket, a second use is refused,
//! and a revocation closes both.
//!
//! A page of the test server opens the streams and reports to the server what happened. If Chromium is
//! not installed, the tests are reported as ignored, or fail if `SERVICE_TOKEN_REQUIRE_SERVICES=1` is
//! set. `.ci/run` installs it.

mod chromium;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use libtest_mimic::{Arguments, Failed};
use test_support::optional_trial::optional_trial;
use test_support::trials::runtime;
use tokio::time::timeout;
use tower_service_token::lifecycle::TokenUpdate;

use self::chromium::Chromium;
use self::server::Server;

/// Longer than a browser takes to start on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

type Test = fn() -> BoxFuture<'static, ()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = Chromium::find().err();
    let tests: [(&str, Test); 2] = [
        ("a_revocation_closes_both_streams", || {
            a_revocation_closes_both_streams().boxed()
        }),
        ("narrowed_rights_close_both_streams", || {
            narrowed_rights_close_both_streams().boxed()
        }),
    ];
    let trials = tests.map(|(name, test)| {
        let reason = missing.clone();
        let run = move || match reason {
            Some(reason) => Err(Failed::from(reason)),
            None => runtime()
                .block_on(async { timeout(TIMEOUT, tokio::spawn(test())).await })?
                .map_err(Failed::from),
        };
        optional_trial(missing.as_ref(), name.to_owned(), run)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// Opens both streams in a browser, and checks that they are open and cannot be opened again.
async fn opened() -> (Server, Chromium) {
    let mut server = Server::start().await;
    let browser = Chromium::open(&server.url);
    // The page uses each ticket twice, and reports in this order.
    for expected in [
        "events: message hello dashboard",
        "events again: refused",
        "socket: open chat.v1",
        "socket: message hello dashboard",
        "socket again: refused",
        "token in query: refused",
        "ready",
    ] {
        assert_eq!(server.report().await, expected);
    }
    (server, browser)
}

async fn both_close(mut server: Server, reason: &str) {
    let mut reports = [server.report().await, server.report().await];
    reports.sort();
    let expected = [
        format!("events: end {reason}"),
        format!("socket: close 1008 {reason}"),
    ];
    assert_eq!(reports, expected);
}

async fn a_revocation_closes_both_streams() {
    let (server, _browser) = opened().await;
    server.tokens.revoke(server.token).await.unwrap();
    both_close(server, "revoked").await;
}

async fn narrowed_rights_close_both_streams() {
    let (server, _browser) = opened().await;
    let update = TokenUpdate::new().with_scopes(["jobs:none"]);
    server.tokens.update(server.token, update).await.unwrap();
    both_close(server, "rights_changed").await;
}
