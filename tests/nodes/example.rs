//! The example `postgres`, run as its documentation says.

use std::time::Duration;

use crate::database::TestDatabase;
use crate::process::{Process, example};
use crate::stall::Stopwatch;

pub(crate) async fn two_nodes_share_a_token_and_its_revocation(database: TestDatabase) {
    let mut command = example("postgres");
    command.env("DATABASE_URL", database.store("example"));
    let watch = Stopwatch::start();
    let run = move || Process::spawn(&mut command).finish().succeeded();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let stalled = watch.stalled();
    let lines: Vec<&str> = output.lines().collect();
    let [created, b_before, revoked, a_after, b_after] = lines[..] else {
        panic!("{output}");
    };
    let id = created.strip_prefix("node a: created ").expect(created);
    assert_eq!(b_before, "node b: 200 OK");
    assert_eq!(revoked, format!("node a: revoked {id}"));
    assert_eq!(a_after, "node a: 401 Unauthorized");
    let millis = b_after.strip_prefix("node b: 401 Unauthorized, ");
    let millis = millis.and_then(|it| it.split(' ').next()).expect(b_after);
    database.report(&format!("the example: {b_after}"));
    // Far below the 10 s that a node remembers.
    let took = Duration::from_millis(millis.parse().expect(b_after));
    assert!(took < Duration::from_secs(5) + stalled, "{b_after}");
}
