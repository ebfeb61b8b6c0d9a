//! The life of a consumer: its topics, its client, its loop, and its end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::builder::register;
use super::client::Context;
use super::forward::Forwarder;
use super::main_loop::MainLoop;
use super::startup::{tell_of_a_small_pool, topics_found};
use super::{Consumer, config};
use crate::consume::maintenance::maintain;
use crate::consume::worker::{Consumed, GroupWorker, WorkerSettings};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, Client, Properties};
use crate::observe::{Meter, target};
use crate::store::OutboxDatabase;

pub(super) async fn run<DB: OutboxDatabase>(
    consumer: Consumer<DB>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Consumed, OutboxError> {
    let Consumer { group, mut plan, kafka, properties, prefix, mut client, settings, heartbeat } =
        consumer;
    // A recorder that was installed since the consumer was built does not know it yet.
    register(&group, heartbeat.meter());
    heartbeat.meter().database_up(false);
    let mut shutdown = pin!(shutdown);
    let found = topics_found(&mut plan, &properties, settings.create_topics, shutdown.as_mut());
    if !heartbeat.turning(found).await? {
        return Ok(Consumed::default());
    }
    if !plan.awaited().is_empty() {
        config::refresh_metadata_often(&mut client, &kafka);
    }
    let topics = plan.subscribed();
    let client = subscribed(&client, &properties, &topics, heartbeat.meter())?;
    tracing::info!(target: target::CONSUMER, group = &*group.name, ?topics, "consumer started");
    tell_of_a_small_pool(group.outbox.pool(), settings.concurrency);

    let (stop, stopping) = watch::channel(false);
    let in_worker = WorkerSettings {
        concurrency: settings.concurrency,
        undecodable: settings.undecodable,
        unknown_events: settings.unknown_events,
        // No event is forgotten while it may still wait in one retry topic after the other.
        inbox_retention: settings.inbox_retention.max(plan.longest_retry().saturating_mul(2)),
    };
    let forward = Forwarder::new(&properties, prefix)?;
    let worker = Arc::new(GroupWorker::new(group, forward, in_worker, stopping));
    let mut beside = JoinSet::new();
    beside.spawn(maintain(Arc::clone(&worker)));
    let mut main_loop = MainLoop::new(client, worker, plan, settings);
    let result = main_loop.until(shutdown, &heartbeat).await;
    stop.send_replace(true);
    let result = heartbeat.turning(main_loop.drain()).await.and(result);
    drop(beside);
    let consumed = main_loop.close().await;
    result.map(|()| consumed)
}

/// The client, subscribed to the topics. It is created only now, because errors pile up in a client
/// that is not polled.
fn subscribed(
    config: &ClientConfig,
    properties: &Properties,
    topics: &[&str],
    meter: &Meter,
) -> Result<Client<StreamConsumer<Context>>, OutboxError> {
    let context = Context::new(Brokers::new(properties, "the consumer waits"), meter.clone());
    let client: Client<StreamConsumer<Context>> = Client::new(
        StreamConsumer::from_config_and_context(config, context)
            .map_err(|error| properties.no_client(error))?,
    );
    client.subscribe(topics).map_err(|error| {
        OutboxError::new(ErrorKind::Kafka, format!("cannot subscribe to {topics:?}"))
            .with_source(error)
    })?;
    Ok(client)
}
