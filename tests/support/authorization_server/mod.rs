//! Starts the authorization servers in `tests/peers` for a test.

pub mod clients;
pub mod deployment;
pub mod peer;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use libtest_mimic::Failed;

use self::deployment::Deployment;

/// Longer than any test takes on a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs a test with a deployment.
pub fn run_on(
    deployment: Arc<Deployment>,
    test: fn(Arc<Deployment>) -> LocalBoxFuture<'static, ()>,
) -> Result<(), Failed> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    let test = async { tokio::time::timeout(TEST_TIMEOUT, test(deployment)).await };
    let outcome = runtime.block_on(test);
    outcome.map_err(|_| Failed::from("the test timed out"))
}

/// Repeats a check until it succeeds, because the effects of another process take time.
pub async fn wait_until(mut condition: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < end,
            "timed out waiting for the condition"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
