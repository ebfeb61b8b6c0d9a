//! The relay and the consumer against a real Kafka, with a real Postgres.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::consumers::{
    RunningConsumer, consumer_outbox, header, new_consumer, until_handled,
};
use crate::support::relays::{
    RunningRelay, drain_to, kafka_publisher, kafka_publisher_of, new_relay,
};
use crate::support::topics::{admin, create_topic, read_topic};
use crate::support::{self, POSTGRES, eventually, kafka, migrated, relays};
use outbox::admin::{ParkedFilter, ParkedGrouping};
use outbox::consume::{EventContext, EventHandler, handler_fn};
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, ErrorKind, Outbox, OutboxError, OutboxTx, transactional_outbox};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sqlx::{Executor, Postgres};
use uuid::Uuid;

async fn new_outbox() -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(POSTGRES, 16).await)).await
}

async fn commit<E: DomainEvent>(outbox: &Outbox<Postgres>, events: impl IntoIterator<Item = E>) {
    let mut tx = outbox.begin().await.unwrap();
    for event in events {
        tx.emit(event).unwrap();
    }
    tx.commit().await.unwrap();
}

async fn drain(outbox: &Outbox<Postgres>) -> Result<u64, OutboxError> {
    relays::drain(new_relay(outbox, kafka_publisher())).await
}

#[tokio::test]
async fn an_event_arrives_with_its_key_and_the_headers_of_cloudevents() {
    event_on_topic!(Created, "kafka-headers");
    create_topic("kafka-headers", 1, &[]).await;
    let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
    let mut tx = outbox.begin().await.unwrap();
    tx.set_trace_context(|name| match name {
        "traceparent" => Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        "tracestate" => Some("vendor=1"),
        _ => None,
    });
    let id = tx.emit(Created::new("customer \0 1", 7)).unwrap();
    tx.commit().await.unwrap();
    let publisher = KafkaPublisher::builder(kafka()).source("/orders").build().unwrap();
    assert_eq!(drain_to(&outbox, publisher).await, 1);

    let messages = read_topic("kafka-headers").await;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(message.key(), Some(&b"customer \0 1"[..]));
    assert_eq!(
        message.payload(),
        Some(&br#"{"customer":"customer \u0000 1","tenant":"acme","n":7}"#[..])
    );
    let names: Vec<&str> = message.headers().unwrap().iter().map(|header| header.key).collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "each once: {names:?}");
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", &id.to_string()),
        ("ce_type", "order.created"),
        ("ce_source", "/orders"),
        ("ce_dataversion", "3"),
        ("content-type", "application/json"),
        ("x-tenant", "acme"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=1"),
    ] {
        assert_eq!(header(message, name), Some(value), "{name}");
    }
    let time = header(message, "ce_time").unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "RFC 3339: {time}");
}

#[tokio::test]
async fn a_key_is_in_the_partition_where_java_producers_put_it() {
    event_on_topic!(Created, "kafka-partitions");
    create_topic("kafka-partitions", 12, &[]).await;
    let outbox = new_outbox().await;
    commit(&outbox, (0..50).map(|n| Created::new(format!("customer-{n}"), n))).await;
    drain(&outbox).await.unwrap();
    let messages = read_topic("kafka-partitions").await;
    assert_eq!(messages.len(), 50);
    for message in &messages {
        assert_eq!(message.partition(), java_partition(message.key().unwrap(), 12));
    }
}

/// `BuiltInPartitioner.partitionForKey` of Kafka's Java client: murmur2, made positive, modulo.
fn java_partition(key: &[u8], partitions: i32) -> i32 {
    const M: i32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 as i32 ^ key.len() as i32;
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = i32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k ^= ((k as u32) >> 24) as i32;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (i, byte) in rest.iter().enumerate().rev() {
        h ^= i32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= ((h as u32) >> 13) as i32;
    h = h.wrapping_mul(M);
    h ^= ((h as u32) >> 15) as i32;
    (h & 0x7fff_ffff) % partitions
}

event_on_topic!(ConcurrentlyCreated, "kafka-writers");

/// Takes the customer's lock, dawdles, and sometimes fails after all.
#[transactional_outbox(tx in outbox)]
async fn place_order(
    outbox: &Outbox<Postgres>,
    customer: &str,
    slow: bool,
    refused: bool,
) -> Result<(), OutboxError> {
    let n: i64 = sqlx::query_scalar(
        "update customer set orders = orders + 1 where name = $1 returning orders",
    )
    .bind(customer)
    .fetch_one(&mut *tx)
    .await?;
    if slow {
        sqlx::query("select pg_sleep(0.05)").execute(&mut *tx).await?; // the load: a transaction that takes its time
    }
    tx.emit(ConcurrentlyCreated::new(customer, if refused { -n } else { n }))?;
    if refused {
        sqlx::query("select 1 / 0").execute(&mut *tx).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_order_and_no_other_is_published_in_the_order_of_its_customer() {
    create_topic("kafka-writers", 6, &[]).await;
    let outbox = new_outbox().await;
    outbox
        .pool()
        .execute("create table customer (name text primary key, orders bigint not null)")
        .await
        .unwrap();
    for customer in 0..10 {
        sqlx::query("insert into customer values ($1, 0)")
            .bind(format!("c{customer}"))
            .execute(outbox.pool())
            .await
            .unwrap();
    }
    let relay = new_relay(&outbox, kafka_publisher());
    let relay = RunningRelay::start(relay);

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let outbox = outbox.clone();
        writers.spawn(async move {
            let mut refused = 0;
            for i in 0..120 {
                let refuse = (i + writer) % 11 == 0;
                let customer = format!("c{}", (i * 7 + writer * 3) % 10);
                let result = place_order(&outbox, &customer, (i + writer) % 13 == 0, refuse).await;
                assert_eq!(result.is_err(), refuse);
                refused += usize::from(refuse);
            }
            refused
        });
    }
    let mut refused = 0;
    while let Some(writer) = writers.join_next().await {
        refused += writer.unwrap();
    }
    relay.stop().await;
    drain(&outbox).await.unwrap();

    let mut by_customer = BTreeMap::<String, Vec<i64>>::new();
    for message in read_topic("kafka-writers").await {
        let order: ConcurrentlyCreated =
            serde_json::from_slice(message.payload().unwrap()).unwrap();
        by_customer.entry(order.customer).or_default().push(order.n);
    }
    assert_eq!(by_customer.values().map(Vec::len).sum::<usize>(), 8 * 120 - refused);
    for (customer, numbers) in by_customer {
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>(), "{customer}");
    }
}

#[tokio::test]
async fn an_event_too_large_for_its_topic_waits_with_its_lane_and_nothing_overtakes_it() {
    event_on_topic!(Created, "kafka-too-large");
    create_topic("kafka-too-large", 3, &[("max.message.bytes", "4000")]).await;
    let outbox = new_outbox().await;
    // Incompressible, or the broker would accept it compressed.
    let noise: String = (0..400).map(|_| Uuid::now_v7().simple().to_string()).collect();
    commit(
        &outbox,
        [
            Created::new("big", 1),
            Created { tenant: noise, ..Created::new("big", 2) },
            Created::new("big", 3),
        ],
    )
    .await;
    let small = 40;
    commit(&outbox, (0..small).map(|n| Created::new(format!("small-{n}"), n))).await;

    // Each event in a request of its own, with several in flight: the third is on its way when the
    // second is refused.
    let config =
        KafkaConfig::new(kafka()).properties([("batch.num.messages", "1"), ("linger.ms", "0")]);
    let relay = new_relay(&outbox, kafka_publisher_of(config));
    let error = relays::drain(relay).await.unwrap_err();
    assert_eq!(numbers_of("kafka-too-large", "big").await, [1]);
    assert_eq!(error.kind(), ErrorKind::Kafka);
    for hint in ["kafka-too-large", "max.message.bytes", "Nothing is lost"] {
        assert!(error.to_string().contains(hint), "{error}");
    }

    let raise = AlterConfig::new(ResourceSpecifier::Topic("kafka-too-large"))
        .set("max.message.bytes", "1000000");
    admin().alter_configs([&raise], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    // The broker takes a moment to heed it.
    eventually("the broker takes all", async || drain(&outbox).await.is_ok()).await;
    assert_eq!(numbers_of("kafka-too-large", "big").await, [1, 2, 3]);
    let all: BTreeSet<_> =
        read_topic("kafka-too-large").await.iter().map(|m| m.key().unwrap().to_vec()).collect();
    assert_eq!(all.len() as i64, small + 1, "and all the small ones");
}

/// Whoever looks at a thousand parked events wants to know what is wrong, not with which of them.
#[tokio::test]
async fn what_kafka_refuses_for_the_same_reason_is_one_group() {
    event_on_topic!(Created, "kafka-one-reason");
    create_topic("kafka-one-reason", 1, &[("max.message.bytes", "10")]).await;
    let outbox = new_outbox().await;
    commit(&outbox, [Created::new("short", 1), Created::new("a longer one", 20)]).await;
    let relay = RunningRelay::start(new_relay(&outbox, kafka_publisher_of(kafka())));
    let all = ParkedFilter::all();
    let parked = async || outbox.count_parked(&all).await.unwrap();
    eventually("both are parked", async || parked().await == 2).await;
    relay.stop().await;

    let groups = outbox.parked_groups(&all, ParkedGrouping::Reason).await.unwrap();
    assert_eq!(groups.iter().map(|group| group.events).collect::<Vec<_>>(), [2], "{groups:?}");
}

/// The first delivery of each number of a customer, in order.
async fn numbers_of(topic: &'static str, customer: &str) -> Vec<i64> {
    let mut numbers = Vec::new();
    for message in read_topic(topic).await {
        if message.key() == Some(customer.as_bytes()) {
            let payload: serde_json::Value =
                serde_json::from_slice(message.payload().unwrap()).unwrap();
            let n = payload["n"].as_i64().unwrap();
            if !numbers.contains(&n) {
                numbers.push(n);
            }
        }
    }
    numbers
}

#[tokio::test]
async fn an_event_that_comes_twice_changes_things_once() {
    event_on_topic!(Created, "kafka-twice");
    async fn handle(
        tx: &mut OutboxTx<'_, Postgres>,
        event: Created,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("insert into handled (consumer, customer, n) values ('twice', $1, $2)")
            .bind(event.customer)
            .bind(event.n)
            .execute(tx)
            .await?;
        Ok(())
    }

    create_topic("kafka-twice", 3, &[]).await;
    let outbox = consumer_outbox().await;
    commit(&outbox, (0..10).map(|n| Created::new("a", n))).await;
    assert_eq!(drain(&outbox).await.unwrap(), 10);
    // A relay that died before it saved its progress: its successor publishes all of it again.
    outbox
        .pool()
        .execute("insert into outbox_progress (lane) select lane from outbox_lane")
        .await
        .unwrap();
    commit(&outbox, [Created::new("a", 10)]).await;
    assert_eq!(drain(&outbox).await.unwrap(), 11);

    let consumer = new_consumer(&outbox).group("twice").handler(handler_fn(handle));
    let consumer = RunningConsumer::start(consumer);
    let handled = until_handled(&outbox, "twice", 11).await;
    let consumed = consumer.stop().await;
    assert_eq!(handled, (0..=10).map(|n| ("a".to_owned(), n)).collect::<Vec<_>>());
    assert_eq!((consumed.handled, consumed.duplicates), (11, 10));

    // The whole topic again, as after lost offsets: another Kafka group would be another consumer,
    // so the same group's offsets are set back.
    let offsets: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .set("group.id", "twice")
        .create()
        .unwrap();
    let mut beginning = TopicPartitionList::new();
    for partition in 0..3 {
        beginning.add_partition_offset("kafka-twice", partition, Offset::Offset(0)).unwrap();
    }
    offsets.commit(&beginning, rdkafka::consumer::CommitMode::Sync).unwrap();
    drop(offsets);
    commit(&outbox, [Created::new("a", 11)]).await;
    drain(&outbox).await.unwrap();
    let consumer = new_consumer(&outbox).group("twice").handler(handler_fn(handle));
    let consumer = RunningConsumer::start(consumer);
    let handled = until_handled(&outbox, "twice", 12).await;
    let consumed = consumer.stop().await;
    assert_eq!(handled.len(), 12);
    assert_eq!((consumed.handled, consumed.duplicates), (1, 21));
}

/// Fails its first attempts, and emits an event of its own.
struct Shipping {
    attempts: AtomicUsize,
    traces: Mutex<Vec<Option<String>>>,
}

event_on_topic!(PaidOrder, "kafka-paid");
event_on_topic!(ShippedOrder, "kafka-shipped");

impl EventHandler<Postgres> for Shipping {
    type Event = PaidOrder;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Postgres>,
        event: PaidOrder,
        context: &EventContext,
    ) -> Result<(), Self::Error> {
        sqlx::query("insert into handled (consumer, customer, n) values ('shipping', $1, $2)")
            .bind(&event.customer)
            .bind(event.n)
            .execute(&mut *tx)
            .await?;
        tx.emit(ShippedOrder::new(event.customer, event.n))?;
        self.traces.lock().unwrap().push(context.headers.get("traceparent").map(str::to_owned));
        if self.attempts.fetch_add(1, Ordering::SeqCst) < 3 {
            return Err("the warehouse is closed".into());
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_failed_handler_is_rolled_back_and_retried_and_what_it_emits_is_published_once() {
    create_topic("kafka-paid", 1, &[]).await;
    create_topic("kafka-shipped", 1, &[]).await;
    let outbox = consumer_outbox().await;
    commit(&outbox, [PaidOrder::new("a", 1), PaidOrder::new("a", 2)]).await;
    drain(&outbox).await.unwrap();

    let shipping = Arc::new(Shipping { attempts: AtomicUsize::new(0), traces: Mutex::default() });
    let consumer = new_consumer(&outbox).group("shipping").handler(Arc::clone(&shipping));
    let consumer = RunningConsumer::start(consumer);
    let handled = until_handled(&outbox, "shipping", 2).await;
    consumer.stop().await;
    assert_eq!(handled, [("a".to_owned(), 1), ("a".to_owned(), 2)], "in order, each once");
    assert_eq!(shipping.attempts.load(Ordering::SeqCst), 5, "three failed, two succeeded");

    assert_eq!(drain(&outbox).await.unwrap(), 2, "only the successful attempts emitted");
    assert_eq!(numbers_of("kafka-shipped", "a").await, [1, 2]);
}
