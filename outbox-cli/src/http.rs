//! What a long-running command answers over HTTP: `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use outbox::observe::{self, Health};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::failure::Failure;

/// Connections that are served at the same time. The others wait.
const CONNECTIONS: usize = 32;
/// Time for the headers of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Time after which a connection is closed, whatever it does.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted, as when the process has no more files.
const PAUSE_AFTER_AN_ERROR: Duration = Duration::from_millis(100);
/// Time between two rounds in which the values of histograms are added up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Has this process keep metrics. Before outboxes and relays are built, which then report
    /// zeros.
    pub fn install() -> Result<Self, Failure> {
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in observe::BUCKETS {
            let name = Matcher::Full((*name).to_owned());
            builder = builder.set_buckets_for_metric(name, buckets).map_err(Failure::failed)?;
        }
        let handle = builder.install_recorder().map_err(Failure::failed)?;
        observe::describe();
        Ok(Self(handle))
    }
}

/// The server. It ends when this is dropped.
pub struct Server {
    _tasks: JoinSet<()>,
}

impl Server {
    /// Listens at `address`, and answers from now on. `health`: of the relay; without, the process
    /// is ready and live as long as it answers.
    pub async fn start(
        address: SocketAddr,
        metrics: Metrics,
        health: Option<Health>,
    ) -> Result<Self, Failure> {
        let cannot = |error| {
            Failure::failed(format!(
                "cannot listen at {address} (`--http`): {error}. Nothing was started"
            ))
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_up(metrics.clone()));
        tasks.spawn(serve(listener, router(metrics, health)));
        tracing::info!(%address, "answers /livez, /readyz and /metrics");
        Ok(Self { _tasks: tasks })
    }
}

fn router(metrics: Metrics, health: Option<Health>) -> Router {
    let answer = |yes: bool| match yes {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "no\n"),
    };
    let ready = health.clone();
    let livez = move || {
        let live = health.as_ref().is_none_or(Health::is_live);
        async move { answer(live) }
    };
    let readyz = move || {
        let ready = ready.as_ref().is_none_or(Health::is_ready);
        async move { answer(ready) }
    };
    let scrape = move || {
        let text = metrics.0.render();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
}

/// Without, histograms would keep each value until the next scrape.
async fn keep_up(metrics: Metrics) {
    let mut tick = interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        metrics.0.run_upkeep();
    }
}

async fn serve(listener: TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    // The semaphore is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    // Whoever asked has gone, or is too slow.
                    drop(timeout(CONNECTION_WITHIN, connection(stream, router)).await);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(PAUSE_AFTER_AN_ERROR).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}
