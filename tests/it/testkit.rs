//! The test kit finds the bugs that it is made for, says where, and does not complain about code
//! that is right.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox::consume::{ErrorClass, EventContext, EventHandler, HandlerOptions};
use outbox::testing::{
    Emitted, FaultyPublisher, Finding, HandlerTest, MemoryPublisher, Seed, TestMessage,
    at_every_await, emitted,
};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx, transactional_outbox};
use sqlx::{Executor, Postgres, Sqlite};
use uuid::Uuid;

use crate::support::relays::drain_to;
use crate::support::{self, OrderCreated, POSTGRES, commit, migrated};

on_every_store! {
    a_call_that_never_ends_never_waits_fails_or_panics_is_told
    a_faulty_publisher_loses_no_event_and_keeps_the_order_of_keys
    what_was_emitted_is_read_and_decoded
    a_handler_that_calls_another_service_is_found_to_call_it_twice
    a_handler_that_fails_by_itself_is_given_up_and_its_key_continues
    two_events_of_one_id_are_found
    all_handlers_of_a_group_get_their_events
}

const TABLES: &str = "\
create table orders (n bigint); create table stock (name text primary key, n bigint);
insert into stock values ('apples', 0)";

#[derive(Debug, serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.settled")]
struct OrderPaid {
    #[event(key)]
    customer: String,
    n: i64,
}

/// What the finding says has all of these.
#[track_caller]
fn says<T: std::fmt::Debug>(found: Result<T, Finding>, words: &[&str]) {
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
        let outbox = migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await;
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

    #[tokio::test]
    async fn a_handler_that_writes_by_the_pool_is_found_to_write_twice() {
        let orders = orders().await;
        let by_pool = handled_is_written(&orders, By::Pool).await;
        says(by_pool, &["the check failed: ", "killed ", "do it on `tx`", "OUTBOX_SEED=7"]);
        let orders = self::orders().await;
        let handled = handled_is_written(&orders, By::Tx).await.unwrap();
        assert_eq!(handled, 12);
    }

    #[tokio::test]
    async fn a_handler_that_reads_and_then_writes_is_found_to_lose_what_others_write() {
        let orders = orders().await;
        let found = handled_is_written(&orders, By::TxAfterReading).await;
        says(found, &["the check failed: ", "at the same time"]);
    }

    #[derive(Clone, Copy, PartialEq)]
    enum By {
        Tx,
        TxAfterReading,
        Pool,
    }

    /// Counts orders in a row of the table `stock`.
    struct Count(By, Outbox<Postgres>);

    impl EventHandler<Postgres> for Count {
        type Event = OrderCreated;
        type Error = sqlx::Error;

        async fn handle(
            &self,
            tx: &mut OutboxTx<'_, Postgres>,
            _: OrderCreated,
            _: &EventContext,
        ) -> Result<(), sqlx::Error> {
            let add = "update stock set n = n + 1";
            match self.0 {
                By::Tx => tx.execute(add).await?,
                By::Pool => self.1.pool().execute(add).await?,
                By::TxAfterReading => {
                    let n: i64 =
                        sqlx::query_scalar("select n from stock").fetch_one(&mut *tx).await?;
                    let set = sqlx::query("update stock set n = $1").bind(n + 1);
                    set.execute(&mut *tx).await?
                }
            };
            Ok(())
        }
    }

    async fn handled_is_written(orders: &Orders, by: By) -> Result<usize, Finding> {
        let handlers = HandlerTest::new(orders.0.clone(), Count(by, orders.0.clone())).unwrap();
        let handled = handlers.disturbed(messages(4, 3), Seed::from(7));
        let handled = handled.check(async |handled| {
            let n: i64 =
                sqlx::query_scalar("select n from stock").fetch_one(orders.0.pool()).await.unwrap();
            assert_eq!(n, handled.events.len() as i64);
        });
        let handled = handled.await?;
        assert!(handled.disturbances > 0 && handled.deliveries > 24, "{handled:?}");
        Ok(handled.of::<OrderCreated>().unwrap().len())
    }
}

/// Events of `customers` customers, of each customer `each`.
fn events(customers: i64, each: i64) -> impl Iterator<Item = OrderCreated> {
    (0..customers * each).map(move |n| OrderCreated::new(format!("c{}", n % customers), n))
}

fn messages(customers: i64, each: i64) -> Vec<TestMessage> {
    events(customers, each).map(|event| TestMessage::of(&event).unwrap()).collect()
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
    drain_to(&outbox, faulty.clone()).await;
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

/// Orders each event of another service, once for each id if that is asked.
struct Calls {
    by_id: bool,
    called: Arc<Mutex<Called>>,
}

#[derive(Default)]
struct Called {
    times: usize,
    ids: BTreeSet<Uuid>,
}

impl<DB: OutboxDatabase> EventHandler<DB> for Calls {
    type Event = OrderCreated;
    type Error = std::convert::Infallible;

    async fn handle(
        &self,
        _: &mut OutboxTx<'_, DB>,
        _: OrderCreated,
        context: &EventContext,
    ) -> Result<(), std::convert::Infallible> {
        tokio::task::yield_now().await; // the request
        let mut called = self.called.lock().unwrap();
        if !self.by_id || called.ids.insert(context.id) {
            called.times += 1;
        }
        Ok(())
    }
}

async fn a_handler_that_calls_another_service_is_found_to_call_it_twice<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    for by_id in [false, true] {
        let called = Arc::<Mutex<Called>>::default();
        let calls = Calls { by_id, called: Arc::clone(&called) };
        let handlers = HandlerTest::new(outbox.clone(), calls).unwrap();
        let handled = handlers.disturbed(messages(3, 3), Seed::from(11)).check(async |handled| {
            // It may be called for one that is not handled yet, and never more than once for each.
            let known: BTreeSet<_> = handled.events.iter().map(ToString::to_string).collect();
            assert!(called.lock().unwrap().times <= 9, "{} of {known:?}", known.len());
        });
        let handled = handled.await;
        if by_id {
            assert_eq!(handled.unwrap().events.len(), 9);
        } else {
            says(handled, &["the check failed", "have it recognise the event by `context.id`"]);
        }
    }
}

/// Fails on the first event of each customer, as its error says.
struct Fails(ErrorClass);

#[derive(Debug)]
struct OutOfStock;

impl std::fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of stock")
    }
}

impl std::error::Error for OutOfStock {}

impl<DB: OutboxDatabase> EventHandler<DB> for Fails {
    type Event = OrderCreated;
    type Error = OutOfStock;

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new().attempts(3)
    }

    fn classify(&self, _: &OutOfStock) -> ErrorClass {
        self.0
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, DB>,
        order: OrderCreated,
        _: &EventContext,
    ) -> Result<(), OutOfStock> {
        tx.emit(OrderPaid { customer: order.customer, n: order.n }).unwrap();
        if order.n < 3 { Err(OutOfStock) } else { Ok(()) }
    }
}

async fn a_handler_that_fails_by_itself_is_given_up_and_its_key_continues<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    for class in [ErrorClass::Transient, ErrorClass::Permanent] {
        let handlers = HandlerTest::new(outbox.clone(), Fails(class)).unwrap();
        let before = emitted(&outbox).await.unwrap().len();
        let handled = handlers.disturbed(messages(3, 3), Seed::new()).check(async |handled| {
            let emitted = emitted(&outbox).await.unwrap();
            assert_eq!(emitted.len() - before, handled.events.len());
        });
        let handled = handled.await.unwrap();
        assert_eq!((handled.events.len(), handled.dead_letters.len()), (6, 3));
        assert!(handled.dead_letters.iter().all(|letter| letter.error.contains("out of stock")));
        // Those of a key are handled in its order.
        let orders = handled.of::<OrderCreated>().unwrap();
        for customer in ["c0", "c1", "c2"] {
            let of = orders.iter().filter(|order| order.customer == customer);
            assert!(of.map(|order| order.n).is_sorted(), "{orders:?}");
        }
    }
}

async fn two_events_of_one_id_are_found<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let id = Uuid::now_v7().to_string();
    let messages = messages(2, 1).into_iter().map(|message| message.header("ce_id", id.clone()));
    let handlers = HandlerTest::new(outbox.clone(), Fails(ErrorClass::Permanent)).unwrap();
    let found = handlers.disturbed(messages.collect::<Vec<_>>(), 1).check(async |_| {}).await;
    says(found, &["two different events have the id", &id]);
}

async fn all_handlers_of_a_group_get_their_events<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    struct Paid;

    impl<DB: OutboxDatabase> EventHandler<DB> for Paid {
        type Event = OrderPaid;
        type Error = std::convert::Infallible;

        async fn handle(
            &self,
            _: &mut OutboxTx<'_, DB>,
            _: OrderPaid,
            _: &EventContext,
        ) -> Result<(), std::convert::Infallible> {
            Ok(())
        }
    }

    // What one handler emits is published badly, and handled by all of them.
    let handlers = HandlerTest::new(outbox.clone(), Fails(ErrorClass::Permanent)).unwrap();
    let handlers = handlers.handler(Paid).unwrap();
    handlers.disturbed(messages(2, 4), 5).check(async |_| {}).await.unwrap();
    let kafka = MemoryPublisher::new();
    drain_to(&outbox, FaultyPublisher::new(kafka.clone(), 5)).await;
    let handled = handlers.disturbed(kafka.published(), 5).check(async |_| {}).await.unwrap();
    assert_eq!(handled.events.len(), 5, "each once: {handled:?}");

    let other = Fails(ErrorClass::Permanent);
    let refused = handlers.handler(other).unwrap_err();
    assert!(refused.to_string().contains("two handlers take event"), "{refused}");
}
