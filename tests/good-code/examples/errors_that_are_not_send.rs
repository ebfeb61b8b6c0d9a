//! Such an error is never held across an await, so the future is as `Send` as without the attribute.
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::error::Error;
use std::rc::Rc;

#[transactional_outbox(tx in outbox)]
async fn boxed(outbox: &Outbox<Sqlite>, text: &str) -> Result<u64, Box<dyn Error>> {
    let id = text.parse()?;
    nested(tx).await?;
    tx.emit(Created(id))?;
    if id == 0 {
        return Err("zero".into());
    }
    Ok(id)
}

#[transactional_outbox(tx in tx)]
async fn nested(tx: &mut OutboxTx<'_, Sqlite>) -> Result<(), Box<dyn Error>> {
    tx.emit(Created(2))?;
    Ok(())
}

#[transactional_outbox(tx in outbox, retry = 2)]
async fn again(outbox: &Outbox<Sqlite>, id: u64) -> Result<u64, Box<dyn Error>> {
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(id))?;
    if id == 0 {
        return Err("zero".into());
    }
    Ok(id)
}

#[derive(Debug)]
#[expect(dead_code)]
struct NotSend(Rc<str>);

impl From<OutboxError> for NotSend {
    fn from(error: OutboxError) -> Self {
        Self(error.to_string().into())
    }
}

#[transactional_outbox(tx in outbox)]
async fn counted(outbox: &Outbox<Sqlite>) -> Result<u64, NotSend> {
    tx.emit(Created(1))?;
    Ok(1)
}

#[transactional_outbox(tx in outbox, retry = 2)]
async fn counted_again(outbox: &Outbox<Sqlite>) -> Result<u64, NotSend> {
    tx.emit(Created(1))?;
    Ok(1)
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let pool =
        sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = Outbox::new(pool);
    outbox.migrate().await.unwrap();
    let pending =
        async || outbox.status().await.unwrap().lanes.iter().map(|lane| lane.backlog).sum::<u64>();

    assert!(is_send(boxed(&outbox, "x")).await.is_err());
    assert!(is_send(boxed(&outbox, "0")).await.is_err());
    assert!(is_send(again(&outbox, 0)).await.is_err());
    assert_eq!(pending().await, 0);

    assert_eq!(is_send(boxed(&outbox, "1")).await.unwrap(), 1);
    assert_eq!(pending().await, 2);
    assert_eq!(is_send(again(&outbox, 1)).await.unwrap(), 1);
    is_send(counted(&outbox)).await.unwrap();
    is_send(counted_again(&outbox)).await.unwrap();
    assert_eq!(pending().await, 5);
}
