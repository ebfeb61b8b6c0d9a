//! The test kit finds the bugs that it is made for, says where, and does not complain about code
//! that is right.

use std::time::Duration;

use outbox::testing::{
    Emitted, FaultyPublisher, Finding, MemoryPublisher, Seed, at_every_await, emitted,
};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, transactional_outbox};
use sqlx::{Executor, MySqlConnection, Postgres, Sqlite};

use crate::support::relays::{drain, retaining};
use crate::support::{self, OrderCreated, POSTGRES, commit, migrated};

on_every_store! {
    a_call_that_never_ends_never_waits_fails_or_panics_is_told
    a_faulty_publisher_loses_no_event_and_keeps_the_order_of_keys
    what_was_emitted_is_read_and_decoded
}

const TABLES: &str = "create table orders (n bigint)";

#[derive(Debug, serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.settled")]
pub struct OrderPaid {
    #[event(key)]
    pub customer: String,
    pub n: i64,
}

/// What the finding says has all of these.
#[track_caller]
pub fn says<T: std::fmt::Debug>(found: Result<T, Finding>, words: &[&str]) {
    let found = found.unwrap_err().to_string();
    for words in words {
        assert!(found.contains(words), "no {words:?} in: {found}");
    }
}

macro_rules! services_on {
    ($database:ident) => {
        struct Orders(Outbox<$database>);

        impl Orders {
            #[transactional_outbox(tx in self.0)]
            async fn place(&self, n: i64) -> Result<(), OutboxError> {
                sqlx::query("insert into orders (n) values ($1)").bind(n).execute(&mut *tx).await?;
                tx.emit(OrderCreated::new("a", n))?;
                Ok(())
            }

            async fn place_and_emit_after_the_commit(&self, n: i64) -> Result<(), OutboxError> {
                let insert = sqlx::query("insert into orders (n) values ($1)").bind(n);
                insert.execute(self.0.pool()).await?;
                let mut tx = self.0.begin().await?;
                tx.emit(OrderCreated::new("a", n))?;
                tx.commit().await
            }

            async fn place_and_pay(&self, n: i64) -> Result<(), OutboxError> {
                self.place(n).await?;
                let mut tx = self.0.begin().await?;
                tx.emit(OrderPaid { customer: "a".to_owned(), n })?;
                tx.commit().await
            }

            async fn forget_to_end(&self) -> Result<(), sqlx::Error> {
                let mut connection = self.0.pool().acquire().await?;
                connection.execute("begin").await?;
                connection.execute("insert into orders (n) values (1)").await?;
                Ok(())
            }

            async fn keep_a_connection(&self) -> Result<(), sqlx::Error> {
                let connection = self.0.pool().acquire().await?;
                sqlx::query("select 1").execute(self.0.pool()).await?;
                std::mem::forget(connection);
                Ok(())
            }

            /// Orders and events are the same.
            async fn checked<T, E: std::fmt::Debug>(
                &self,
                call: impl AsyncFnMut() -> Result<T, E>,
            ) -> Result<outbox::testing::Dropped, Finding> {
                let check = async |emitted: &Emitted| {
                    let orders: Vec<i64> = sqlx::query_scalar("select n from orders order by n")
                        .fetch_all(self.0.pool())
                        .await
                        .unwrap();
                    let of = emitted.of::<OrderCreated>().unwrap();
                    let events: Vec<i64> = of.into_iter().map(|order| order.n).collect();
                    assert_eq!(orders, events, "orders without events, or events without orders");
                };
                at_every_await(&self.0, call).check(check).await
            }
        }

        fn counted() -> impl FnMut() -> i64 {
            let mut n = 0;
            move || {
                n += 1;
                n
            }
        }

        #[tokio::test]
        async fn a_method_in_one_transaction_is_right() {
            let orders = orders().await;
            let mut n = counted();
            let dropped = orders.checked(|| orders.place(n())).await.unwrap();
            assert!(dropped.completed >= 3 && dropped.dropped >= 5, "{dropped:?}");
        }

        #[tokio::test]
        async fn an_event_that_is_emitted_after_the_commit_is_found_to_be_lost() {
            let orders = orders().await;
            let mut n = counted();
            let found = orders.checked(|| orders.place_and_emit_after_the_commit(n())).await;
            says(
                found,
                &[
                    "dropped at its await ",
                    THE_INSERT,
                    ": the check failed: ",
                    "orders without events",
                    "on the `tx` of one transaction",
                ],
            );
        }

        #[tokio::test]
        async fn a_part_of_the_events_is_found_without_a_check() {
            let orders = orders().await;
            let mut n = counted();
            let found = at_every_await(&orders.0, || orders.place_and_pay(n()));
            let found = found.check(async |_| {}).await;
            says(found, &["dropped at its await ", "a part of its events, [\"order.created\"]"]);
            let allowed = at_every_await(&orders.0, || orders.place_and_pay(n()));
            allowed.in_several_transactions().check(async |_| {}).await.unwrap();
        }

        #[tokio::test]
        async fn a_transaction_that_is_left_open_is_found() {
            let orders = orders().await;
            let found = at_every_await(&orders.0, || orders.forget_to_end());
            let found = found.check(async |_| {}).await;
            says(found, &["a transaction was left open: "]);
        }

        #[tokio::test]
        async fn a_connection_that_is_kept_is_found() {
            let orders = orders().await;
            let found = at_every_await(&orders.0, || orders.keep_a_connection());
            let found = found.check(async |_| {}).await;
            says(found, &["the call ran to its end: 1 of the ", "did not come back"]);
        }
    };
}

mod on_sqlite {
    use super::*;

    services_on!(Sqlite);

    /// sqlx runs and logs the statements of SQLite on another thread: what had ended is not known.
    const THE_INSERT: &str = "";

    async fn orders() -> Orders {
        let (pool, directory) = support::sqlite(2).await;
        // Until the process ends.
        std::mem::forget(directory);
        let outbox = migrated(Outbox::new(pool)).await;
        outbox.pool().execute(TABLES).await.unwrap();
        Orders(outbox)
    }
}

mod on_postgres {
    use super::*;

    services_on!(Postgres);

    const THE_INSERT: &str = "`insert into orders (n) values ($1)`";

    async fn orders() -> Orders {
        let outbox =
            migrated(Outbox::new(support::postgres_that_is_waited_for(POSTGRES, 4).await)).await;
        outbox.pool().execute(TABLES).await.unwrap();
        Orders(outbox)
    }

    impl Orders {
        // In SQLite, the two connections would wait for each other.
        #[transactional_outbox(tx in self.0)]
        async fn place_outside_of_tx(&self, n: i64) -> Result<(), OutboxError> {
            let insert = sqlx::query("insert into orders (n) values ($1)").bind(n);
            insert.execute(self.0.pool()).await?;
            tx.emit(OrderCreated::new("a", n))?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_row_that_is_written_outside_of_the_transaction_is_found() {
        let orders = orders().await;
        let mut n = counted();
        let found = orders.checked(|| orders.place_outside_of_tx(n())).await;
        says(found, &["dropped at its await ", "the check failed: ", "orders without events"]);
    }
}

mod on_mysql {
    use super::*;

    async fn forget_to_end(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        connection.execute("begin").await?;
        connection.execute("insert into orders (n) values (1)").await.map(drop)
    }

    #[tokio::test]
    async fn a_transaction_that_is_left_open_is_found() {
        let outbox = migrated(Outbox::new(support::mysql(4).await)).await;
        outbox.pool().execute(TABLES).await.unwrap();
        let in_the_pool = async || forget_to_end(&mut *outbox.pool().acquire().await?).await;
        let found = at_every_await(&outbox, in_the_pool).check(async |_| {}).await;
        says(found, &["a transaction was left open: ", "of a connection in the pool"]);

        let beside = async || {
            let mut connection = outbox.pool().acquire().await?.detach();
            forget_to_end(&mut connection).await?;
            std::mem::forget(connection);
            Ok::<_, sqlx::Error>(())
        };
        let found = at_every_await(&outbox, beside).check(async |_| {}).await;
        says(found, &["a transaction was left open: transaction ", " of the server"]);
    }
}

/// Events of `customers` customers, of each customer `each`.
pub fn events(customers: i64, each: i64) -> impl Iterator<Item = OrderCreated> {
    (0..customers * each).map(move |n| OrderCreated::new(format!("c{}", n % customers), n))
}

async fn a_call_that_never_ends_never_waits_fails_or_panics_is_told<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let never = || std::future::pending::<Result<(), OutboxError>>();
    let found = at_every_await(&outbox, never).within(Duration::from_millis(300));
    says(found.check(async |_| {}).await, &["did not end within 300ms", "await 1"]);

    let always = async || -> Result<(), OutboxError> {
        loop {
            tokio::task::yield_now().await;
        }
    };
    let found = at_every_await(&outbox, always).at_most(3).check(async |_| {}).await;
    says(found, &["waited 3 times", "`at_most`"]);

    let found = at_every_await(&outbox, async || Ok::<_, OutboxError>(()));
    says(found.check(async |_| {}).await, &["without waiting once"]);

    let found = at_every_await(&outbox, async || {
        outbox.status().await?;
        Err::<(), _>(OutboxError::from(sqlx::Error::RowNotFound))
    });
    says(found.check(async |_| {}).await, &["the call failed, although it was not dropped"]);

    let found = at_every_await(&outbox, async || -> Result<(), OutboxError> {
        outbox.status().await?;
        panic!("a bug in the service")
    });
    says(found.check(async |_| {}).await, &["the call panicked: a bug in the service"]);
}

async fn a_faulty_publisher_loses_no_event_and_keeps_the_order_of_keys<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    commit(&outbox, events(20, 5)).await;
    let kafka = MemoryPublisher::new();
    let faulty = FaultyPublisher::new(kafka.clone(), Seed::new());
    drain(retaining(&outbox, faulty.clone())).await.unwrap();
    let (emitted, published) = (emitted(&outbox).await.unwrap(), kafka.published());
    emitted.all_published_in(&published).unwrap();
    let faults = faulty.faults();
    assert!(faults.not_sent > 0 && faults.answers_lost > 0 && faults.delayed > 0, "{faults:?}");
    assert!(published.len() > emitted.len() + faults.duplicated as usize, "{faults:?}");

    let missing = published.iter().filter(|record| record.id != emitted[7].id);
    let missing: Vec<_> = missing.cloned().collect();
    says(emitted.all_published_in(&missing), &["emitted and is not published"]);
    let mut late = missing;
    late.push(emitted[7].clone());
    says(emitted.all_published_in(&late), &["before event `order.created`"]);
}

async fn what_was_emitted_is_read_and_decoded<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    tx.emit(OrderPaid { customer: "a".to_owned(), n: 1 }).unwrap();
    tx.emit_tombstone::<OrderPaid>("b").unwrap();
    assert_eq!(emitted(&outbox).await.unwrap().names(), [] as [&str; 0], "not committed");
    tx.commit().await.unwrap();

    let emitted = emitted(&outbox).await.unwrap();
    assert_eq!(emitted.names(), ["order.created", "order.settled", "order.settled"]);
    assert_eq!(emitted.of::<OrderCreated>().unwrap(), [OrderCreated::new("a", 1)]);
    assert_eq!(emitted.of::<OrderPaid>().unwrap().len(), 1, "a tombstone has nothing to decode");
    let mut broken = emitted[0].clone();
    broken.payload = Some(b"{".to_vec());
    let error = Emitted::from(vec![broken]).of::<OrderCreated>().unwrap_err();
    assert!(error.to_string().contains("cannot be decoded"), "{error}");
}
