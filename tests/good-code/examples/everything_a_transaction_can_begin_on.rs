use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::sync::Arc;

use outbox::OutboxTx;
use outbox::tx::{BeginTransaction, TxOptions};
use sqlx::SqlitePool;

/// What many services have: all of the application in one value.
#[derive(Clone)]
struct App {
    outbox: Outbox<Sqlite>,
    pool: SqlitePool,
    shared: Arc<Outbox<Sqlite>>,
}

impl BeginTransaction for App {
    type Database = Sqlite;

    async fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> Result<OutboxTx<'static, Sqlite>, OutboxError> {
        self.outbox.begin_with(options).await
    }
}

impl App {
    fn outbox(&self) -> &Outbox<Sqlite> {
        &self.outbox
    }

    fn cloned(&self) -> Outbox<Sqlite> {
        self.outbox.clone()
    }
}

macro_rules! each {
    ($($name:ident($($arg:ident: $ty:ty)?) in $source:expr;)*) => {$(
        #[transactional_outbox(tx in $source)]
        async fn $name($($arg: $ty)?) -> Result<(), OutboxError> {
            tx.emit(Created(1))?;
            Ok(())
        }
    )*};
}
each! {
    field(app: &App) in app.outbox;
    pool(app: &App) in app.pool;
    pool_by_ref(app: &App) in &app.pool;
    arc(app: &App) in app.shared;
    getter(app: &App) in app.outbox();
    temporary(app: &App) in app.cloned();
    state(app: App) in app;
    state_by_ref(app: &App) in app;
    state_by_arc(app: Arc<App>) in app;
    ref_to_arc(outbox: &Arc<Outbox<Sqlite>>) in outbox;
    boxed(outbox: Box<Outbox<Sqlite>>) in outbox;
    ref_to_ref(outbox: &&Outbox<Sqlite>) in outbox;
    by_value(outbox: Outbox<Sqlite>) in outbox;
    pool_by_value(pool: SqlitePool) in pool;
    block(app: &App) in { let app = app; &app.outbox };
}

#[transactional_outbox(tx in apps[0].outbox)]
async fn index(apps: &[App]) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(tx in app.as_ref().ok_or(sqlx::Error::PoolClosed)?.outbox)]
async fn question_mark(app: Option<App>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

fn main() {}
