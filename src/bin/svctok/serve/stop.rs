//! The signals that stop the service, and the time limits of a stop.
//!
//! By default a stop takes at most 29 s, and Kubernetes kills a process after 30 s: 20 s for
//! requests (`--shutdown-timeout`), 3 s to write the last uses, 4 s to close the store, and 2 s to
//! write the log.

use std::io;
use std::time::Duration;

use tokio::select;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, CtrlShutdown, ctrl_c, ctrl_shutdown};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower_service_token::registry::FlushTask;

use crate::failure::{Failure, FailureKind};
use crate::store_url::OpenedStore;

/// How long writing the last uses may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long closing the store may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// SIGTERM and SIGINT, received from construction on. SIGHUP, which would end the process, is
/// logged and ignored from then on: the service does not reload files, and a terminal that closes
/// does not stop it.
#[cfg(unix)]
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// Ctrl-C and the shutdown of the machine, received from construction on.
#[cfg(windows)]
pub(super) struct StopSignals {
    terminate: CtrlShutdown,
    interrupt: CtrlC,
}

impl StopSignals {
    #[cfg(unix)]
    pub(super) fn register() -> io::Result<Self> {
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::info!("SIGHUP is ignored: restart the service to reload files");
            }
        });
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(windows)]
    pub(super) fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: ctrl_shutdown()?,
            interrupt: ctrl_c()?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Opens the store. Returns nothing if `stop` ends first: the store is then closed once it is open,
/// or abandoned if that takes too long.
pub(super) async fn open_unless_stopped<T>(
    open: impl Future<Output = Result<T, Failure>>,
    stop: impl Future<Output = ()>,
    close: impl AsyncFnOnce(T),
) -> Result<Option<T>, Failure> {
    let mut open = std::pin::pin!(open);
    select! {
        biased;
        () = stop => {}
        opened = &mut open => return opened.map(Some),
    }
    tracing::info!("stopping: the store is not open yet");
    match timeout(CLOSE_TIMEOUT, open).await {
        Ok(Ok(opened)) => close(opened).await,
        Ok(Err(failure)) => tracing::warn!(error = failure.message(), "cannot open the store"),
        Err(_) => tracing::warn!("timed out opening the store"),
    }
    tracing::info!("stopped");
    Ok(None)
}

/// Waits until `serving` ends. Aborts it after `limit`, or when `second_signal` arrives, so that no
/// request uses the store while it closes.
pub(super) async fn drain(
    mut serving: JoinHandle<()>,
    limit: Duration,
    second_signal: impl Future<Output = ()>,
) {
    select! {
        ended = timeout(limit, &mut serving) => {
            if ended.is_ok() {
                return;
            }
            tracing::warn!("timed out: unfinished requests are aborted");
        }
        () = second_signal => tracing::warn!("second signal: unfinished requests are aborted"),
    }
    serving.abort();
    // A task that was aborted returns an error.
    let _ = serving.await;
}

/// Writes the last uses that are still in memory.
pub(super) async fn flush(flush_task: FlushTask) {
    match timeout(FLUSH_TIMEOUT, flush_task.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot write the last uses"),
        Err(_) => tracing::error!("timed out writing the last uses"),
    }
}

/// Closes the store. Returns an error if it cannot be closed within 4 s.
pub(super) async fn close(store: &OpenedStore) -> Result<(), Failure> {
    match timeout(CLOSE_TIMEOUT, store.close()).await {
        Ok(closed) => closed.map_err(|error| {
            Failure::context(FailureKind::Unreachable, "cannot close the store", &error)
        }),
        Err(_) => Err(Failure::new(
            FailureKind::Unreachable,
            "cannot close the store: timed out",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use clap::FromArgMatches;
    use http::Request;
    use hyper::client::conn::{http1, http2};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpStream;
    use tokio::sync::{mpsc, watch};
    use tokio::time::{Instant, sleep};

    use super::super::{logs, server};
    use super::*;
    use crate::args::{self, Cli, Command};

    const LIMIT: Duration = Duration::from_secs(20);

    /// Returns a task that never ends, and an `Arc` that it shares until it is dropped.
    fn stuck() -> (JoinHandle<()>, Arc<()>) {
        let held = Arc::new(());
        let in_task = Arc::clone(&held);
        let task = tokio::spawn(async move {
            pending::<()>().await;
            drop(in_task);
        });
        (task, held)
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_requests_are_aborted_after_the_limit() {
        let (serving, held) = stuck();
        let begun = Instant::now();
        drain(serving, LIMIT, pending()).await;
        assert_eq!(begun.elapsed(), LIMIT);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_requests_are_aborted_by_a_second_signal() {
        let (serving, held) = stuck();
        let begun = Instant::now();
        let signal = sleep(Duration::from_secs(1));
        drain(serving, LIMIT, signal).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn aborted_requests_are_dropped() {
        let (begun, mut started) = mpsc::channel::<mpsc::Sender<()>>(2);
        let app = Router::new().route(
            "/",
            get(async move || {
                let (sender, mut receiver) = mpsc::channel::<()>(1);
                begun.send(sender).await.unwrap();
                receiver.recv().await;
            }),
        );
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server::address(&listener).unwrap();
        let (_stopping, stopped) = watch::channel(false);
        let server = server::Server::new("test", listener, app, server::InFlight::new());
        let serving = tokio::spawn(server.run(stopped));

        let connect = async || TokioIo::new(TcpStream::connect(address).await.unwrap());
        let request = || Request::builder().uri(format!("http://{address}/"));
        let (mut http1, connection) = http1::handshake(connect().await).await.unwrap();
        tokio::spawn(connection);
        let first = request().body(Body::empty()).unwrap();
        tokio::spawn(async move { drop(http1.send_request(first).await) });
        let shaken = http2::handshake(TokioExecutor::new(), connect().await).await;
        let (mut http2, connection) = shaken.unwrap();
        tokio::spawn(connection);
        let second = request().body(Body::empty()).unwrap();
        tokio::spawn(async move { drop(http2.send_request(second).await) });

        let running = [started.recv().await.unwrap(), started.recv().await.unwrap()];
        drain(serving, LIMIT, async {}).await;
        for request in running {
            timeout(LIMIT, request.closed()).await.unwrap();
        }
    }

    #[test]
    fn default_shutdown_takes_less_than_30_s() {
        let matches = args::command().try_get_matches_from(["svctok", "serve"]);
        let cli = Cli::from_arg_matches(&matches.unwrap()).unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("not serve")
        };
        let steps = FLUSH_TIMEOUT + CLOSE_TIMEOUT + logs::FLUSH_TIMEOUT;
        assert_eq!(steps, Duration::from_secs(9));
        assert!(args.shutdown_timeout + steps < Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn closes_a_store_that_opens_after_the_stop() {
        let open = async {
            sleep(Duration::from_secs(2)).await;
            Ok(())
        };
        let is_closed = AtomicBool::new(false);
        let close = async |()| is_closed.store(true, Ordering::SeqCst);
        let stop = sleep(Duration::from_secs(1));
        let opened = open_unless_stopped(open, stop, close).await;
        assert!(matches!(opened, Ok(None)));
        assert!(is_closed.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn unopened_store_delays_the_stop_by_4_s() {
        let begun = Instant::now();
        let open = pending::<Result<(), Failure>>();
        let opened = open_unless_stopped(open, async {}, async |()| {}).await;
        assert!(matches!(opened, Ok(None)));
        assert_eq!(begun.elapsed(), CLOSE_TIMEOUT);
    }
}
