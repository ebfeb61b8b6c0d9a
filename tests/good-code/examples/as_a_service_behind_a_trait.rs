use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::marker::PhantomData;
use std::sync::Arc;

use outbox::{OutboxDatabase, OutboxTx};

trait Repository<DB: OutboxDatabase>: Send + Sync {
    type Id: Serialize + Copy + Into<u64> + Send;

    fn insert(
        &self,
        tx: &mut OutboxTx<'_, DB>,
        name: &str,
    ) -> impl Future<Output = Result<Self::Id, OutboxError>> + Send;
}

struct Service<DB: OutboxDatabase, R: Repository<DB>> {
    outbox: Outbox<DB>,
    orders: R,
    marker: PhantomData<fn() -> DB>,
}

impl<DB: OutboxDatabase, R: Repository<DB>> Service<DB, R> {
    #[transactional_outbox(tx in self.outbox, retry = 3)]
    pub async fn create(&self, name: &str) -> Result<R::Id, OutboxError> {
        let id = self.orders.insert(tx, name).await?;
        tx.emit(Created(id.into()))?;
        Ok(id)
    }

    #[transactional_outbox(tx in self.outbox)]
    pub(crate) async fn each<I>(self: &Arc<Self>, names: I) -> Result<Vec<R::Id>, OutboxError>
    where
        I: IntoIterator + Send,
        I::IntoIter: Send,
        for<'a> &'a I::Item: AsRef<str>,
        I::Item: AsRef<str> + Send + Sync,
    {
        let mut ids = Vec::new();
        for name in names {
            let name = <I::Item as AsRef<str>>::as_ref(&name);
            ids.push(self.orders.insert(tx, name).await?);
        }
        Ok(ids)
    }
}

struct Memory;

impl Repository<Sqlite> for Memory {
    type Id = u32;

    #[transactional_outbox(tx in tx)]
    async fn insert(&self, tx: &mut OutboxTx<'_, Sqlite>, name: &str) -> Result<u32, OutboxError> {
        let row: (i64,) =
            sqlx::query_as("select length($1)").bind(name).fetch_one(&mut *tx).await?;
        tx.emit(Created(9))?;
        Ok(row.0 as u32)
    }
}

fn assert_send<T: Send>(_: T) {}

fn main() {
    let _ = |service: Arc<Service<Sqlite, Memory>>| {
        assert_send(service.create("name"));
        assert_send(service.each(["a".to_owned()]));
    };
}
