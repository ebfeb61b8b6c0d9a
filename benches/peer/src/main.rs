//! The relay of `outbox-core`, a transactional outbox on crates.io, on the same servers and events:
//! rows are claimed by `skip locked`, sent one after the other, and marked.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox_bench_report::{Contender, Drained, Part, print};
use outbox_core::prelude::{OutboxConfig, OutboxManagerBuilder};
use outbox_kafka::{KafkaKeyExtractable, KafkaTransport};
use outbox_postgres::PostgresOutbox;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};
use sqlx::{Executor, PgPool};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OrderCreated {
    customer: u64,
    number: u64,
    items: String,
}

impl KafkaKeyExtractable for OrderCreated {
    fn kafka_key(&self) -> Vec<u8> {
        self.customer.to_string().into_bytes()
    }
}

/// Its table, with the partial index that its documentation has for what is waiting.
const SCHEMA: &str = "\
drop table if exists outbox_events;
drop type if exists status;
create type status as enum ('Pending', 'Processing', 'Sent');
create table outbox_events (
  id uuid primary key default gen_random_uuid(), idempotency_token text unique, event_type text not null,
  payload jsonb not null, status status not null default 'Pending', created_at timestamptz not null default now(),
  locked_until timestamptz not null default '-infinity');
create index on outbox_events (locked_until, status) where status in ('Pending', 'Processing')";

const FILL: &str = "\
insert into outbox_events (event_type, payload)
select 'order.created', jsonb_build_object('customer', n % 10000, 'number', n, 'items', $2::text)
from generate_series(1, $1::bigint) n";

const IS_LEFT: &str = "select exists (select from outbox_events where status in ('Pending', 'Processing'))";

async fn fill(events: u64) -> Result<(), Failure> {
    let pool = pool().await?;
    pool.execute(SCHEMA).await?;
    sqlx::query(FILL).bind(i64::try_from(events)?).bind("a".repeat(240)).execute(&pool).await?;
    pool.execute("vacuum analyze outbox_events").await?;
    Ok(())
}

async fn drain(events: u64) -> Result<Drained, Failure> {
    let pool = pool().await?;
    let mut config = OutboxConfig::<OrderCreated>::default();
    config.batch_size = 1_000;
    let config = Arc::new(config);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", std::env::var("KAFKA_BROKERS")?).set("acks", "all");
    // No lingering: it waits for each event, and batching would only take longer.
    client.set("linger.ms", "0").set("compression.type", "lz4").set("partitioner", "murmur2_random");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let begin = Instant::now();
    let manager = OutboxManagerBuilder::new()
        .storage(Arc::new(PostgresOutbox::new(pool.clone(), Arc::clone(&config))))
        .publisher(Arc::new(KafkaTransport::new("orders", &client)?))
        .config(config)
        .shutdown_rx(stopped)
        .build()?;
    let manager = tokio::spawn(manager.run());
    while sqlx::query_scalar(IS_LEFT).fetch_one(&pool).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    stop.send(true)?;
    manager.await??;
    let sent: i64 =
        sqlx::query_scalar("select count(*) from outbox_events where status = 'Sent'").fetch_one(&pool).await?;
    if u64::try_from(sent)? != events {
        return Err(format!("{sent} of {events} events were sent").into());
    }
    Ok(Drained { seconds, peak_mib: peak_mib(), tenths: None })
}

async fn pool() -> Result<PgPool, Failure> {
    Ok(PgPool::connect(&std::env::var("DATABASE_URL")?).await?)
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    match Part::of_arguments(std::env::args())? {
        Part::Fill { events } => print(&fill(events).await?)?,
        Part::Drain { contender: Contender::Peer, events } => print(&drain(events).await?)?,
        part => return Err(format!("this program has no part {part:?}").into()),
    }
    Ok(())
}
