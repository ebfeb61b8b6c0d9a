//! An outbox in a schema of its own, with relay processes, a consumer group and a stream of events.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use outbox::consume::Consumer;
use outbox::kafka::KafkaConfig;
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What the topic takes at most, which a request of many usual events is far below.
const LARGEST: usize = 100_000;
/// The item that the consumer's handler refuses.
const UNKNOWN: &str = "unobtainium";

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    item: String,
}

#[event_handler(group = "inventory", attempts = 1)]
async fn reserve(_: &mut OutboxTx<'_, Postgres>, order: OrderPlaced) -> Result<(), String> {
    if order.item == UNKNOWN { Err(format!("there is no {UNKNOWN}")) } else { Ok(()) }
}

pub fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `cargo xtask test`"))
}

/// An outbox with its tables, and the name of its schema.
pub async fn new_schema() -> (Outbox<Postgres>, String) {
    let options: PgConnectOptions = server("DATABASE_URL").parse().unwrap();
    let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
    let schema = format!("top_{}", Uuid::now_v7().simple());
    create(&pool, &schema).await;
    let outbox = Outbox::builder(pool).schema(&schema).build().unwrap();
    outbox.migrate().await.unwrap();
    (outbox, schema)
}

async fn create(pool: &PgPool, schema: &str) {
    let create = sqlx::AssertSqlSafe(format!("create schema {schema}"));
    sqlx::query(create).execute(pool).await.unwrap();
}

pub struct Scene {
    pub outbox: Outbox<Postgres>,
    pub schema: String,
    /// Of its topics.
    pub prefix: String,
    pub relays: Vec<RelayProcess>,
    stop: Arc<Notify>,
    consumer: JoinHandle<()>,
    emitting: JoinHandle<()>,
}

impl Scene {
    pub async fn new() -> Self {
        let (outbox, schema) = new_schema().await;
        let prefix = format!("{schema}-");
        create_topic(&format!("{prefix}orders")).await;
        // Of another deployment on the same brokers.
        create_topic(&format!("other-{prefix}orders")).await;
        create_topic(&format!("other-{prefix}orders.mail.dlt")).await;
        let relays = (0..2).map(|_| relay(&schema, &prefix)).collect();
        let kafka = KafkaConfig::new(server("KAFKA_BROKERS"));
        let consumer = Consumer::builder(outbox.clone(), &kafka).topic_prefix(&prefix);
        let consumer = consumer.handler(reserve()).build().unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let consumer = tokio::spawn(async move {
            consumer.run(async move { stopped.notified().await }).await.unwrap();
        });
        emit(&outbox, "alice", UNKNOWN).await;
        emit(&outbox, "bob", &incompressible(4 * LARGEST)).await;
        let emitting = tokio::spawn(emit_all_the_time(outbox.clone()));
        Self { outbox, schema, prefix, relays, stop, consumer, emitting }
    }

    /// Stops what runs in this process.
    pub async fn end(self) {
        self.emitting.abort();
        self.stop.notify_one();
        self.consumer.await.unwrap();
    }
}

/// Killed when it is dropped: a test that fails leaves none behind.
pub struct RelayProcess(Child);

impl RelayProcess {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn relay(schema: &str, prefix: &str) -> RelayProcess {
    let relay = Command::new(env!("CARGO_BIN_EXE_outbox"))
        .args(["relay", "run", "--schema", schema, "--topic-prefix", prefix, "--lease", "3s"])
        .env_clear()
        .env("OUTBOX_DATABASE_URL", server("DATABASE_URL"))
        .env("OUTBOX_BROKERS", server("KAFKA_BROKERS"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    RelayProcess(relay.unwrap())
}

async fn create_topic(name: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", server("KAFKA_BROKERS")).create().unwrap();
    let largest = LARGEST.to_string();
    let topic = NewTopic::new(name, 4, TopicReplication::Fixed(1));
    let topic = topic.set("max.message.bytes", &largest);
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

async fn emit(outbox: &Outbox<Postgres>, customer: &str, item: &str) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderPlaced { customer: customer.to_owned(), item: item.to_owned() }).unwrap();
    tx.commit().await.unwrap();
}

/// The topic's limit is one of what is sent, which is compressed.
fn incompressible(length: usize) -> String {
    std::iter::repeat_with(|| Uuid::now_v7().simple().to_string()).take(length / 32).collect()
}

/// Some events each second, of many customers.
async fn emit_all_the_time(outbox: Outbox<Postgres>) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for n in 0_u64.. {
        tick.tick().await;
        emit(&outbox, &format!("customer-{}", n % 97), "apples").await;
    }
}
