//! Events of every size: they arrive, in order, and neither the relay's memory nor its reads grow
//! with them.
//!
//! `OUTBOX_SEED=…` replays the sizes of an earlier run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::random::{Random, seed};
use crate::support::relays::{RunningRelay, drain, new_relay, until_parked};
use crate::support::throttle::Throttle;
use crate::support::{self, OrderCreated, within_a_minute};
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, Outbox, OutboxDatabase};
use serde::{Deserialize, Serialize};
use sqlx::Postgres;

on_every_store! {
    events_of_all_sizes_arrive_in_order_and_within_the_memory_of_the_relay
    an_event_that_cannot_be_read_is_parked_as_it_is_and_stops_no_other_key
}

/// More than the relay of these tests may hold.
const MOST_BYTES: usize = 1_500_000;
const MEMORY: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "documents", name = "document.stored")]
struct DocumentStored {
    #[event(key)]
    document: String,
    n: usize,
    #[event(header)]
    author: String,
    text: String,
}

impl DocumentStored {
    fn size(&self) -> usize {
        serde_json::to_vec(self).unwrap().len()
            + self.document.len()
            + "author".len()
            + self.author.len()
            + 10
    }

    /// With as much text as it takes to be of this size.
    fn of_size(mut self, size: usize) -> Self {
        self.text.clear();
        self.text = "x".repeat(size.saturating_sub(self.size()));
        self
    }
}

/// Mostly small, some large, a few of the largest size that there is; now and then the bulk is in
/// the key or in a header.
fn document(random: &mut Random, n: usize) -> DocumentStored {
    let most = [100, 2_000, 30_000, 200_000][random.below(4) as usize];
    let text = |random: &mut Random, most| "y".repeat(random.below(most) as usize);
    let key = random.below(12);
    let document = match key {
        0 => String::new(),
        // Long, and always the same.
        1 => "k".repeat(60_000),
        _ => format!("document-{key}"),
    };
    let author = if random.chance(20) { text(random, most) } else { String::new() };
    let event = DocumentStored { document, n, author, text: String::new() };
    if random.chance(3) {
        event.of_size(MOST_BYTES)
    } else {
        event.of_size(random.below(most) as usize)
    }
}

/// Answers after a while, and knows the most bytes that it had at once.
#[derive(Clone, Default)]
struct SlowPublisher {
    published: MemoryPublisher,
    now: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Publisher for SlowPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let bytes: u64 = batch.events.iter().map(|event| event.record.size() as u64).sum();
        self.most.fetch_max(self.now.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.now.fetch_sub(bytes, Ordering::SeqCst);
        self.published.publish(batch).await
    }
}

async fn events_of_all_sizes_arrive_in_order_and_within_the_memory_of_the_relay<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let outbox =
        Outbox::builder(outbox.pool().clone()).max_event_bytes(MOST_BYTES).build().unwrap();
    let mut random = Random::new(seed(), 0);
    let mut committed = BTreeMap::<String, Vec<DocumentStored>>::new();
    for n in 0..300 {
        let mut tx = outbox.begin().await.unwrap();
        if random.chance(3) {
            let too_large = document(&mut random, n).of_size(MOST_BYTES + 1);
            tx.emit(too_large).expect_err("it is larger than the limit");
        }
        let event = document(&mut random, n);
        tx.emit(event.clone()).unwrap();
        tx.commit().await.unwrap();
        committed.entry(event.document.clone()).or_default().push(event);
    }
    let kafka = SlowPublisher::default();
    let relay = new_relay(&outbox, kafka.clone()).memory(MEMORY);
    assert_eq!(drain(relay).await.unwrap(), 300);
    let mut arrived = BTreeMap::<String, Vec<DocumentStored>>::new();
    for record in kafka.published.published() {
        let event: DocumentStored =
            serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap();
        assert_eq!(record.headers.get("author"), Some(&*event.author));
        arrived.entry(event.document.clone()).or_default().push(event);
    }
    assert!(arrived == committed, "each event once, in the order of its key");
    let most = kafka.most.load(Ordering::SeqCst);
    assert!(most <= MEMORY / 2 + MOST_BYTES as u64, "{most} bytes were with the publisher at once");
}

/// Rows as no `emit` writes them: they are parked, and published once they are corrected.
async fn an_event_that_cannot_be_read_is_parked_as_it_is_and_stops_no_other_key<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    for<'q> <DB as sqlx::Database>::Arguments: sqlx::IntoArguments<DB>,
{
    let in_numbers = DB::NAME != "PostgreSQL";
    let bad = [
        "headers = '[1, 2]'",
        "version = -1",
        if in_numbers { "occurred_at = -9223372036854775807" } else { "occurred_at = '-infinity'" },
        if in_numbers { "occurred_at = 9223372036854775807" } else { "occurred_at = 'infinity'" },
    ];
    let corrected = if in_numbers { "occurred_at = 0" } else { "occurred_at = now()" };
    let execute = async |statement: String| {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(outbox.pool()).await.unwrap();
    };
    const KEYS: usize = 30;
    support::commit(
        &outbox,
        (0..2 * KEYS).map(|n| OrderCreated::new((n % KEYS).to_string(), n as i64)),
    )
    .await;
    for (place, bad) in bad.iter().enumerate() {
        execute(format!(
            "update outbox_event set {bad} where seq = (select first + {place} from (select min(seq) as first from outbox_event) e)"
        ))
        .await;
    }
    outbox.status().await.unwrap();
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    within_a_minute(kafka.wait_for(2 * (KEYS - bad.len()))).await;
    let parked = until_parked(&outbox, 2 * bad.len()).await;
    let reasons: Vec<_> = parked.iter().filter_map(|parked| parked.reason.as_deref()).collect();
    assert!(
        reasons.len() == bad.len()
            && reasons.iter().all(|reason| reason.contains("cannot be read")),
        "{reasons:?}"
    );

    execute(format!("update outbox_parked set headers = '{{}}', version = 1, {corrected}")).await;
    outbox.release_all_parked().await.unwrap();
    let published = within_a_minute(kafka.wait_for(2 * KEYS)).await;
    relay.abort().await;
    let in_order = |key: &str, ns: &[i64]| {
        let n: i64 = key.parse().unwrap();
        *ns == [n, n + KEYS as i64]
    };
    let by_key = support::by_customer(&published);
    assert!(by_key.iter().all(|(key, ns)| in_order(key, ns)) && by_key.len() == KEYS, "{by_key:?}");
}

/// Relays that asked for as many rows of each lane as of small events would be cut off at each
/// attempt, and lose their leases: 43 MB are more than this connection carries in 30 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_publish_a_backlog_of_large_events_once_over_a_slow_connection() {
    const EVENTS: usize = 144;
    let pool = support::postgres(support::POSTGRES, 2).await;
    let outbox = support::migrated(Outbox::<Postgres>::new(pool)).await;
    let mut random = Random::new(seed(), 1);
    for n in 0..EVENTS {
        let mut tx = outbox.begin().await.unwrap();
        // The database must not make them small again.
        let text: String =
            (0..300_000 / 8).map(|_| format!("{:08x}", random.next() as u32)).collect();
        let document = format!("document-{}", n % 48);
        tx.emit(DocumentStored { document, n, author: String::new(), text }).unwrap();
        tx.commit().await.unwrap();
    }
    let options = (*outbox.pool().connect_options()).clone();
    let slow =
        Throttle::start(format!("{}:{}", options.get_host(), options.get_port()), 1_000_000).await;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .connect_lazy_with(options.host("127.0.0.1").port(slow.port()));
    let kafka = MemoryPublisher::new();
    let outbox = Outbox::<Postgres>::new(pool);
    let relay = || new_relay(&outbox, kafka.clone()).lease(Duration::from_secs(10));
    let mut relays = [RunningRelay::start(relay()), RunningRelay::start(relay())];
    within_a_minute(kafka.wait_for(8)).await;
    slow.set_rate(1_000_000_000);
    within_a_minute(kafka.wait_for(EVENTS)).await;
    relays.iter_mut().for_each(RunningRelay::ask_to_stop);
    for relay in relays {
        relay.stop().await;
    }
    let published = kafka.published();
    assert_eq!(published.len(), EVENTS, "no lane changed hands while it was read");
    let mut of_document = BTreeMap::<String, Vec<usize>>::new();
    for record in published {
        let event: DocumentStored =
            serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap();
        of_document.entry(event.document).or_default().push(event.n);
    }
    assert_eq!(of_document.len(), 48);
    assert!(of_document.values().all(|ns| ns.is_sorted() && ns.len() == 3), "{of_document:?}");
}
