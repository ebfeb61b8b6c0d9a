use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created<T>(#[event(key)] u64, T);

struct Service<DB: OutboxDatabase, S> {
    outbox: Outbox<DB>,
    state: S,
}

impl<DB, S> Service<DB, S>
where
    DB: OutboxDatabase,
    S: Serialize + Clone,
{
    #[transactional_outbox(tx in self.outbox)]
    async fn create<'a, T: Serialize, const N: usize>(
        &'a self,
        values: &'a [T; N],
        f: impl FnOnce(&S) -> u64,
    ) -> Result<&'a T, OutboxError>
    where
        T: 'a,
    {
        for value in values {
            tx.emit(Created(1, value))?;
        }
        tx.emit(Created(f(&self.state), self.state.clone()))?;
        Ok(&values[0])
    }
}

#[transactional_outbox(tx in source)]
async fn generic_error<E>(source: &Outbox<Sqlite>, fail: Option<E>) -> Result<(), E>
where
    E: From<OutboxError>,
{
    if let Some(fail) = fail {
        return Err(fail);
    }
    tx.emit(Created(1, ()))?;
    Ok(())
}

fn main() {
    let _ = generic_error::<OutboxError>;
}
