use std::fmt::Display;

use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn numbers(
    outbox: &Outbox<Sqlite>,
    upto: u64,
) -> Result<impl Iterator<Item = u64> + Send, OutboxError> {
    tx.emit(Created(upto))?;
    Ok(0..upto)
}

#[transactional_outbox(tx in outbox)]
async fn several(
    outbox: &Outbox<Sqlite>,
) -> Result<
    (impl Fn(u8) -> Option<u8> + 'static, Box<dyn Display>, impl Display + use<'_>),
    OutboxError,
> {
    tx.emit(Created(1))?;
    Ok((|n| Some(n), Box::new("boxed"), "opaque"))
}

fn main() {
    let _ = (numbers, several);
}
