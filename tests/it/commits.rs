//! `Ok` means committed, and an error says what happened before it says what to do.

use crate::support::proxy::{Proxy, Way};
use crate::support::wait::given_up;
use crate::support::{self, OrderCreated, POSTGRES, migrated, until_true, within_a_minute};
use outbox::consume::{EventContext, EventHandler};
use outbox::testing::{HandlerTest, TestMessage};
use outbox::{ErrorKind, Outbox, OutboxError, OutboxTx, transactional_outbox};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres};

async fn outbox_on(pool: PgPool) -> Outbox<Postgres> {
    let outbox = migrated(Outbox::new(pool)).await;
    outbox.pool().execute("create table orders (n bigint primary key)").await.unwrap();
    outbox
}

async fn outbox() -> Outbox<Postgres> {
    outbox_on(support::postgres(POSTGRES, 2).await).await
}

async fn rows(outbox: &Outbox<Postgres>) -> (i64, i64) {
    let read = "select (select count(*) from orders), (select count(*) from outbox_event)";
    let rows = sqlx::query_as(read).fetch_one(outbox.pool()).await.unwrap();
    let none_open = "select count(*) = 0 from pg_stat_activity
                     where datname = current_database() and state like 'idle in tr%'";
    // Its connection rolls back as it returns to the pool.
    until_true(outbox.pool(), none_open).await;
    rows
}

const REFUSED: &str = "insert into orders values (null)";

async fn in_a_repository(connection: &mut PgConnection) {
    connection.execute(REFUSED).await.unwrap_err();
}

macro_rules! swallows {
    ($($name:ident($tx:ident) $body:block)*) => {$(
        #[transactional_outbox($tx in outbox)]
        async fn $name(outbox: &Outbox<Postgres>) -> Result<(), OutboxError> {
            $tx.execute("insert into orders values (1)").await?;
            $body
            Ok(())
        }
    )*};
}
swallows! {
    an_error(tx) { tx.execute(REFUSED).await.unwrap_err(); }
    an_error_and_emits(tx) { tx.execute(REFUSED).await.unwrap_err(); tx.emit(OrderCreated::new("a", 1))?; }
    an_error_of_a_row(tx) { sqlx::query(REFUSED).fetch_optional(&mut *tx).await.unwrap_err(); }
    an_error_of_a_repository(tx) { in_a_repository(tx).await; }
    an_error_and_the_next(tx) {
        tx.execute(REFUSED).await.unwrap_err();
        tx.execute("select 1").await.unwrap_err();
    }
    an_error_of_a_syntax(tx) { tx.execute("selec").await.unwrap_err(); }
    an_error_of_a_savepoint(tx) {
        let mut inner = tx.savepoint().await?;
        inner.execute(REFUSED).await.unwrap_err();
        inner.commit().await.unwrap_err();
        tx.execute(REFUSED).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_body_that_swallows_an_error_of_the_database_is_not_told_ok() {
    let outbox = outbox().await;
    macro_rules! each {
        ($($name:ident),*) => {$(
            let error = $name(&outbox).await.expect_err(stringify!($name));
            assert!(error.to_string().contains("its error was not returned"), "{}: {error}", stringify!($name));
            assert_eq!(rows(&outbox).await, (0, 0), stringify!($name));
        )*};
    }
    each!(
        an_error,
        an_error_and_emits,
        an_error_of_a_row,
        an_error_of_a_repository,
        an_error_and_the_next,
        an_error_of_a_syntax,
        an_error_of_a_savepoint
    );
}

#[transactional_outbox(tx in outbox)]
async fn an_error_in_a_savepoint(outbox: &Outbox<Postgres>) -> Result<(), OutboxError> {
    tx.execute("insert into orders values (1)").await?;
    let mut inner = tx.savepoint().await?;
    inner.execute(REFUSED).await.unwrap_err();
    drop(inner);
    Ok(())
}

#[tokio::test]
async fn an_error_in_a_savepoint_that_is_rolled_back_leaves_the_rest() {
    let outbox = outbox().await;
    an_error_in_a_savepoint(&outbox).await.unwrap();
    assert_eq!(rows(&outbox).await, (1, 0));
}

/// sqlx rolls back all of it then, and each statement that followed would be a transaction of its
/// own.
#[tokio::test]
async fn a_transaction_whose_savepoint_was_given_up_as_it_began_commits_nothing() {
    let pool = support::postgres(POSTGRES, 2).await;
    let (proxy, options) = Proxy::of_pool(&pool).await;
    let outbox = outbox_on(PgPoolOptions::new().connect_with(options).await.unwrap()).await;
    let mut tx = outbox.begin().await.unwrap();
    tx.execute("insert into orders values (1)").await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    // Or the answer may be there already when it is given up.
    proxy.silence_open(Way::ToClient);
    given_up(tx.savepoint());
    proxy.thaw();
    tx.execute("insert into orders values (2)").await.unwrap_err();
    tx.savepoint().await.unwrap_err();
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("rolled back before its commit"), "{error}");
    assert_eq!(rows(&outbox).await, (0, 0));
}

#[tokio::test]
async fn a_commit_with_a_nested_transaction_left_open_is_an_error() {
    let outbox = outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.execute("insert into orders values (1)").await.unwrap();
    std::mem::forget(Connection::begin(&mut *tx).await.unwrap());
    tx.commit().await.unwrap_err();
    assert_eq!(rows(&outbox).await, (0, 0));
}

/// In SQLite such a statement ends the transaction, and those after it commit by themselves.
#[tokio::test]
async fn on_sqlite_a_transaction_that_a_statement_rolled_back_publishes_nothing() {
    let (pool, _directory) = support::sqlite(1).await;
    let outbox = migrated(Outbox::new(pool)).await;
    outbox.pool().execute("create table orders (n integer primary key) strict").await.unwrap();
    outbox.pool().execute("insert into orders values (1)").await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    tx.execute("insert or rollback into orders values (1)").await.unwrap_err();
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("or rollback"), "{error}");
    // The next statement is not run: it would commit by itself.
    let mut tx = outbox.begin().await.unwrap();
    tx.execute("insert or rollback into orders values (1)").await.unwrap_err();
    let error = tx.execute("insert into orders values (2)").await.unwrap_err();
    assert!(error.to_string().contains("or rollback"), "{error}");
    tx.execute("insert into orders values (3)").await.unwrap_err();
    tx.savepoint().await.unwrap_err();
    tx.commit().await.unwrap_err();
    let left: (i64, i64) =
        sqlx::query_as("select (select count(*) from outbox_event), (select count(*) from orders)")
            .fetch_one(outbox.pool())
            .await
            .unwrap();
    assert_eq!(left, (0, 1));
    let mut tx = outbox.begin().await.unwrap();
    tx.execute("insert or rollback into orders values (1)").await.unwrap_err();
    tx.rollback().await.unwrap();
    let mut sqlx_tx = outbox.pool().begin().await.unwrap();
    sqlx_tx.execute("insert or rollback into orders values (1)").await.unwrap_err();
    outbox.attach(&mut sqlx_tx).await.unwrap_err();
    sqlx_tx.rollback().await.unwrap();
    // A refusal that ends nothing but its statement is no reason to roll back.
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    tx.execute("insert into orders values (1)").await.unwrap_err();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_missing_table_of_the_user_is_not_blamed_on_the_outbox() {
    let outbox = outbox().await;
    for statement in
        ["select from customers", "select from outbox_events", "select from elsewhere.orders"]
    {
        let mut tx = outbox.begin().await.unwrap();
        let error = OutboxError::from(tx.execute(statement).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Database, "{error}");
        assert!(error.to_string().starts_with("the database refused: relation"), "{error}");
        assert!(!error.to_string().contains("migrate"), "{error}");
    }
    let other = Outbox::builder(outbox.pool().clone()).table_prefix("shop_").build().unwrap();
    let error = other.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMigrated);
    assert!(
        error.to_string().starts_with("the database refused: relation \"shop_lane\""),
        "{error}"
    );
}

#[tokio::test]
async fn errors_of_migrate_speak_of_tables() {
    let admin = support::postgres(POSTGRES, 1).await;
    let role = format!("nothing_{}", uuid::Uuid::now_v7().simple());
    admin.execute(sqlx::AssertSqlSafe(format!("create role {role} login"))).await.unwrap();
    let options = (*admin.connect_options()).clone().username(&role);
    let error =
        Outbox::new(PgPool::connect_with(options).await.unwrap()).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(
        error.to_string().contains("tables could not be looked at or created by this role"),
        "{error}"
    );
    assert!(!error.to_string().contains("its events"), "{error}");
}

async fn asks_for_two(
    outbox: &Outbox<Postgres>,
    _: &mut OutboxTx<'_, Postgres>,
) -> Result<(), OutboxError> {
    sqlx::query("select 1").execute(outbox.pool()).await?;
    Ok(())
}

#[tokio::test]
async fn a_pool_without_a_connection_left_names_the_cause_and_the_remedy() {
    let pool = support::postgres(POSTGRES, 1).await;
    let options = (*pool.connect_options()).clone();
    let small = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(std::time::Duration::from_millis(100))
        .connect_with(options)
        .await
        .unwrap();
    let outbox = migrated(Outbox::new(small)).await;
    let mut tx = outbox.begin().await.unwrap();
    let error = within_a_minute(asks_for_two(&outbox, &mut tx)).await.unwrap_err();
    for words in ["max_connections", "its `tx`"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

struct AsksForTwo(PgPool);

impl EventHandler<Postgres> for AsksForTwo {
    type Event = OrderCreated;
    type Error = sqlx::Error;

    async fn handle(
        &self,
        _: &mut OutboxTx<'_, Postgres>,
        _: OrderCreated,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("select 1").execute(&self.0).await.map(drop)
    }
}

#[tokio::test]
async fn a_handler_that_exhausts_the_pool_names_the_cause_and_the_remedy() {
    let pool = support::postgres(POSTGRES, 1).await;
    let small = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(std::time::Duration::from_secs(1))
        .connect_with((*pool.connect_options()).clone())
        .await
        .unwrap();
    let outbox = migrated(Outbox::new(small.clone())).await;
    let test = HandlerTest::new(outbox, AsksForTwo(small)).unwrap();
    let delivery = test.deliver(&TestMessage::of(&OrderCreated::new("a", 1)).unwrap()).await;
    let said = format!("{delivery:?}");
    assert!(said.contains("use its `tx`") && said.contains("`concurrency`"), "{said}");
}
