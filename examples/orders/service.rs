//! The business code: what is annotated, and what is written as always.

use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::{Executor, Postgres};
use uuid::Uuid;

#[derive(Debug, Deserialize)]
pub struct PlaceOrder {
    /// Id given by the client, so that it can repeat the request after a lost answer. Default: a
    /// new one.
    #[serde(default = "Uuid::now_v7")]
    pub id: Uuid,
    pub customer: String,
    pub item: String,
}

#[derive(Debug, Serialize)]
pub struct Order {
    pub id: Uuid,
    pub customer: String,
    /// Number of the order: 1, 2, 3, … for each customer.
    pub number: i64,
    pub item: String,
}

/// Published for every order that is placed.
#[derive(Debug, Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 1)]
pub struct OrderPlaced<'a> {
    pub order_id: Uuid,
    #[event(key)]
    pub customer: &'a str,
    pub number: i64,
    #[event(header)]
    pub item: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("`{0}` is not sold here")]
    NotSold(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

pub struct OrderService {
    outbox: Outbox<Postgres>,
}

impl OrderService {
    pub fn new(outbox: Outbox<Postgres>) -> Self {
        Self { outbox }
    }

    #[transactional_outbox(tx in self.outbox)]
    pub async fn place_order(&self, order: PlaceOrder) -> Result<Order, OrderError> {
        if let Some(placed) = find(tx, order.id).await? {
            return Ok(placed);
        }
        if order.item.is_empty() {
            return Err(OrderError::NotSold(order.item));
        }
        // Locks the customer's row until the commit: the lock decides the order of the events.
        let number: i64 = sqlx::query_scalar(
            "insert into customer (name, orders) values ($1, 1)
             on conflict (name) do update set orders = customer.orders + 1 returning orders",
        )
        .bind(&order.customer)
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query("insert into orders (id, customer, number, item) values ($1, $2, $3, $4)")
            .bind(order.id)
            .bind(&order.customer)
            .bind(number)
            .bind(&order.item)
            .execute(&mut *tx)
            .await?;
        tx.emit(OrderPlaced {
            order_id: order.id,
            customer: &order.customer,
            number,
            item: &order.item,
        })?;
        Ok(Order { id: order.id, customer: order.customer, number, item: order.item })
    }
}

/// Joins the transaction of its caller.
async fn find(tx: &mut OutboxTx<'_, Postgres>, id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    let found: Option<(String, i64, String)> =
        sqlx::query_as("select customer, number, item from orders where id = $1")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
    Ok(found.map(|(customer, number, item)| Order { id, customer, number, item }))
}

pub async fn create_tables(outbox: &Outbox<Postgres>) -> Result<(), sqlx::Error> {
    let mut tx = outbox.pool().begin().await?;
    tx.execute("set local client_min_messages = warning").await?;
    // Two processes may start at once, and `if not exists` alone does not make that safe.
    tx.execute("select pg_advisory_xact_lock(hashtext('orders example'))").await?;
    tx.execute(
        "create table if not exists customer (name text primary key, orders bigint not null)",
    )
    .await?;
    tx.execute(
        "create table if not exists orders
           (id uuid primary key, customer text not null, number bigint not null, item text not null)",
    )
    .await?;
    tx.commit().await
}
