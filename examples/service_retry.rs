//! A transaction that is refused because of a concurrent one, and is run again.
//!
//! Two doctors are on call, and one must stay. Both ask to leave at the same moment, and each of
//! the two transactions sees two doctors. `serializable` lets one of them commit.
//!
//! ```text
//! one may leave, one may not: nobody else is on call
//! the body ran 3 times, and 1 event is published
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, Outbox, OutboxError, Relay, transactional_outbox};
use sqlx::{Executor, PgPool, Postgres};
use tokio::sync::Barrier;

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "shifts", name = "shift.ended")]
struct ShiftEnded<'a>(#[event(key)] &'a str);

#[derive(Debug, thiserror::Error)]
enum ShiftError {
    #[error("nobody else is on call")]
    NobodyElse,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

struct Shifts {
    outbox: Outbox<Postgres>,
    runs: AtomicUsize,
    both_have_read: Barrier,
}

impl Shifts {
    /// Each attempt has a new transaction, and the events of a refused one are dropped with it.
    #[transactional_outbox(tx in self.outbox, isolation = "serializable", retry = 3)]
    async fn end(&self, doctor: &str) -> Result<(), ShiftError> {
        let others = "select count(*) from on_call.doctor where name <> $1";
        let others: i64 = sqlx::query_scalar(others).bind(doctor).fetch_one(&mut *tx).await?;
        if self.runs.fetch_add(1, Ordering::SeqCst) < 2 {
            self.both_have_read.wait().await; // so that they conflict, here, each time
        }
        if others == 0 {
            return Err(ShiftError::NobodyElse);
        }
        let delete = sqlx::query("delete from on_call.doctor where name = $1").bind(doctor);
        delete.execute(&mut *tx).await?;
        tx.emit(ShiftEnded(doctor))?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    pool.execute("drop schema if exists on_call cascade; create schema on_call").await?;
    pool.execute("create table on_call.doctor (name text)").await?;
    pool.execute("insert into on_call.doctor values ('alice'), ('bob')").await?;
    let outbox = Outbox::builder(pool).schema("on_call").build()?;
    outbox.migrate().await?;

    let (runs, both_have_read) = (AtomicUsize::new(0), Barrier::new(2));
    let shifts = Shifts { outbox: outbox.clone(), runs, both_have_read };
    match tokio::join!(shifts.end("alice"), shifts.end("bob")) {
        (Ok(()), Err(why)) | (Err(why), Ok(())) => println!("one may leave, one may not: {why}"),
        both_or_none => return Err(format!("{both_or_none:?}").into()),
    }
    let published = Relay::new(outbox, MemoryPublisher::new()).drain().await?;
    let runs = shifts.runs.into_inner();
    println!("the body ran {runs} times, and {published} event is published");
    Ok(())
}
