//! The outbox table of Debezium's event router.

use sqlx::{Executor, PgPool};
use uuid::Uuid;

use crate::{Failure, OrderCreated, outbox};

const ROWS: u64 = 1_000;

/// A new table, and a slot from which its changes are read.
pub(crate) async fn prepare(slot: &str) -> Result<(), Failure> {
    let pool = outbox(1).await?.pool().clone();
    pool.execute(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots;
         drop publication if exists debezium;
         drop table if exists debezium_outbox;
         create table debezium_outbox (
           id uuid primary key, aggregatetype text not null, aggregateid text not null, type text not null,
           payload text not null);
         create publication debezium for table debezium_outbox",
    )
    .await?;
    sqlx::query("select pg_create_logical_replication_slot($1, 'pgoutput')")
        .bind(slot)
        .execute(&pool)
        .await?;
    Ok(())
}

pub(crate) async fn fill(events: u64) -> Result<(), Failure> {
    let pool = outbox(1).await?.pool().clone();
    for first in (0..events).step_by(ROWS as usize) {
        let numbers = first..events.min(first + ROWS);
        let ids: Vec<Uuid> = numbers.clone().map(|_| Uuid::now_v7()).collect();
        let customers: Vec<String> = numbers.clone().map(|n| (n % 10_000).to_string()).collect();
        let payloads = numbers
            .map(|n| serde_json::to_string(&OrderCreated::new(n % 10_000, n)))
            .collect::<Result<Vec<_>, _>>()?;
        sqlx::query(
            "insert into debezium_outbox
             select id, 'orders', customer, 'order.created', payload
             from unnest($1::uuid[], $2::text[], $3::text[]) as e (id, customer, payload)",
        )
        .bind(ids)
        .bind(customers)
        .bind(payloads)
        .execute(&pool)
        .await?;
    }
    Ok(())
}

pub(crate) async fn insert(pool: &PgPool, n: u64) -> Result<(), Failure> {
    let customer = n % 10_000;
    let mut tx = pool.begin().await?;
    sqlx::query("insert into debezium_outbox values ($1, 'orders', $2, 'order.created', $3)")
        .bind(Uuid::now_v7())
        .bind(customer.to_string())
        .bind(serde_json::to_string(&OrderCreated::new(customer, n))?)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
