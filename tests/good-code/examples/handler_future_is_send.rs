//! Nothing that we write keeps a handler from being spawned.
use outbox::consume::{Consumer, EventContext, EventHandler};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Sqlite};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Reserved(#[event(key)] u64);

#[transactional_outbox(tx in tx)]
async fn in_a_savepoint(tx: &mut OutboxTx<'_, Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Reserved(1))?;
    Ok(())
}

#[event_handler(group = "inventory")]
async fn reserve(
    tx: &mut OutboxTx<'_, Sqlite>,
    created: &Created,
    context: &EventContext,
) -> Result<(), OutboxError> {
    sqlx::query("select $1").bind(context.offset).execute(&mut *tx).await?;
    in_a_savepoint(tx).await?;
    tx.emit(Reserved(created.0))?;
    Ok(())
}

#[event_handler]
#[transactional_outbox(savepoint in tx)]
async fn is_one_itself(tx: &mut OutboxTx<'_, Sqlite>, _: Reserved) -> Result<(), OutboxError> {
    savepoint.emit(Created(1))?;
    Ok(())
}

#[event_handler]
async fn ship(tx: &mut OutboxTx<'_, Postgres>, created: Created) -> Result<(), OutboxError> {
    tx.emit(Reserved(created.0))?;
    Ok(())
}

fn handle<'a, H: EventHandler<Sqlite>>(
    handler: &'a H,
    tx: &'a mut OutboxTx<'static, Sqlite>,
    event: H::Event,
    context: &'a EventContext,
) -> Box<dyn Future<Output = Result<(), H::Error>> + Send + 'a> {
    Box::new(handler.handle(tx, event, context))
}

fn is_handled<H: EventHandler<Sqlite>>(_: H) {
    let _ = handle::<H>;
}

fn main() {
    is_handled(reserve());
    is_handled(is_one_itself());
    let _ = |outbox: Outbox<Sqlite>| {
        tokio::spawn(
            Consumer::builder(outbox, "127.0.0.1:9092")
                .handler(reserve())
                .handler(is_one_itself())
                .build()
                .unwrap()
                .run(async {}),
        )
    };
    let _ = |outbox: Outbox<Postgres>| Consumer::builder(outbox, "127.0.0.1:9092").handler(ship());
}
