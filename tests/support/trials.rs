//! Tests with a resource that is removed afterwards.

use std::time::Duration;

use futures::future::BoxFuture;
use libtest_mimic::Failed;
use tokio::runtime::{Builder, Runtime};

/// The timeout of most tests, longer than they take on a busy machine.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(180);

/// Converts functions `async fn(Resource)` to named values of the type `Test`, which the test crate
/// defines.
#[macro_export]
macro_rules! tests {
    ($($module:ident::$name:ident),+ $(,)?) => {
        [$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|resource| $module::$name(resource).boxed()) as Test,
        )),+]
    };
}

pub use crate::tests;

/// Runs a test with a resource, and removes the resource even if the test fails.
pub fn run<P: Clone>(
    test: fn(P) -> BoxFuture<'static, ()>,
    resource: impl Future<Output = P>,
    remove: impl AsyncFnOnce(P),
) -> Result<(), Failed> {
    run_with_timeout(TRIAL_TIMEOUT, test, resource, remove)
}

/// Like [`run`], with a timeout.
pub fn run_with_timeout<P: Clone>(
    timeout: Duration,
    test: fn(P) -> BoxFuture<'static, ()>,
    resource: impl Future<Output = P>,
    remove: impl AsyncFnOnce(P),
) -> Result<(), Failed> {
    let outcome = runtime().block_on(async {
        let resource = resource.await;
        let removed = resource.clone();
        // A separate task, so that a panic does not skip the removal.
        let test = tokio::spawn(test(resource));
        let outcome = tokio::time::timeout(timeout, test).await;
        remove(removed).await;
        outcome
    });
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed::from(error.to_string())),
        Err(_) => Err(Failed::from("the test timed out")),
    }
}

/// Returns the runtime of a trial. Code outside of trials may use it, too.
pub fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}
