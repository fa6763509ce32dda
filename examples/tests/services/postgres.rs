//! Runs the example `postgres` as its documentation describes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt;
use libtest_mimic::Trial;
use test_support::optional_trial::optional_trial;
use test_support::postgres::Postgres;
use test_support::process::{Process, example};
use test_support::stall::Stopwatch;
use test_support::trials::run;

pub(crate) fn trials() -> Vec<Trial> {
    let server = Postgres::shared().map(Arc::new);
    let reason = server.as_ref().err().cloned();
    let name = "postgres::two_nodes_share_a_token_and_its_revocation".to_owned();
    let test = move || {
        run(
            |database: Database| two_nodes_share_a_token_and_its_revocation(database.url).boxed(),
            Database::create(server?),
            Database::remove,
        )
    };
    vec![optional_trial(reason.as_ref(), name, test)]
}

/// A database for one test.
#[derive(Clone)]
struct Database {
    server: Arc<Postgres>,
    url: String,
}

impl Database {
    async fn create(server: Arc<Postgres>) -> Self {
        let url = server.create_database().await;
        Self { server, url }
    }

    async fn remove(self) {
        self.server.drop_database(&self.url).await;
    }
}

async fn two_nodes_share_a_token_and_its_revocation(url: String) {
    let mut command = example("postgres");
    command.env("DATABASE_URL", url);
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
    eprintln!("  postgres: the example: {b_after}");
    // This is far below the 10 s for which a node caches a token.
    let took = Duration::from_millis(millis.parse().expect(b_after));
    assert!(took < Duration::from_secs(5) + stalled, "{b_after}");
}
