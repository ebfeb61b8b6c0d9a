//! `outbox exporter`.

use std::net::SocketAddr;
use std::time::Duration;

use outbox::OutboxDatabase;
use outbox::consume::OpenDeadLetters;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::connect::{self, with_outbox};
use crate::context::Context;
use crate::failure::Failure;
use crate::http::{Metrics, Server};
use crate::signals::Stop;
use crate::values;

/// Connections to the database: it asks one thing after the other.
const CONNECTIONS: u32 = 1;
/// Longest time of one count of the dead letters. The next one continues where it ended.
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// Reports how far the relays are as metrics for Prometheus, until it is interrupted
///
/// Relays report the same, but only while one runs: what the alerts on waiting events are made of
/// should come from here. It waits while the database is away, and reports that it is. If brokers
/// are named, it reports how many dead letters are open as well.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it answers /metrics, /livez and /readyz
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "OUTBOX_EXPORTER_HTTP",
        default_value = "0.0.0.0:9464"
    )]
    pub http: SocketAddr,
    /// Time between two looks into the database
    #[arg(long, value_name = "DURATION", env = "OUTBOX_EXPORTER_EVERY", default_value = "5s", value_parser = values::positive_duration)]
    pub every: Duration,
    /// Time between two counts of the dead letters
    #[arg(long, value_name = "DURATION", env = "OUTBOX_EXPORTER_DEAD_LETTERS_EVERY", default_value = "60s", value_parser = values::positive_duration)]
    pub dead_letters_every: Duration,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    let metrics = Metrics::install()?;
    // It ends when this is dropped.
    let mut counting = JoinSet::new();
    if context.names_brokers() {
        let open = OpenDeadLetters::new(context.kafka()?).topic_prefix(context.topic_prefix());
        counting.spawn(count_dead_letters(open, args.dead_letters_every));
    }
    with_outbox!(connect::unconnected(&context.settings, CONNECTIONS)?, outbox => {
        export(args, metrics, &outbox, stop).await
    })
}

async fn export<DB: OutboxDatabase>(
    args: &Args,
    metrics: Metrics,
    outbox: &outbox::Outbox<DB>,
    stop: Stop,
) -> Result<(), Failure> {
    let mut gauges = outbox.gauges();
    let _server = Server::start(args.http, metrics, None).await?;
    let mut tick = interval(args.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.asked() => return Ok(()),
            _ = tick.tick() => {}
        }
        let set = tokio::select! {
            () = stop.asked() => return Ok(()),
            set = gauges.set() => set,
        };
        match set {
            Ok(_) if failing => {
                failing = false;
                tracing::info!("the outbox can be read again");
            }
            Ok(_) => {}
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "the outbox cannot be read: it is tried again, and `outbox_database_up` is 0");
            }
            Err(error) => tracing::debug!(%error, "the outbox still cannot be read"),
        }
    }
}

async fn count_dead_letters(mut open: OpenDeadLetters, every: Duration) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        let failed = match timeout(COUNTED_WITHIN, open.count()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it took longer than {COUNTED_WITHIN:?}")),
        };
        let fails = failed.is_some();
        match failed {
            None if failing => tracing::info!("the dead letters are counted again"),
            Some(error) if !failing => {
                tracing::warn!(error, "the dead letters are not all counted: it is tried again");
            }
            None => {}
            Some(error) => tracing::debug!(error, "the dead letters are still not all counted"),
        }
        failing = fails;
    }
}
