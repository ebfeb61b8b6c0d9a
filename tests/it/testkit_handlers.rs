//! Handlers that are disturbed: the test kit finds those that are wrong when their events come
//! again, or at the same time, and does not complain about those that are right.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use outbox::consume::{ErrorClass, EventContext, EventHandler, HandlerOptions};
use outbox::testing::{
    FaultyPublisher, Finding, HandlerTest, MemoryPublisher, Seed, TestMessage, emitted,
};
use outbox::{Outbox, OutboxDatabase, OutboxTx};
use sqlx::{Executor, Postgres};
use uuid::Uuid;

use crate::support::relays::drain_to;
use crate::support::{self, OrderCreated, POSTGRES, migrated};
use crate::testkit::{OrderPaid, events, says};

on_every_store! {
    a_handler_that_calls_another_service_is_found_to_call_it_twice
    a_handler_that_fails_by_itself_is_given_up_and_its_key_continues
    two_events_of_one_id_are_found
    all_handlers_of_a_group_get_their_events
}

fn messages(customers: i64, each: i64) -> Vec<TestMessage> {
    events(customers, each).map(|event| TestMessage::of(&event).unwrap()).collect()
}

#[tokio::test]
async fn a_handler_that_writes_by_the_pool_is_found_to_write_twice() {
    let found = counted_as(By::Pool).await;
    says(found, &["the check failed: ", "killed ", "do it on `tx`", "OUTBOX_SEED=7"]);
    assert_eq!(counted_as(By::Tx).await.unwrap(), 24);
}

#[tokio::test]
async fn a_handler_that_reads_and_then_writes_is_found_to_lose_what_others_write() {
    says(counted_as(By::TxAfterReading).await, &["the check failed: ", "at the same time"]);
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
                let n: i64 = sqlx::query_scalar("select n from stock").fetch_one(&mut *tx).await?;
                let set = sqlx::query("update stock set n = $1").bind(n + 1);
                set.execute(&mut *tx).await?
            }
        };
        Ok(())
    }
}

/// Disturbs the handler in a new database, and returns how many events it has handled.
async fn counted_as(by: By) -> Result<usize, Finding> {
    let outbox =
        migrated(Outbox::new(support::postgres_that_is_waited_for(POSTGRES, 4).await)).await;
    outbox.pool().execute("create table stock (n bigint)").await.unwrap();
    outbox.pool().execute("insert into stock values (0)").await.unwrap();
    let handlers = HandlerTest::new(outbox.clone(), Count(by, outbox.clone())).unwrap();
    // Whether two attempts meet between a read and a write is not in the seed: the database decides
    // it too. Among so many, some do.
    let each = if matches!(by, By::TxAfterReading) { 40 } else { 4 };
    let handled = handlers.disturbed(messages(6, each), Seed::from(7));
    let handled = handled.check(async |handled| {
        let n: i64 =
            sqlx::query_scalar("select n from stock").fetch_one(outbox.pool()).await.unwrap();
        assert_eq!(n, handled.events.len() as i64);
    });
    let handled = handled.await?;
    assert!(handled.disturbances > 0 && handled.deliveries > 48, "{handled:?}");
    Ok(handled.of::<OrderCreated>().unwrap().len())
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
    // Enough that one is killed behind its call: where an attempt can be killed depends on how fast
    // the database answers.
    let all = 8 * 6;
    for by_id in [false, true] {
        let called = Arc::<Mutex<Called>>::default();
        let calls = Calls { by_id, called: Arc::clone(&called) };
        let handlers = HandlerTest::new(outbox.clone(), calls).unwrap();
        let handled = handlers.disturbed(messages(8, 6), Seed::from(11)).check(async |handled| {
            // It may have been called for one that is not handled yet.
            let times = called.lock().unwrap().times;
            assert!((handled.events.len()..=all).contains(&times), "{times} calls");
        });
        let handled = handled.await;
        if by_id {
            assert_eq!(handled.unwrap().events.len(), all);
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
    assert!(refused.to_string().contains("event `order.created` version 1"), "{refused}");
}
