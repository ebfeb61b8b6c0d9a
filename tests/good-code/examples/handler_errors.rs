use std::error::Error;
use std::fmt;

use outbox::consume::{Classify, ErrorClass, EventHandler};
use outbox::{DomainEvent, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[derive(Debug, thiserror::Error, Classify)]
enum ReserveError {
    #[error("there is no item {0}")]
    #[classify(permanent)]
    UnknownItem(u64),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

#[event_handler]
async fn classified(tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> Result<(), ReserveError> {
    if created.0 == 0 {
        return Err(ReserveError::UnknownItem(created.0));
    }
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(created)?;
    Ok(())
}

#[derive(Debug)]
#[allow(dead_code)]
enum Plain {
    Number(std::num::ParseIntError),
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Error for Plain {}

impl From<std::num::ParseIntError> for Plain {
    fn from(error: std::num::ParseIntError) -> Self {
        Self::Number(error)
    }
}

#[event_handler]
async fn without_a_class(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), Plain> {
    let _: u8 = "1".parse()?;
    Ok(())
}

#[event_handler]
async fn of_anyhow(tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> anyhow::Result<()> {
    anyhow::ensure!(created.0 > 0, "nothing");
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn of_eyre(tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), eyre::Report> {
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn boxed(
    tx: &mut OutboxTx<'_, Sqlite>,
    created: Created,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    if created.0 == 0 {
        return Err("nothing".into());
    }
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

type Answer<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[event_handler]
async fn alias(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Answer {
    Ok(())
}

#[event_handler]
async fn alias_with_a_class(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Answer<(), ReserveError> {
    Err(ReserveError::UnknownItem(0))
}

#[event_handler]
async fn alias_of_sqlx(tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn text(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), String> {
    Err("nothing".to_owned())
}

#[event_handler]
async fn never_fails(
    _: &mut OutboxTx<'_, Sqlite>,
    _: Created,
) -> Result<(), std::convert::Infallible> {
    Ok(())
}

#[event_handler]
async fn diverges(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), OutboxError> {
    todo!()
}

// Another method of this name changes nothing.
trait Unrelated {
    fn class(&self) -> u8 {
        7
    }
}
impl Unrelated for ReserveError {}

fn class<H: EventHandler<Sqlite>>(handler: H, error: impl Into<H::Error>) -> ErrorClass {
    handler.classify(&error.into())
}

fn main() {
    use ErrorClass::{Permanent, Transient};
    assert_eq!(class(classified(), ReserveError::UnknownItem(1)), Permanent);
    assert_eq!(class(alias_with_a_class(), ReserveError::UnknownItem(1)), Permanent);
    assert_eq!(class(classified(), sqlx::Error::RowNotFound), Transient);
    assert_eq!(class(without_a_class(), "x".parse::<u8>().unwrap_err()), Transient);
    assert_eq!(class(of_anyhow(), ReserveError::UnknownItem(1)), Transient);
    assert_eq!(class(boxed(), ReserveError::UnknownItem(1)), Transient);
    assert_eq!(class(alias(), "nothing"), Transient);
    assert_eq!(class(alias_of_sqlx(), sqlx::Error::RowNotFound), Transient);
    assert_eq!(class(text(), "nothing"), Transient);
    assert_eq!(Unrelated::class(&ReserveError::UnknownItem(1)), 7);
    let _ = (of_eyre(), never_fails(), diverges());
}
