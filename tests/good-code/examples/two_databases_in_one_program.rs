use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use sqlx::Postgres;

struct Service {
    local: Outbox<Sqlite>,
    central: Outbox<Postgres>,
}

impl Service {
    #[transactional_outbox(tx in self.local)]
    async fn note(&self, id: u64) -> Result<(), OutboxError> {
        sqlx::query("select 1").execute(&mut *tx).await?;
        tx.emit(Created(id))?;
        self.report(id).await
    }

    #[transactional_outbox(tx in self.central, isolation = "repeatable read")]
    async fn report(&self, id: u64) -> Result<(), OutboxError> {
        sqlx::query("select 1").execute(&mut *tx).await?;
        tx.emit(Created(id))?;
        Ok(())
    }

    #[transactional_outbox(a in self.local)]
    async fn both(&self, id: u64) -> Result<(), OutboxError> {
        #[transactional_outbox(b in service.central)]
        async fn inner(service: &Service, id: u64) -> Result<(), OutboxError> {
            b.emit(Created(id))?;
            Ok(())
        }
        a.emit(Created(id))?;
        inner(self, id).await
    }
}

fn main() {
    let _ = (Service::note, Service::both);
}
