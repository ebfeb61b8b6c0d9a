//! `outbox relay run`: a complete relay process.

use std::net::SocketAddr;
use std::time::Duration;

use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, OutboxDatabase, Relay};
use serde::Serialize;

use super::delivery::{AnyRelay, Delivers, Options};
use super::topics::{Expected, Files};
use crate::args::Secret;
use crate::connect::{self, with_outbox};
use crate::context::Context;
use crate::failure::Failure;
use crate::http::{Metrics, Server};
use crate::signals::Stop;
use crate::text::counted;
use crate::values;

/// Connections of the relay's pool: for its start and its maintenance. It reads and publishes over
/// connections of its own.
const CONNECTIONS: u32 = 2;
/// Pause between two attempts to migrate while the database is away.
const MIGRATE_AGAIN: Duration = Duration::from_secs(1);

/// Publish what is committed, until SIGTERM or SIGINT
///
/// Run as many as you like: they share the lanes of the outbox. A relay waits for a database or a
/// broker that is away. Asked to stop, it finishes what is in flight and gives its lanes back; asked
/// twice, it ends at once, and what was in flight is published again by the next one.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of the relay")]
pub struct Args {
    /// Publishes what is committed by now, and ends
    #[arg(long)]
    once: bool,
    /// Creates the tables first, or brings them to this version
    #[arg(long, env = "OUTBOX_RELAY_MIGRATE", hide_env_values = true)]
    migrate: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    delivery: Options,
    /// How long published events are kept, to be replayed [default: 0]
    #[arg(long, env = "OUTBOX_RELAY_RETENTION", hide_env_values = true, value_name = "DURATION", value_parser = values::duration)]
    retention: Option<Duration>,
    /// How long a dead relay keeps its lanes [default: 5s]
    #[arg(long, env = "OUTBOX_RELAY_LEASE", hide_env_values = true, value_name = "DURATION", value_parser = values::positive_duration)]
    lease: Option<Duration>,
    /// Number of refusals after which an event is parked [default: 5]
    #[arg(long, env = "OUTBOX_RELAY_PARK_AFTER", hide_env_values = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    park_after: Option<u32>,
    /// Time after which parked events are tried again [default: 30s]
    #[arg(long, env = "OUTBOX_RELAY_RETRY_PARKED", hide_env_values = true, value_name = "DURATION", value_parser = values::positive_duration)]
    retry_parked: Option<Duration>,
    /// Longest time that a stop waits for what is in flight [default: 10s]
    #[arg(long, env = "OUTBOX_RELAY_DRAIN_TIMEOUT", hide_env_values = true, value_name = "DURATION", value_parser = values::duration)]
    drain_timeout: Option<Duration>,
    /// Longest time until it looks for events by itself [default: 250ms]
    #[arg(long, env = "OUTBOX_RELAY_POLL_INTERVAL", hide_env_values = true, value_name = "DURATION", value_parser = values::positive_duration)]
    poll_interval: Option<Duration>,
    /// Most events of a lane that it reads at once [default: 750]
    #[arg(long, env = "OUTBOX_RELAY_BATCH_EVENTS", hide_env_values = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    batch_events: Option<u32>,
    /// Most mebibytes of events that it holds in memory [default: 64]
    #[arg(long, env = "OUTBOX_RELAY_MEMORY", hide_env_values = true, value_name = "MEBIBYTES", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    memory: Option<u64>,
    /// The `ce_source` of the events: a URI reference that names the service [default: /outbox]
    #[arg(long, env = "OUTBOX_RELAY_SOURCE", hide_env_values = true, value_name = "URI")]
    source: Option<String>,
    /// Where it answers /livez, /readyz and /metrics, such as 0.0.0.0:9464 [default: nowhere]
    #[arg(
        long,
        env = "OUTBOX_RELAY_HTTP",
        hide_env_values = true,
        value_name = "ADDRESS",
        conflicts_with = "once"
    )]
    http: Option<SocketAddr>,
    /// Sends its spans to a collector of OpenTelemetry, such as http://localhost:4318 [default: as
    /// the variables OTEL_EXPORTER_OTLP_… say]
    ///
    /// By HTTP and protobuf. Headers, timeout, certificates, sampler and the name of the service
    /// are as the other variables OTEL_… say. A collector that is away does not hold the relay up:
    /// spans are given up.
    #[arg(
        long,
        env = "OUTBOX_RELAY_OTLP",
        hide_env_values = true,
        value_name = "URL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    otlp: Option<Secret>,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    // Before anything is built that reports them.
    let metrics = args.http.map(|_| Metrics::install()).transpose()?;
    let kafka = context.kafka()?;
    let expected = args.files.expected(context)?;
    let outbox = if args.once {
        context.outbox().await?
    } else {
        // A relay waits for its database, however long that takes to come.
        connect::unconnected(&context.settings, CONNECTIONS)?
    };
    with_outbox!(outbox, outbox => {
        let relay = args.relay(context, outbox.clone(), kafka)?;
        // From now on, so that a relay that waits for its database is live, and not ready.
        let mut server = None;
        if let (Some(address), Some(metrics)) = (args.http, metrics) {
            server = Some(Server::start(address, metrics, Some(relay.health())).await?);
        }
        let relayed = match checked(expected.as_ref(), args.once, &stop).await {
            Ok(true) => relayed(args, context, &outbox, relay, stop).await,
            Ok(false) => Ok(()),
            Err(failure) => Err(failure),
        };
        drop(server);
        relayed
    })
}

/// Whether the relay may start; not if it was asked to stop meanwhile.
async fn checked(expected: Option<&Expected>, once: bool, stop: &Stop) -> Result<bool, Failure> {
    let Some(expected) = expected else { return Ok(true) };
    tokio::select! {
        checked = expected.checked(once) => checked.map(|()| true),
        () = stop.asked() => Ok(false),
    }
}

async fn relayed<DB: OutboxDatabase>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
    relay: AnyRelay,
    stop: Stop,
) -> Result<(), Failure> {
    if args.migrate {
        tokio::select! {
            migrated = migrated(outbox, args.once) => migrated?,
            () = stop.asked() => return Ok(()),
        }
    }
    if args.once {
        let published = relay.drain().await?;
        let report = Once { published };
        return context
            .output
            .one(&report, || format!("published {}", counted(published, "event")));
    }
    tracing::info!(
        database = context.settings.database.as_ref().map(|database| database.value.to_string()),
        table_prefix = context.settings.table_prefix.value,
        "relay starts"
    );
    relay.run(stop).await?;
    tracing::info!("relay stopped: what was in flight is published, and the lanes are free");
    Ok(())
}

/// What programs read of `--once`.
#[derive(Debug, Serialize)]
struct Once {
    published: u64,
}

async fn migrated<DB: OutboxDatabase>(outbox: &Outbox<DB>, once: bool) -> Result<(), Failure> {
    let mut is_told = false;
    loop {
        match outbox.migrate().await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_unreachable() && !once => {
                if !is_told {
                    tracing::warn!(%error, "the database does not answer: the relay waits for it");
                    is_told = true;
                }
                tokio::time::sleep(MIGRATE_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Args {
    /// Where spans are sent. In the file and in a variable, `false` and an empty text are nowhere.
    pub fn collector(&self) -> Option<&Secret> {
        self.otlp.as_ref().filter(|collector| !["", "false"].contains(&&*collector.0))
    }

    /// What of them clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        self.delivery.check()
    }

    fn relay<DB: Delivers>(
        &self,
        context: &Context,
        outbox: Outbox<DB>,
        kafka: KafkaConfig,
    ) -> Result<AnyRelay, Failure> {
        let mut publisher = KafkaPublisher::builder(kafka).topic_prefix(context.topic_prefix());
        if let Some(source) = &self.source {
            publisher = publisher.source(source);
        }
        let mut relay = Relay::builder(outbox, publisher.build()?);
        if let Some(retention) = self.retention {
            relay = relay.retention(retention);
        }
        if let Some(lease) = self.lease {
            relay = relay.lease(lease);
        }
        if let Some(refusals) = self.park_after {
            relay = relay.park_after(refusals);
        }
        if let Some(every) = self.retry_parked {
            relay = relay.retry_parked(every);
        }
        if let Some(timeout) = self.drain_timeout {
            relay = relay.drain_timeout(timeout);
        }
        if let Some(interval) = self.poll_interval {
            relay = relay.poll_interval(interval);
        }
        if let Some(events) = self.batch_events {
            relay = relay.batch_events(events);
        }
        if let Some(mebibytes) = self.memory {
            relay = relay.memory(mebibytes * 1024 * 1024);
        }
        DB::relay(relay, &self.delivery)
    }
}
