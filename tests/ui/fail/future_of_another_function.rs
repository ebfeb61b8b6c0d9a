use std::pin::Pin;

use outbox::{Outbox, OutboxError, transactional_outbox};
use sqlx::Sqlite;

trait Service {
    type Future: Future<Output = Result<(), OutboxError>>;

    fn call(&self) -> Self::Future;
}

struct Orders {
    outbox: Outbox<Sqlite>,
}

async fn inner() -> Result<(), OutboxError> {
    Ok(())
}

impl Service for Orders {
    type Future = Pin<Box<dyn Future<Output = Result<(), OutboxError>>>>;

    #[transactional_outbox(tx in self.outbox)]
    fn call(&self) -> Self::Future {
        Box::pin(inner())
    }
}

fn main() {}
