//! Consumers on a real Kafka, with handlers that do as a test tells them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox::codec::Decode;
use outbox::consume::{
    Consumed, Consumer, ConsumerBuilder, DeadLetter, DeadLetters, ErrorClass, EventContext,
    EventHandler, HandlerOptions,
};
use outbox::kafka::KafkaConfig;
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx};
use rdkafka::message::{Header, Headers as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message as _};
use sqlx::{Executor, MySql, Pool, Postgres};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::log::Log;
use super::relays::{drain_to, kafka_publisher};
use super::{POSTGRES, eventually_some, kafka, migrated, mysql, postgres, within_a_minute};

/// Declares an event type with a topic of its own, so that tests do not meet.
macro_rules! event_on_topic {
    ($event:ident, $topic:literal) => {
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize, outbox::DomainEvent)]
        #[event(topic = $topic, name = "order.created", version = 3)]
        pub(crate) struct $event {
            #[event(key)]
            customer: String,
            #[event(header = "x-tenant")]
            tenant: String,
            n: i64,
        }

        #[allow(dead_code)]
        impl $event {
            pub(crate) const TOPIC: &'static str = $topic;

            pub(crate) fn new(customer: impl Into<String>, n: i64) -> Self {
                Self { customer: customer.into(), tenant: "acme".to_owned(), n }
            }
        }

        impl crate::support::consumers::Created for $event {
            const TOPIC: &'static str = $topic;

            fn new(customer: &str, n: i64) -> Self {
                Self::new(customer, n)
            }
        }

        impl crate::support::consumers::Numbered for $event {
            fn number(&self) -> (&str, i64) {
                (&self.customer, self.n)
            }
        }
    };
}

/// The `n`th event of a customer.
pub trait Numbered: DomainEvent<Codec: Decode<Self>> + Sized + Send + 'static {
    fn number(&self) -> (&str, i64);
}

/// One that a test makes itself.
pub trait Created: Numbered {
    const TOPIC: &'static str;

    fn new(customer: &str, n: i64) -> Self;
}

/// A database with the table `handled`, in which a [`Scripted`] handler keeps what it has handled.
pub trait Handles: OutboxDatabase {
    fn pool() -> impl Future<Output = Pool<Self>> + Send;

    fn create(pool: &Pool<Self>) -> impl Future<Output = ()> + Send;

    fn insert(
        tx: &mut OutboxTx<'_, Self>,
        of: (&'static str, &str, i64),
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn handled_by(
        pool: &Pool<Self>,
        group: &str,
    ) -> impl Future<Output = Vec<(String, i64)>> + Send;

    /// How many events wait in a retry topic, or behind one that does.
    fn waiting(pool: &Pool<Self>) -> impl Future<Output = i64> + Send;
}

macro_rules! handles {
    ($DB:ty, $pool:expr, $create:literal, $insert:literal, $handled:literal) => {
        impl Handles for $DB {
            async fn pool() -> Pool<Self> {
                $pool.await
            }

            async fn create(pool: &Pool<Self>) {
                pool.execute($create).await.unwrap();
            }

            async fn insert(
                tx: &mut OutboxTx<'_, Self>,
                (group, customer, n): (&'static str, &str, i64),
            ) -> Result<(), sqlx::Error> {
                let insert = sqlx::query($insert).bind(group).bind(customer).bind(n);
                insert.execute(tx).await.map(drop)
            }

            async fn handled_by(pool: &Pool<Self>, group: &str) -> Vec<(String, i64)> {
                sqlx::query_as($handled).bind(group).fetch_all(pool).await.unwrap()
            }

            async fn waiting(pool: &Pool<Self>) -> i64 {
                let waiting = "select count(*) from outbox_key_queue";
                sqlx::query_scalar(waiting).fetch_one(pool).await.unwrap()
            }
        }
    };
}

handles!(
    Postgres,
    postgres(POSTGRES, 16),
    "create table handled (place bigserial, consumer text, customer text, n bigint)",
    "insert into handled (consumer, customer, n) values ($1, $2, $3)",
    "select customer, n from handled where consumer = $1 order by place"
);
handles!(
    MySql,
    mysql(16),
    "create table handled (place bigint auto_increment primary key, consumer text, customer longtext, n bigint)",
    "insert into handled (consumer, customer, n) values (?, ?, ?)",
    "select customer, n from handled where consumer = ? order by place"
);

/// Why a handler failed.
#[derive(Debug)]
pub struct Refused(pub ErrorClass, pub &'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

impl std::error::Error for Refused {}

pub const TRANSIENT: Result<(), Refused> = Err(Refused(ErrorClass::Transient, "not now"));
pub const PERMANENT: Result<(), Refused> = Err(Refused(ErrorClass::Permanent, "never"));

type Decision = Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>;

/// A handler that inserts each event into the table `handled`, and then does what its test says.
pub struct Scripted<E> {
    group: &'static str,
    options: HandlerOptions,
    decide: Box<dyn Fn(String, i64, u32) -> Decision + Send + Sync>,
    /// Every attempt: customer, number, which attempt.
    pub attempts: Mutex<Vec<(String, i64, u32)>>,
    event: std::marker::PhantomData<fn(E)>,
}

impl<E> Scripted<E> {
    pub fn new<F>(
        group: &'static str,
        options: HandlerOptions,
        decide: impl Fn(String, i64, u32) -> F + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        F: Future<Output = Result<(), Refused>> + Send + 'static,
    {
        Arc::new(Self {
            group,
            options: options.group(group),
            decide: Box::new(move |customer, n, attempt| Box::pin(decide(customer, n, attempt))),
            attempts: Mutex::default(),
            event: std::marker::PhantomData,
        })
    }

    pub fn attempts_of(&self, customer: &str, n: i64) -> Vec<u32> {
        let attempts = self.attempts.lock().unwrap();
        attempts
            .iter()
            .filter(|(c, m, _)| (c.as_str(), *m) == (customer, n))
            .map(|(_, _, attempt)| *attempt)
            .collect()
    }
}

impl<DB: Handles, E: Numbered> EventHandler<DB> for Scripted<E> {
    type Event = E;
    type Error = Refused;

    fn options(&self) -> HandlerOptions {
        self.options
    }

    fn classify(&self, error: &Refused) -> ErrorClass {
        error.0
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, DB>,
        event: E,
        context: &EventContext,
    ) -> Result<(), Refused> {
        let (customer, n) = event.number();
        self.attempts.lock().unwrap().push((customer.to_owned(), n, context.attempt));
        let inserted = DB::insert(tx, (self.group, customer, n)).await;
        inserted.map_err(|_| Refused(ErrorClass::Transient, "the table does not take it"))?;
        (self.decide)(customer.to_owned(), n, context.attempt).await
    }
}

/// A consumer on the tests' Kafka, which a test may change before it starts it.
pub fn new_consumer<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> ConsumerBuilder<DB> {
    new_consumer_with(outbox, &[])
}

/// The same, with properties of librdkafka.
pub fn new_consumer_with<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    properties: &[(&str, &str)],
) -> ConsumerBuilder<DB> {
    new_consumer_of(outbox, KafkaConfig::new(kafka()).properties(properties.iter().copied()))
}

pub fn new_consumer_of<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    kafka: impl Into<KafkaConfig>,
) -> ConsumerBuilder<DB> {
    Consumer::builder(outbox.clone(), kafka)
}

/// The error with which a consumer ends, without a shutdown.
pub async fn run_error<DB: OutboxDatabase>(consumer: ConsumerBuilder<DB>) -> OutboxError {
    within_a_minute(consumer.build().unwrap().run(std::future::pending())).await.unwrap_err()
}

/// A consumer beside the test. Dropped, it is asked to stop, and not waited for.
pub struct RunningConsumer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Consumed, OutboxError>>,
}

impl RunningConsumer {
    pub fn start<DB: OutboxDatabase>(consumer: ConsumerBuilder<DB>) -> Self {
        Self::run(consumer.build().unwrap())
    }

    pub fn run<DB: OutboxDatabase>(consumer: Consumer<DB>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        Self { stop, task: tokio::spawn(consumer.run(async { _ = stopped.await })) }
    }

    pub async fn stop(self) -> Consumed {
        drop(self.stop);
        within_a_minute(self.task).await.unwrap().unwrap()
    }

    /// Whether it has ended, without a shutdown.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// How it ended, without a shutdown.
    pub async fn ended(self) -> Result<Consumed, OutboxError> {
        within_a_minute(self.task).await.unwrap()
    }

    /// A crash: nothing is finished, and the group does not hear of it.
    pub async fn abort(self) {
        self.task.abort();
        if let Ok(ended) = self.task.await {
            panic!("the consumer had ended before: {ended:?}");
        }
    }
}

/// Starts a consumer with this handler alone.
pub fn consume<DB: Handles, E: Numbered>(
    outbox: &Outbox<DB>,
    handler: &Arc<Scripted<E>>,
) -> RunningConsumer {
    RunningConsumer::start(new_consumer(outbox).handler(Arc::clone(handler)))
}

/// An outbox, and the table `handled`.
pub async fn consumer_outbox() -> Outbox<Postgres> {
    consumer_outbox_on().await
}

/// The same on any database.
pub async fn consumer_outbox_on<DB: Handles>() -> Outbox<DB> {
    Log::of_this_program();
    with_handled(migrated(Outbox::new(DB::pool().await)).await).await
}

pub async fn with_handled<DB: Handles>(outbox: Outbox<DB>) -> Outbox<DB> {
    DB::create(outbox.pool()).await;
    outbox
}

/// The retries of a test that is not about their pauses.
pub const QUICK: HandlerOptions =
    HandlerOptions::new().backoff(Duration::from_millis(5), Duration::from_millis(20));

/// These numbers of a customer, as [`until_handled`] returns them.
pub fn pairs(customer: &str, numbers: impl IntoIterator<Item = i64>) -> Vec<(String, i64)> {
    numbers.into_iter().map(|n| (customer.to_owned(), n)).collect()
}

/// What the handlers of a group have kept: a row per event that they handled.
pub async fn handled_by<DB: Handles>(outbox: &Outbox<DB>, group: &str) -> Vec<(String, i64)> {
    DB::handled_by(outbox.pool(), group).await
}

pub async fn until_handled<DB: Handles>(
    outbox: &Outbox<DB>,
    group: &str,
    count: usize,
) -> Vec<(String, i64)> {
    let handled = async || {
        let handled = handled_by(outbox, group).await;
        (handled.len() >= count).then_some(handled)
    };
    eventually_some(&format!("{group} has handled {count} events"), handled).await
}

pub fn dead_letters(topic: &str, group: &str) -> DeadLetters {
    DeadLetters::builder(kafka()).topic(topic).group(group).build().unwrap()
}

pub async fn until_dead_letters(topic: &str, group: &str, count: usize) -> Vec<DeadLetter> {
    let dead_letters = dead_letters(topic, group);
    let letters = async || {
        let letters = dead_letters.list(u32::MAX).await.unwrap();
        (letters.len() >= count).then_some(letters)
    };
    eventually_some(&format!("{group} has {count} dead letters"), letters).await
}

/// Publishes events as a service does: by an outbox and a relay.
pub async fn publish<DB: OutboxDatabase, E: DomainEvent>(
    outbox: &Outbox<DB>,
    events: impl IntoIterator<Item = E>,
) {
    let mut tx = outbox.begin().await.unwrap();
    for event in events {
        tx.emit(event).unwrap();
    }
    tx.commit().await.unwrap();
    drain_to(outbox, kafka_publisher()).await;
}

/// Produces a message that no relay of ours has sent.
pub async fn produce(topic: &str, key: &str, payload: &str, headers: &[(&str, &str)]) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let with = headers.iter().fold(OwnedHeaders::new(), |with, (key, value)| {
        with.insert(Header { key, value: Some(*value) })
    });
    let record = FutureRecord::to(topic).key(key).payload(payload).headers(with);
    producer.send(record, Duration::from_secs(30)).await.unwrap();
}

pub fn header<'m>(message: &'m OwnedMessage, name: &str) -> Option<&'m str> {
    message
        .headers()?
        .iter()
        .find(|header| header.key == name)
        .and_then(|h| std::str::from_utf8(h.value?).ok())
}
