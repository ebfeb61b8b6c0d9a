use std::sync::Arc;

use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::{Pool, Sqlite};

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service {
    outbox: Outbox<Sqlite>,
    count: u64,
}

impl Service {
    #[transactional_outbox(tx in self.outbox)]
    async fn by_ref(&self) -> Result<(), OutboxError> {
        tx.emit(Created(self.count))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox.clone())]
    async fn by_mut(&mut self) -> Result<u64, OutboxError> {
        self.count += 1;
        tx.emit(Created(self.count))?;
        Ok(self.count)
    }

    #[transactional_outbox(tx in self.outbox)]
    async fn by_value(self) -> Result<Self, OutboxError> {
        tx.emit(Created(self.count))?;
        Ok(self)
    }

    #[transactional_outbox(tx in self.outbox)]
    async fn by_arc(self: Arc<Self>, mut more: Vec<u64>) -> Result<Vec<u64>, OutboxError> {
        more.push(self.count);
        tx.emit(Created(self.count))?;
        Ok(more)
    }

    #[transactional_outbox(tx in outbox)]
    async fn without(outbox: Arc<Outbox<Sqlite>>) -> Result<(), OutboxError> {
        tx.emit(Created(0))?;
        Ok(())
    }
}

#[transactional_outbox(tx in pool)]
pub async fn on_a_pool(pool: &Pool<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(t in &service.outbox)]
async fn another_name(service: &Service, (a, b): (u64, u64)) -> Result<(), OutboxError> {
    t.emit(Created(a + b))?;
    Ok(())
}

fn main() {
    let _ =
        (Service::by_ref, Service::by_mut, Service::by_value, Service::by_arc, Service::without);
    let _ = (on_a_pool, another_name);
}
