//! An order service over HTTP, with its relay.
//!
//! ```sh
//! eval "$(cargo xtask up)"                 # Postgres and Kafka, and their addresses in the environment
//! cargo run --example orders               # serves on ORDERS_ADDRESS, 127.0.0.1:3000, and publishes
//! curl -d '{"customer": "alice", "item": "apples"}' -H 'content-type: application/json' localhost:3000/orders
//! ```
//!
//! `cargo run --example orders -- serve` and `cargo run --example orders -- relay` are the two as
//! separate processes.

mod service;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, Relay};
use service::{Order, OrderError, OrderService, PlaceOrder};
use sqlx::Postgres;
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    let role = std::env::args().nth(1);
    let (serves, relays) = match role.as_deref() {
        None => (true, true),
        Some("serve") => (true, false),
        Some("relay") => (false, true),
        Some(other) => {
            return Err(
                format!("`{other}` is neither `serve` nor `relay`; without it, both").into()
            );
        }
    };

    let database = setting("DATABASE_URL")?;
    // Lazily: `migrate` or the relay is the first to need a connection, and their errors say what
    // to look for.
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy(&database)?;
    let outbox = Outbox::new(pool);
    if serves {
        // Not the relay: with a mistyped schema or prefix it would create tables that no service
        // writes to.
        outbox.migrate().await?;
        service::create_tables(&outbox).await?;
    }

    let stop = on_signal()?;
    let relay = async {
        if relays {
            let publisher =
                KafkaPublisher::builder(KafkaConfig::from_env()?).source("/orders").build()?;
            Relay::new(outbox.clone(), publisher).run(stopped(stop.clone())).await?;
        }
        Ok::<_, Failure>(())
    };
    let server = async {
        if serves {
            serve(outbox.clone(), stopped(stop.clone())).await?;
        }
        Ok::<_, Failure>(())
    };
    tokio::try_join!(relay, server)?;
    Ok(())
}

async fn serve(
    outbox: Outbox<Postgres>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let address = std::env::var("ORDERS_ADDRESS").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    tracing::info!("orders are taken at http://{}/orders", listener.local_addr()?);
    let app = axum::Router::new()
        .route("/orders", post(place_order))
        .route("/health", get(async || "ok"))
        .with_state(Arc::new(OrderService::new(outbox)));
    Ok(axum::serve(listener, app).with_graceful_shutdown(stopped).await?)
}

async fn place_order(
    State(service): State<Arc<OrderService>>,
    Json(order): Json<PlaceOrder>,
) -> Result<(StatusCode, Json<Order>), (StatusCode, String)> {
    match service.place_order(order).await {
        Ok(order) => Ok((StatusCode::CREATED, Json(order))),
        Err(error @ OrderError::NotSold(_)) => {
            Err((StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, "order not placed");
            // Asked again with the same id, the order is placed once.
            Err((
                StatusCode::SERVICE_UNAVAILABLE,
                "the order could not be placed, try again".to_owned(),
            ))
        }
    }
}

fn setting(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| {
        format!("{name} is not set: `eval \"$(cargo xtask up)\"` starts servers and sets it").into()
    })
}

/// A flag that Ctrl-C or SIGTERM sets. A second signal ends the process at once, which loses
/// nothing.
fn on_signal() -> Result<watch::Receiver<bool>, Failure> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        for code in [None, Some(130)] {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            if let Some(code) = code {
                std::process::exit(code);
            }
            stop.send_replace(true);
        }
    });
    Ok(stopped)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
