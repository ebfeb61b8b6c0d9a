use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::pin::Pin;
use std::sync::Arc;

#[transactional_outbox(tx in outbox)]
async fn create(outbox: Arc<Outbox<Sqlite>>, name: String) -> Result<String, OutboxError> {
    let rows = sqlx::query("select $1").bind(&name).fetch_all(&mut *tx).await?;
    tx.emit(Created(rows.len() as u64))?;
    Ok(name)
}

#[transactional_outbox(tx in outbox)]
async fn borrowing<'a>(outbox: &Outbox<Sqlite>, name: &'a str) -> Result<&'a str, OutboxError> {
    let rows = sqlx::query("select $1").bind(name).fetch_all(&mut *tx).await?;
    tx.emit(Created(rows.len() as u64))?;
    Ok(name)
}

type Handler = Box<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, OutboxError>> + Send>>
        + Send
        + Sync,
>;

fn handler(outbox: Arc<Outbox<Sqlite>>) -> Handler {
    Box::new(move |name| Box::pin(create(outbox.clone(), name)))
}

async fn all(outbox: Arc<Outbox<Sqlite>>) {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(create(outbox.clone(), String::new()));
    tasks.spawn(async move { borrowing(&outbox, &String::new()).await.map(str::to_owned) });
    while tasks.join_next().await.is_some() {}
}

fn main() {
    let _ = |outbox: Arc<Outbox<Sqlite>>| {
        let _ = handler(outbox.clone());
        tokio::spawn(all(outbox));
    };
}
