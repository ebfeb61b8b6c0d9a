//! Business transactions by a number of connections, while a relay runs in a separate process.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outbox::{Outbox, OutboxError, transactional_outbox};
use outbox_bench_report::{Part, Way, Written};
use sqlx::{Executor, Postgres};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{Failure, OrderCreated, outbox};

const INSERT_ORDER: &str = "insert into orders (customer) values ($1) returning id";

#[transactional_outbox(tx in outbox)]
async fn annotated(outbox: &Outbox<Postgres>, customer: u64) -> Result<(), OutboxError> {
    let order: i64 =
        sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
    tx.emit(OrderCreated::new(customer, order.unsigned_abs()))?;
    Ok(())
}

async fn without_event(outbox: &Outbox<Postgres>, customer: u64) -> Result<(), Failure> {
    let mut tx = outbox.pool().begin().await?;
    let _: i64 = sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// With an event in the same table, and a ring, so that the relay has the same to do.
async fn by_hand(outbox: &Outbox<Postgres>, customer: u64, ring: bool) -> Result<(), Failure> {
    let mut tx = outbox.pool().begin().await?;
    let order: i64 =
        sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
    sqlx::query(
        "insert into outbox_event (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at)
         values ($1, $2, 'orders', $3, 'order.created', 1, 'application/json', '{}', $4, now())",
    )
    .bind((customer % 16) as i16)
    .bind(Uuid::now_v7())
    .bind(customer.to_string().into_bytes())
    .bind(serde_json::to_vec(&OrderCreated::new(customer, order.unsigned_abs()))?)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    if ring {
        outbox.ring();
    }
    Ok(())
}

pub(crate) async fn measure(way: Way, connections: u32, seconds: u64) -> Result<Written, Failure> {
    let outbox = outbox(connections).await?;
    outbox
        .pool()
        .execute("create table if not exists orders (id bigserial primary key, customer bigint not null)")
        .await?;
    let relay = Command::new(std::env::current_exe()?)
        .arg(Part::Relay.argument())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let counted = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let begin = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..u64::from(connections) {
        let (outbox, counted) = (outbox.clone(), Arc::clone(&counted));
        writers.spawn(async move {
            let mut n = writer;
            while Instant::now() < end {
                match way {
                    Way::NoEvent => without_event(&outbox, n % 10_000).await?,
                    Way::ByHand { rings } => by_hand(&outbox, n % 10_000, rings).await?,
                    Way::Outbox => annotated(&outbox, n % 10_000).await?,
                }
                counted.fetch_add(1, Ordering::Relaxed);
                n += u64::from(connections);
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let rate = counted.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    relay.wait_with_output()?;
    Ok(Written { rate })
}
