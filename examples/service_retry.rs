//! A transaction that is refused because of a concurrent one, and is run again.
//!
//! Two doctors are on call, and one must stay. Both ask to leave at the same moment, and each of
//! the two transactions sees two doctors. `serializable` lets one of them commit. Needs
//! `DATABASE_URL`.
//!
//! ```text
//! one may leave, one may not: nobody else is on call
//! events: ["shift.ended"]
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
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
    #[transactional_outbox(tx in self.outbox, isolation = "serializable", retry = 10)]
    async fn end(&self, doctor: &str) -> Result<(), ShiftError> {
        let others = "select count(*) from demo_shifts.doctor where name <> $1";
        let others: i64 = sqlx::query_scalar(others).bind(doctor).fetch_one(&mut *tx).await?;
        if self.runs.fetch_add(1, Ordering::SeqCst) < 2 {
            self.both_have_read.wait().await; // so that they conflict, here, each time
        }
        if others == 0 {
            return Err(ShiftError::NobodyElse);
        }
        let delete = sqlx::query("delete from demo_shifts.doctor where name = $1").bind(doctor);
        delete.execute(&mut *tx).await?;
        tx.emit(ShiftEnded(doctor))?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = std::env::var("DATABASE_URL").expect("DATABASE_URL names a Postgres");
    let pool = PgPool::connect(&database).await?;
    pool.execute("drop schema if exists demo_shifts cascade; create schema demo_shifts").await?;
    pool.execute("create table demo_shifts.doctor (name text)").await?;
    pool.execute("insert into demo_shifts.doctor values ('alice'), ('bob')").await?;
    let outbox = Outbox::builder(pool).schema("demo_shifts").build()?;
    outbox.migrate().await?;

    let (runs, both_have_read) = (AtomicUsize::new(0), Barrier::new(2));
    let shifts = Shifts { outbox: outbox.clone(), runs, both_have_read };
    match tokio::join!(shifts.end("alice"), shifts.end("bob")) {
        (Ok(()), Err(why)) | (Err(why), Ok(())) => println!("one may leave, one may not: {why}"),
        both_or_none => return Err(format!("{both_or_none:?}").into()),
    }
    assert!(shifts.runs.into_inner() > 2, "one of them was run again, and saw what the other did");
    println!("events: {:?}", emitted(&outbox).await?.names());
    Ok(())
}
