//! Outer transactions that are fields, and outboxes behind a `&mut`.
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::{Sqlite, SqlitePool};

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::sync::Arc;

#[derive(Default)]
struct Names(Vec<String>);

struct UnitOfWork<'a> {
    tx: &'a mut OutboxTx<'static, Sqlite>,
    names: Names,
}

impl UnitOfWork<'_> {
    #[transactional_outbox(tx in self.tx)]
    async fn create(&mut self, id: u64) -> Result<usize, OutboxError> {
        tx.emit(Created(id))?;
        self.names.0.push(format!("{id}"));
        self.names.rename(id);
        if id == 0 {
            return Err(sqlx::Error::RowNotFound.into());
        }
        Ok(self.names.0.len())
    }

    #[transactional_outbox(inner in &mut *self.tx)]
    async fn explicit(&mut self, id: u64) -> Result<(), OutboxError> {
        inner.emit(Created(id))?;
        self.names.0.push(format!("{id}"));
        Ok(())
    }

    #[transactional_outbox(inner in &mut self.tx)]
    async fn explicit_reference(&mut self, id: u64) -> Result<(), OutboxError> {
        inner.emit(Created(id))?;
        Ok(())
    }
}

impl Names {
    fn rename(&mut self, id: u64) {
        self.0.push(id.to_string());
    }
}

struct Owned {
    tx: OutboxTx<'static, Sqlite>,
    count: u64,
}

impl Owned {
    #[transactional_outbox(tx in self.tx)]
    async fn create(&mut self) -> Result<u64, OutboxError> {
        self.count += 1;
        tx.emit(Created(self.count))?;
        Ok(self.count)
    }

    #[transactional_outbox(tx in self.tx)]
    async fn by_value(mut self) -> Result<u64, OutboxError> {
        tx.emit(Created(self.count))?;
        Ok(self.count)
    }

    #[transactional_outbox(tx in &mut self.tx)]
    async fn not_used(&mut self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }
}

struct Tuple(OutboxTx<'static, Sqlite>, String);

impl Tuple {
    #[transactional_outbox(tx in self.0)]
    async fn create(&mut self) -> Result<(), OutboxError> {
        self.1.push('x');
        tx.emit(Created(self.1.len() as u64))?;
        Ok(())
    }
}

#[transactional_outbox(tx in unit.tx)]
async fn of_a_parameter(unit: &mut UnitOfWork<'_>) -> Result<usize, OutboxError> {
    tx.emit(Created(7))?;
    Ok(unit.names.0.len())
}

#[transactional_outbox(tx in unit.tx)]
async fn of_a_mutable_parameter(mut unit: Owned) -> Result<u64, OutboxError> {
    tx.emit(Created(7))?;
    Ok(unit.count)
}

struct Deep<'a> {
    unit: UnitOfWork<'a>,
    inner: Arc<Inner>,
    outbox: Outbox<Sqlite>,
    pools: (SqlitePool, String),
}

struct Inner {
    outbox: Outbox<Sqlite>,
}

impl Deep<'_> {
    #[transactional_outbox(tx in self.unit.tx)]
    async fn savepoint(&mut self) -> Result<usize, OutboxError> {
        tx.emit(Created(8))?;
        Ok(self.unit.names.0.len())
    }

    #[transactional_outbox(tx in self.inner.outbox)]
    async fn shared(&mut self) -> Result<usize, OutboxError> {
        tx.emit(Created(9))?;
        self.unit.names.0.push(String::new());
        Ok(self.unit.names.0.len())
    }

    #[transactional_outbox(tx in self.outbox, isolation = "serializable")]
    async fn with_options(&mut self) -> Result<usize, OutboxError> {
        tx.emit(Created(9))?;
        Ok(self.unit.names.0.len())
    }

    #[transactional_outbox(tx in self.pools.0)]
    async fn pool(&mut self) -> Result<(), OutboxError> {
        tx.emit(Created(9))?;
        self.pools.1.push('x');
        Ok(())
    }
}

#[transactional_outbox(tx in outbox)]
async fn exclusive_outbox(outbox: &mut Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    let _ = outbox.status();
    Ok(())
}

#[transactional_outbox(tx in outbox, name = "exclusive", isolation = "serializable")]
async fn exclusive_outbox_with_options(outbox: &mut Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in pool)]
async fn exclusive_pool(pool: &mut SqlitePool) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in &mut *outbox)]
async fn reborrowed(outbox: &mut Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

type Tx<'a> = OutboxTx<'a, Sqlite>;

#[transactional_outbox(tx in tx)]
async fn alias(tx: &mut Tx<'_>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in tx)]
async fn owned(mut tx: OutboxTx<'_, Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let pool =
        sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let mut outbox = Outbox::new(pool.clone());
    outbox.migrate().await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    let mut unit = UnitOfWork { tx: &mut tx, names: Names::default() };
    is_send(unit.create(0)).await.unwrap_err();
    is_send(unit.create(1)).await.unwrap();
    unit.explicit(2).await.unwrap();
    unit.explicit_reference(2).await.unwrap();
    is_send(of_a_parameter(&mut unit)).await.unwrap();
    alias(&mut tx).await.unwrap();
    assert_eq!(tx.pending_events(), 5);
    let mut owned_tx = Owned { tx, count: 0 };
    owned_tx.create().await.unwrap();
    owned_tx.not_used().await.unwrap();
    assert_eq!(owned_tx.tx.pending_events(), 7);
    owned_tx.by_value().await.unwrap();
    is_send(exclusive_outbox(&mut outbox)).await.unwrap();
    exclusive_outbox_with_options(&mut outbox).await.unwrap();
    exclusive_pool(&mut pool.clone()).await.unwrap();
    reborrowed(&mut outbox).await.unwrap();
    let _ = (of_a_mutable_parameter, owned);
    let _ = (Tuple::create, Deep::savepoint, Deep::shared, Deep::with_options, Deep::pool);
}
