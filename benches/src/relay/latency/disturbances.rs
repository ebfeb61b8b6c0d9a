//! Disturbances that run beside the measured events.

use std::collections::HashSet;
use std::time::Duration;

use outbox::{DomainEvent, Outbox};
use outbox_bench_report::Disturbance;
use serde::Serialize;
use sqlx::{Executor, Postgres};

use super::CUSTOMERS;
use crate::{Failure, OrderCreated, topic};

/// An event of a topic that takes nothing, as it wants two copies on one broker.
#[derive(Serialize, DomainEvent)]
#[event(topic = "slow", unlocked)]
struct OnStalledTopic {
    #[event(key)]
    customer: &'static str,
}

/// An event that its topic refuses for its size.
#[derive(Serialize, DomainEvent)]
#[event(topic = "small", unlocked)]
struct TooLarge {
    #[event(key)]
    customer: &'static str,
    noise: String,
}

/// Begins it; returns the customers whose events must wait for it. It ends with the process.
pub(super) async fn begin(
    outbox: &Outbox<Postgres>,
    disturbance: Disturbance,
) -> Result<HashSet<u64>, Failure> {
    match disturbance {
        Disturbance::OpenTransaction => hold(outbox, OPEN_TRANSACTION).await?,
        Disturbance::HeldSnapshot => {
            hold(
                outbox,
                "begin isolation level repeatable read; select count(*) from outbox_progress",
            )
            .await?;
            outbox.pool().execute(AN_HOUR_OF_SAVES).await?;
        }
        Disturbance::StalledTopic => return stall_a_topic(outbox).await,
        Disturbance::PoisonKey => {
            topic::create("small", &[("max.message.bytes", "4000")]).await?;
            every_100_ms(outbox, || TooLarge {
                customer: "poison",
                noise: (0..400).map(|_| uuid::Uuid::now_v7().simple().to_string()).collect(),
            });
        }
        Disturbance::Reclaiming => drop(tokio::spawn(reclaim_each_second(outbox.clone()))),
    }
    Ok(HashSet::new())
}

const OPEN_TRANSACTION: &str = "\
begin;
insert into outbox_event
  (lane, id, topic, name, version, content_type, headers, payload, occurred_at)
values
  (3, gen_random_uuid(), 'orders', 'order.created', 1, 'application/json', '{}', '{}', now())";

const AN_HOUR_OF_SAVES: &str = "\
insert into outbox_progress (lane)
select l.lane from generate_series(1, 72000), outbox_lane l order by 1";

/// Leaves a connection with an open transaction.
async fn hold(outbox: &Outbox<Postgres>, transaction: &'static str) -> Result<(), Failure> {
    let mut open = outbox.pool().acquire().await?.detach();
    open.execute(transaction).await?;
    // It stays open until this process ends.
    std::mem::forget(open);
    Ok(())
}

async fn stall_a_topic(outbox: &Outbox<Postgres>) -> Result<HashSet<u64>, Failure> {
    topic::create("slow", &[("min.insync.replicas", "2")]).await?;
    let mut tx = outbox.begin().await?;
    for customer in 0..CUSTOMERS {
        tx.emit(OrderCreated::new(customer, u64::MAX))?;
    }
    tx.commit().await?;
    let mut tx = outbox.begin().await?;
    tx.emit(OnStalledTopic { customer: "slow" })?;
    tx.commit().await?;
    let same_lane: Vec<String> = sqlx::query_scalar(
        "select distinct convert_from(key, 'utf8') from outbox_event
         where topic = 'orders'
           and lane = (select lane from outbox_event where topic = 'slow' limit 1)",
    )
    .fetch_all(outbox.pool())
    .await?;
    every_100_ms(outbox, || OnStalledTopic { customer: "slow" });
    Ok(same_lane.iter().filter_map(|customer| customer.parse().ok()).collect())
}

async fn reclaim_each_second(outbox: Outbox<Postgres>) -> Result<(), Failure> {
    loop {
        // The rest of the leaf is used up; those before it are full, published, and free.
        sqlx::query("select setval('outbox_seq', ((last_value >> 20) + 1) << 20) from outbox_seq")
            .execute(outbox.pool())
            .await?;
        outbox.reclaim(Duration::ZERO).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn every_100_ms<E: DomainEvent + Send>(
    outbox: &Outbox<Postgres>,
    event: impl Fn() -> E + Send + 'static,
) {
    let outbox = outbox.clone();
    tokio::spawn(async move {
        loop {
            let mut tx = outbox.begin().await?;
            tx.emit(event())?;
            tx.commit().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        #[allow(unreachable_code)]
        Ok::<_, Failure>(())
    });
}
