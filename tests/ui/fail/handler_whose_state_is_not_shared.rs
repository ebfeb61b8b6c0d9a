use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::cell::RefCell;
use std::rc::Rc;

struct Service {
    seen: RefCell<Vec<u64>>,
}

#[event_handler]
async fn in_a_struct(
    tx: &mut OutboxTx<'_, Sqlite>,
    created: Created,
    service: &Service,
) -> sqlx::Result<()> {
    sqlx::query("select 1").execute(tx).await?;
    service.seen.borrow_mut().push(created.0);
    Ok(())
}

#[event_handler]
async fn alone(
    tx: &mut OutboxTx<'_, Sqlite>,
    _: &Created,
    count: &RefCell<u64>,
) -> sqlx::Result<()> {
    sqlx::query("select 1").execute(tx).await?;
    *count.borrow_mut() += 1;
    Ok(())
}

#[derive(Clone)]
struct Inventory {
    count: Rc<u64>,
}

impl Inventory {
    #[event_handler]
    async fn reserve(&self, tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> sqlx::Result<()> {
        sqlx::query("select $1").bind(*self.count as i64).execute(tx).await?;
        drop(created);
        Ok(())
    }
}

fn main() {}
