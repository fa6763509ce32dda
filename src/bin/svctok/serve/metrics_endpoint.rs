use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use super::health::{self, Health};
use super::server::{self, EnforceBudget, InFlight, Server};
use crate::args::MetricsListen;
use crate::failure::{Failure, FailureKind};

/// Buckets in seconds, from a response out of memory to one that waits for a slow database.
const BUCKETS: [f64; 12] = [
    0.000_001, 0.000_01, 0.000_1, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0,
];

const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Where the metrics are served, in the format of Prometheus.
pub(super) enum MetricsEndpoint {
    Disabled,
    Shared(PrometheusHandle),
    Separate(PrometheusHandle, TcpListener),
}

impl MetricsEndpoint {
    /// Installs the recorder of metrics, and binds a separate address.
    pub(super) async fn install(at: Option<MetricsListen>) -> Result<Self, Failure> {
        Ok(match at {
            Some(MetricsListen::Off) => Self::Disabled,
            None => Self::Shared(install_recorder()?),
            Some(MetricsListen::Address(address)) => {
                let listener = server::bind(address).await?;
                Self::Separate(install_recorder()?, listener)
            }
        })
    }

    /// Returns the routes for the shared address. Serves a separate address until the process ends, so
    /// that it also reports that the service stops.
    pub(super) fn routes(
        self,
        health: &Arc<Health>,
        in_flight: &Arc<InFlight>,
    ) -> Result<Router, Failure> {
        match self {
            Self::Disabled => Ok(Router::new()),
            Self::Shared(handle) => Ok(metrics_route(handle)),
            Self::Separate(handle, listener) => {
                tracing::info!("metrics on http://{}", server::address(&listener)?);
                let app = metrics_route(handle).merge(health::routes(health));
                let app = EnforceBudget::new(app);
                let server = Server::new("metrics", listener, app, Arc::clone(in_flight));
                let (never, unstopped) = watch::channel(false);
                tokio::spawn(async move {
                    server.run(unstopped).await;
                    drop(never);
                });
                Ok(Router::new())
            }
        }
    }
}

fn install_recorder() -> Result<PrometheusHandle, Failure> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS);
    let recorder = builder
        .expect("the list of buckets is not empty")
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| {
        Failure::context(FailureKind::Rejected, "cannot record metrics", &error)
    })?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

fn metrics_route(handle: PrometheusHandle) -> Router {
    let last = Mutex::new(None);
    let rendering = Arc::new(SharedRender { handle, last });
    let render = async |State(rendering): State<Arc<SharedRender>>| {
        let content_type = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
        (content_type, rendering.get().await)
    };
    Router::new()
        .route("/metrics", get(render))
        .with_state(rendering)
}

/// The text of all metrics, rendered once for all requests that wait for it.
struct SharedRender {
    handle: PrometheusHandle,
    /// When the last rendering began, and its text.
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl SharedRender {
    /// Returns a text whose rendering began after the call.
    async fn get(&self) -> Bytes {
        let called = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((begun, text)) = &*last
            && *begun > called
        {
            return text.clone();
        }
        let begun = Instant::now();
        let text = Bytes::from(self.handle.render());
        *last = Some((begun, text.clone()));
        text
    }
}
