//! `isolation`, `retry` and `name` of `#[transactional_outbox]`, on real databases.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{self, OrderCreated, POSTGRES, migrated};
use outbox::tx::{BeginTransaction, TxOptions};
use outbox::{ErrorKind, Outbox, OutboxError, OutboxTx, transactional_outbox};
use sqlx::{Executor, Postgres, Sqlite};
use tokio::sync::{Barrier, Mutex};

/// Raises the error that Postgres gives to one of two transactions that cannot both commit.
pub(crate) const SERIALIZATION_FAILURE: &str =
    "do $$ begin raise exception 'not now' using errcode = '40001'; end $$";

pub(crate) async fn outbox() -> Outbox<Postgres> {
    let pool = support::postgres(POSTGRES, 4).await;
    pool.execute("create table account (name text primary key, euros bigint not null)")
        .await
        .unwrap();
    pool.execute("insert into account values ('a', 10), ('b', 10)").await.unwrap();
    migrated(Outbox::new(pool)).await
}

pub(crate) async fn events(outbox: &Outbox<Postgres>) -> i64 {
    sqlx::query_scalar("select count(*) from outbox_event").fetch_one(outbox.pool()).await.unwrap()
}

macro_rules! isolation_of {
    ($name:ident, $level:literal) => {
        #[transactional_outbox(tx in outbox, isolation = $level)]
        async fn $name(outbox: &Outbox<Postgres>) -> Result<String, OutboxError> {
            Ok(sqlx::query_scalar("show transaction_isolation").fetch_one(&mut *tx).await?)
        }
    };
}
isolation_of!(read_committed, "read committed");
isolation_of!(repeatable_read, "repeatable read");
isolation_of!(serializable, "serializable");

#[tokio::test]
async fn a_transaction_has_the_isolation_that_its_method_asks_for() {
    let outbox = outbox().await;
    assert_eq!(read_committed(&outbox).await.unwrap(), "read committed");
    assert_eq!(repeatable_read(&outbox).await.unwrap(), "repeatable read");
    assert_eq!(serializable(&outbox).await.unwrap(), "serializable");
}

#[transactional_outbox(tx in outbox, name = "place order's row", isolation = "repeatable read")]
async fn named(outbox: &Outbox<Postgres>) -> Result<(String, String), OutboxError> {
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *tx).await?;
    let shown = sqlx::query_scalar("select application_name from pg_stat_activity where pid = $1")
        .bind(pid)
        .fetch_one(outbox.pool())
        .await?;
    Ok((shown, sqlx::query_scalar("show transaction_isolation").fetch_one(&mut *tx).await?))
}

#[tokio::test]
async fn others_see_the_name_of_a_transaction_while_it_runs_and_not_after() {
    let outbox = outbox().await;
    let expected = ("place order's row".to_owned(), "repeatable read".to_owned());
    assert_eq!(named(&outbox).await.unwrap(), expected);
    let left: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where application_name like 'place%'",
    )
    .fetch_one(outbox.pool())
    .await
    .unwrap();
    assert_eq!(left, 0);
}

/// Moves a euro, and first locks the account it comes from: two that move in opposite directions
/// deadlock.
#[transactional_outbox(tx in outbox, retry = 5)]
async fn transfer(
    outbox: &Outbox<Postgres>,
    mut accounts: Vec<&'static str>,
    both_hold_one: &Barrier,
    attempts: &AtomicU32,
) -> Result<(), OutboxError> {
    let first_attempt = attempts.fetch_add(1, Ordering::Relaxed) < 2;
    tx.emit(OrderCreated::new("transfer", 1))?;
    // Taken from the argument: a second attempt must have it again.
    let to = accounts.pop().unwrap();
    let from = accounts.pop().unwrap();
    sqlx::query("update account set euros = euros - 1 where name = $1")
        .bind(from)
        .execute(&mut *tx)
        .await?;
    if first_attempt {
        both_hold_one.wait().await;
    }
    sqlx::query("update account set euros = euros + 1 where name = $1")
        .bind(to)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_victim_of_a_deadlock_runs_again_and_leaves_nothing_of_its_first_attempt() {
    let outbox = outbox().await;
    let (barrier, attempts) = (Barrier::new(2), AtomicU32::new(0));
    let (there, back) = tokio::join!(
        transfer(&outbox, vec!["a", "b"], &barrier, &attempts),
        transfer(&outbox, vec!["b", "a"], &barrier, &attempts),
    );
    there.unwrap();
    back.unwrap();
    assert_eq!(attempts.into_inner(), 3, "one of the two ran twice");
    assert_eq!(events(&outbox).await, 2, "the event of the victim's first attempt is not there");
    let euros: Vec<i64> = sqlx::query_scalar("select euros from account order by name")
        .fetch_all(outbox.pool())
        .await
        .unwrap();
    assert_eq!(euros, [10, 10]);
}

/// Opens an account with all the euros there are: the answer depends on who comes first.
#[transactional_outbox(tx in outbox, isolation = "serializable", retry = 5)]
async fn sum_up(
    outbox: &Outbox<Postgres>,
    name: &'static str,
    both_have_read: &Barrier,
    attempts: &AtomicU32,
) -> Result<i64, OutboxError> {
    let first_attempt = attempts.fetch_add(1, Ordering::Relaxed) < 2;
    let sum: i64 =
        sqlx::query_scalar("select sum(euros)::bigint from account").fetch_one(&mut *tx).await?;
    if first_attempt {
        both_have_read.wait().await;
    }
    sqlx::query("insert into account values ($1, $2)")
        .bind(name)
        .bind(sum)
        .execute(&mut *tx)
        .await?;
    tx.emit(OrderCreated::new("sum", sum))?;
    Ok(sum)
}

#[tokio::test]
async fn transactions_that_serializable_refuses_run_again_and_see_each_other() {
    let outbox = outbox().await;
    let (barrier, attempts) = (Barrier::new(2), AtomicU32::new(0));
    let (c, d) = tokio::join!(
        sum_up(&outbox, "c", &barrier, &attempts),
        sum_up(&outbox, "d", &barrier, &attempts)
    );
    let mut sums = [c.unwrap(), d.unwrap()];
    sums.sort_unstable();
    assert_eq!(sums, [20, 40], "as if one had run after the other");
    assert_eq!(attempts.into_inner(), 3);
    assert_eq!(events(&outbox).await, 2);
}

#[transactional_outbox(tx in outbox, retry = 2)]
async fn always(
    outbox: &Outbox<Postgres>,
    attempts: &AtomicU32,
    statement: &'static str,
) -> Result<(), OutboxError> {
    attempts.fetch_add(1, Ordering::Relaxed);
    tx.emit(OrderCreated::new("always", 1))?;
    tx.execute(statement).await?;
    Ok(())
}

#[tokio::test]
async fn after_the_last_retry_the_error_is_the_callers() {
    let outbox = outbox().await;
    let attempts = AtomicU32::new(0);
    let error = always(&outbox, &attempts, SERIALIZATION_FAILURE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(outbox::is_conflict(&error));
    let wrapped = anyhow::Error::new(error).context("the order was not placed");
    assert!(outbox::is_conflict(&*wrapped));
    assert_eq!(attempts.into_inner(), 3, "one attempt and two retries");
    assert_eq!(events(&outbox).await, 0);
}

#[transactional_outbox(tx in outbox)]
async fn refused(outbox: &Outbox<Postgres>) -> Result<(), OutboxError> {
    tx.execute("update account set euros = 0 where name = 'a'").await?;
    Err(sqlx::Error::RowNotFound.into())
}

#[tokio::test]
async fn when_a_function_has_failed_its_locks_are_released() {
    let outbox = outbox().await;
    for _ in 0..10 {
        refused(&outbox).await.unwrap_err();
        outbox
            .pool()
            .execute("select 1 from account where name = 'a' for update nowait")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_would_fail_again_is_not_run_again() {
    let outbox = outbox().await;
    let attempts = AtomicU32::new(0);
    let error =
        always(&outbox, &attempts, "insert into account values ('a', 1)").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(!outbox::is_conflict(&error));
    assert_eq!(attempts.into_inner(), 1);
}

/// What a `COMMIT` that inserted an account does.
async fn at_commit(outbox: &Outbox<Postgres>, statements: &str) {
    let function = format!(
        "create function at_commit() returns trigger language plpgsql as $$ begin {statements} return null; end $$"
    );
    let trigger =
        "create constraint trigger at_commit after insert on account deferrable initially deferred
                   for each row execute function at_commit()";
    outbox.pool().execute(sqlx::AssertSqlSafe(function)).await.unwrap();
    outbox.pool().execute(trigger).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_is_refused_is_run_again() {
    let outbox = outbox().await;
    // A sequence keeps counting when a transaction is rolled back.
    outbox.pool().execute("create sequence commits").await.unwrap();
    at_commit(
        &outbox,
        "if nextval('commits') = 1 then raise exception 'not now' using errcode = '40001'; end if;",
    )
    .await;
    let attempts = AtomicU32::new(0);
    always(&outbox, &attempts, "insert into account values ('c', 1)").await.unwrap();
    assert_eq!(attempts.into_inner(), 2);
    assert_eq!(events(&outbox).await, 1);
}

#[tokio::test]
async fn a_commit_that_may_have_happened_is_not_run_again() {
    let outbox = outbox().await;
    at_commit(&outbox, "perform pg_terminate_backend(pg_backend_pid());").await;
    let attempts = AtomicU32::new(0);
    let error =
        always(&outbox, &attempts, "insert into account values ('c', 1)").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error}");
    assert_eq!(attempts.into_inner(), 1);
}

/// Releases the database after the method could not begin.
struct LetsGo {
    outbox: Outbox<Sqlite>,
    blocker: Mutex<Option<OutboxTx<'static, Sqlite>>>,
    begun: AtomicU32,
}

impl BeginTransaction for LetsGo {
    type Database = Sqlite;

    async fn begin_transaction(
        &self,
        options: TxOptions,
    ) -> Result<OutboxTx<'static, Sqlite>, OutboxError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let result = self.outbox.begin_with(options).await;
        if result.is_err()
            && let Some(blocker) = self.blocker.lock().await.take()
        {
            blocker.rollback().await?;
        }
        result
    }
}

#[transactional_outbox(tx in source, retry = 1)]
async fn on_sqlite(source: &LetsGo) -> Result<(), OutboxError> {
    tx.emit(OrderCreated::new("sqlite", 1))?;
    Ok(())
}

#[tokio::test]
async fn a_busy_sqlite_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(directory.path().join("busy.db"))
        .create_if_missing(true)
        .busy_timeout(std::time::Duration::ZERO);
    let outbox =
        migrated(Outbox::new(sqlx::SqlitePool::connect_with(options).await.unwrap())).await;
    let source = LetsGo {
        blocker: Mutex::new(Some(outbox.begin().await.unwrap())),
        outbox: outbox.clone(),
        begun: AtomicU32::new(0),
    };
    on_sqlite(&source).await.unwrap();
    assert_eq!(source.begun.load(Ordering::Relaxed), 2);

    // Busy for longer than the retries last: the error says what it is.
    let _blocker = outbox.begin().await.unwrap();
    let error = on_sqlite(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}
