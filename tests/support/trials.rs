//! Tests with a resource of their own.

use std::time::Duration;

use futures::future::BoxFuture;
use libtest_mimic::Failed;
use tokio::runtime::{Builder, Runtime};

/// Longer than any test takes on a busy machine.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(180);

/// Names functions `async fn(Place)` as `Test`s, which is a type of the test crate's own.
#[macro_export]
macro_rules! tests {
    ($($module:ident::$name:ident),+ $(,)?) => {
        [$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|place| $module::$name(place).boxed()) as Test,
        )),+]
    };
}

pub use crate::tests;

/// Runs a test with a resource and removes the resource in any case.
pub fn run<P: Clone>(
    test: fn(P) -> BoxFuture<'static, ()>,
    place: impl Future<Output = P>,
    remove: impl AsyncFnOnce(P),
) -> Result<(), Failed> {
    let outcome = runtime().block_on(async {
        let place = place.await;
        let end = place.clone();
        // A separate task, so that a panic does not skip the removal.
        let test = tokio::spawn(test(place));
        let outcome = tokio::time::timeout(TRIAL_TIMEOUT, test).await;
        remove(end).await;
        outcome
    });
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed::from(error.to_string())),
        Err(_) => Err(Failed::from("the test does not end")),
    }
}

/// For code that is not a trial, too.
pub fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}
