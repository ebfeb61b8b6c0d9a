//! Relays: how a test makes one, has it publish what there is, or runs it beside itself.

use std::time::Duration;

use outbox::admin::ParkedEvent;
use outbox::event::EventRecord;
use outbox::kafka::KafkaConfig;
use outbox::publish::Publisher;
use outbox::publish::kafka::KafkaPublisher;
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, ExactlyOnce, Outbox, OutboxDatabase, OutboxError, Relay, RelayBuilder};
use sqlx::{Postgres, Sqlite};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::kafka;
use super::wait::{eventually, eventually_some, within_a_minute};

/// A relay with the default settings, which a test may change before it starts it.
pub fn new_relay<DB: OutboxDatabase, P: Publisher>(
    outbox: &Outbox<DB>,
    publisher: P,
) -> RelayBuilder<DB, P> {
    Relay::builder(outbox.clone(), publisher)
}

/// A publisher to the tests' Kafka.
pub fn kafka_publisher() -> KafkaPublisher {
    kafka_publisher_of(kafka())
}

pub fn kafka_publisher_of(kafka: impl Into<KafkaConfig>) -> KafkaPublisher {
    KafkaPublisher::new(kafka).unwrap()
}

/// A database from which events are delivered exactly once.
pub trait DeliversOnce: OutboxDatabase {
    fn run_once(
        relay: RelayBuilder<Self, KafkaPublisher>,
        options: ExactlyOnce,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send + 'static;

    fn drain_once(
        relay: RelayBuilder<Self, KafkaPublisher>,
        options: ExactlyOnce,
    ) -> impl Future<Output = Result<u64, OutboxError>>;

    fn hand_back(
        relay: RelayBuilder<Self, KafkaPublisher>,
        options: ExactlyOnce,
    ) -> impl Future<Output = Result<(), OutboxError>>;
}

macro_rules! delivers_once {
    ($($DB:ty)*) => {$(
        impl DeliversOnce for $DB {
            async fn run_once(
                relay: RelayBuilder<Self, KafkaPublisher>,
                options: ExactlyOnce,
                until: impl Future<Output = ()> + Send + 'static,
            ) -> Result<(), OutboxError> {
                relay.build_exactly_once(options)?.run(until).await
            }

            async fn drain_once(
                relay: RelayBuilder<Self, KafkaPublisher>,
                options: ExactlyOnce,
            ) -> Result<u64, OutboxError> {
                relay.build_exactly_once(options)?.drain().await
            }

            async fn hand_back(
                relay: RelayBuilder<Self, KafkaPublisher>,
                options: ExactlyOnce,
            ) -> Result<(), OutboxError> {
                relay.build_exactly_once(options)?.hand_back().await
            }
        }
    )*};
}
delivers_once!(Postgres Sqlite);

/// A relay that shares lanes quickly, parks after two refusals, and tries parked events again only
/// on request.
pub fn quick<DB: OutboxDatabase, P: Publisher>(
    outbox: &Outbox<DB>,
    publisher: P,
) -> RelayBuilder<DB, P> {
    new_relay(outbox, publisher)
        .lease(Duration::from_millis(300))
        .poll_interval(Duration::from_millis(20))
        .park_after(2)
        .retry_parked(Duration::from_secs(3600))
}

/// Has the relay publish what there is; returns how many events that were.
pub async fn drain<DB: OutboxDatabase>(
    relay: RelayBuilder<DB, impl Publisher>,
) -> Result<u64, OutboxError> {
    within_a_minute(relay.build().unwrap().drain()).await
}

/// As [`drain`], with the default settings and no error.
pub async fn drain_to<DB: OutboxDatabase>(outbox: &Outbox<DB>, publisher: impl Publisher) -> u64 {
    drain(new_relay(outbox, publisher)).await.unwrap()
}

/// What a relay publishes now.
pub async fn drained<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Vec<EventRecord> {
    let kafka = MemoryPublisher::new();
    drain_to(outbox, kafka.clone()).await;
    kafka.published()
}

/// The same by a relay that retains what it has published, as it must on MySQL for it to be found.
pub async fn drained_and_retained<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Vec<EventRecord> {
    let kafka = MemoryPublisher::new();
    drain(retaining(outbox, kafka.clone())).await.unwrap();
    kafka.published()
}

/// A relay that retains what it has published.
pub fn retaining<DB: OutboxDatabase, P: Publisher>(
    outbox: &Outbox<DB>,
    publisher: P,
) -> RelayBuilder<DB, P> {
    new_relay(outbox, publisher).retention(Duration::from_secs(3_600))
}

/// As [`drain_to`], once the leases of relays that were killed have run out.
pub async fn drain_when_free<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    publisher: impl Publisher + Clone,
) -> u64 {
    let drained = async || match drain(new_relay(outbox, publisher.clone())).await {
        Ok(published) => Some(published),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
            None
        }
    };
    eventually_some("the lanes are free", drained).await
}

/// The error with which a relay ends, without a shutdown.
pub async fn run_error<DB: OutboxDatabase>(relay: RelayBuilder<DB, impl Publisher>) -> OutboxError {
    within_a_minute(relay.build().unwrap().run(std::future::pending())).await.unwrap_err()
}

/// A relay beside the test. Dropped, it is asked to stop, and not waited for.
pub struct RunningRelay {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), OutboxError>>,
}

impl RunningRelay {
    pub fn start<DB: OutboxDatabase>(relay: RelayBuilder<DB, impl Publisher>) -> Self {
        Self::run(relay.build().unwrap())
    }

    pub fn run<DB: OutboxDatabase>(relay: Relay<DB, impl Publisher>) -> Self {
        Self::spawn(|stopped| relay.run(async { _ = stopped.await }))
    }

    /// A relay of another type, by its `run`.
    pub fn spawn<F>(run: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = Result<(), OutboxError>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        Self { stop: Some(stop), task: tokio::spawn(run(stopped)) }
    }

    /// Asks it to stop, and does not wait.
    pub fn ask_to_stop(&mut self) {
        self.stop = None;
    }

    /// Asks it to stop, and waits until it has, without an error.
    pub async fn stop(mut self) {
        self.ask_to_stop();
        self.ended().await.unwrap();
    }

    /// As a kill: nothing is saved, nothing given back.
    pub async fn abort(self) {
        self.task.abort();
        if let Ok(ended) = self.task.await {
            panic!("the relay had ended before: {ended:?}");
        }
    }

    /// Waits until it ends, without a shutdown.
    pub async fn ended(self) -> Result<(), OutboxError> {
        within_a_minute(self.task).await.unwrap()
    }

    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

/// Waits until `count` events are parked, and lists them: a thousand at most.
pub async fn until_parked<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    count: usize,
) -> Vec<ParkedEvent> {
    let parked = async || {
        let parked = outbox.parked(1_000).await.unwrap();
        (parked.len() == count).then_some(parked)
    };
    eventually_some(&format!("{count} events are parked"), parked).await
}

/// Waits until `count` events are parked, by the status alone.
pub async fn until_parked_count<DB: OutboxDatabase>(outbox: &Outbox<DB>, count: u64) {
    let are = async || outbox.status().await.unwrap().parked == count;
    eventually(&format!("{count} events are parked"), are).await;
}
