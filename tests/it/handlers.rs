//! What a delivery promises whatever the database, by the tool that users test their handlers with.

use std::time::{Duration, SystemTime};

use crate::support::relays::drained;
use crate::support::{OrderCreated, eventually, order};
use outbox::consume::{ErrorClass, EventContext, EventHandler, ForeignId, HandlerOptions};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{Outbox, OutboxDatabase, OutboxTx};

on_every_store! {
    a_message_takes_effect_once_however_often_it_comes
    an_attempt_that_is_not_committed_leaves_nothing_behind
    a_failure_says_whether_trying_again_can_help
    what_is_not_an_event_of_the_handler_is_told_apart
    two_groups_handle_a_message_each
    a_foreign_message_is_recognised_by_what_the_handler_names
    the_inbox_forgets_what_is_old
    what_each_group_remembers_is_counted
    messages_may_come_out_of_order
}

/// Answers each order by one of the customer's tenant; fails as its number says.
#[derive(Default)]
struct Answers(HandlerOptions);

const TRANSIENT: i64 = -1;
const PERMANENT: i64 = -2;
const PANIC: i64 = -3;
const HANG: i64 = -4;

#[derive(Debug)]
struct Refused(ErrorClass);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the order is refused")
    }
}

impl std::error::Error for Refused {}

impl<DB: OutboxDatabase> EventHandler<DB> for Answers {
    type Event = OrderCreated;
    type Error = Refused;

    fn options(&self) -> HandlerOptions {
        self.0
    }

    fn classify(&self, error: &Refused) -> ErrorClass {
        error.0
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, DB>,
        order: OrderCreated,
        _: &EventContext,
    ) -> Result<(), Refused> {
        tx.emit(OrderCreated::new(format!("answer to {}", order.customer), order.n)).unwrap();
        match order.n {
            TRANSIENT => Err(Refused(ErrorClass::Transient)),
            PERMANENT => Err(Refused(ErrorClass::Permanent)),
            PANIC => panic!("the handler has a bug"),
            HANG => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

fn test<DB: OutboxDatabase>(outbox: &Outbox<DB>, options: HandlerOptions) -> HandlerTest<DB> {
    HandlerTest::new(outbox.clone(), Answers(options)).unwrap()
}

fn message(n: i64) -> TestMessage {
    TestMessage::of(&OrderCreated::new("a", n)).unwrap()
}

async fn emitted<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Vec<i64> {
    drained(outbox).await.iter().map(|record| order(record).n).collect()
}

async fn a_message_takes_effect_once_however_often_it_comes<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let (handler, message) = (test(&outbox, HandlerOptions::new()), message(1));
    assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Handled);
    for _ in 0..3 {
        assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Duplicate);
    }
    assert_eq!(emitted(&outbox).await, [1]);
}

async fn an_attempt_that_is_not_committed_leaves_nothing_behind<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let (handler, message) = (test(&outbox, HandlerOptions::new()), message(1));
    assert_eq!(handler.deliver_without_commit(&message).await.unwrap(), Delivery::RolledBack);
    assert_eq!(emitted(&outbox).await, [] as [i64; 0]);
    assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Handled);
    assert_eq!(emitted(&outbox).await, [1]);
}

async fn a_failure_says_whether_trying_again_can_help<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let handler = test(&outbox, HandlerOptions::new().timeout(Duration::from_secs(2)));
    for (n, expected, hint) in [
        (TRANSIENT, ErrorClass::Transient, "the order is refused"),
        (PERMANENT, ErrorClass::Permanent, "the order is refused"),
        (PANIC, ErrorClass::Transient, "panicked: the handler has a bug"),
        (HANG, ErrorClass::Transient, "did not end within 2s"),
    ] {
        let delivery = handler.deliver(&message(n)).await.unwrap();
        let Delivery::Failed { class, error } = delivery else { panic!("{delivery:?}") };
        assert_eq!(class, expected);
        assert!(error.contains(hint), "{error}");
    }
    assert_eq!(emitted(&outbox).await, [] as [i64; 0], "all of them are rolled back");
    assert_eq!(
        handler.deliver(&message(1)).await.unwrap(),
        Delivery::Handled,
        "the pool is usable"
    );
}

async fn what_is_not_an_event_of_the_handler_is_told_apart<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let handler = test(&outbox, HandlerOptions::new());
    for (message, hint) in [
        (message(1).payload("{"), "cannot be decoded"),
        (message(1).header("ce_dataversion", "7"), "no handler takes version 7"),
        (message(1).header("ce_id", ""), "nothing to be recognised by"),
        (TestMessage::foreign("order-events", None, "{}"), "no outbox wrote this"),
    ] {
        let delivery = handler.deliver(&message).await.unwrap();
        let Delivery::Undecodable(why) = delivery else { panic!("{delivery:?}") };
        assert!(why.contains(hint), "{why}");
    }
    let other = message(1).header("ce_type", "order.cancelled");
    assert_eq!(handler.deliver(&other).await.unwrap(), Delivery::PassedOver);
    assert_eq!(emitted(&outbox).await, [] as [i64; 0]);
}

async fn two_groups_handle_a_message_each<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let message = message(1);
    for group in ["one", "two"] {
        let handler = test(&outbox, HandlerOptions::new().group(group));
        assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Handled);
        assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Duplicate);
    }
    assert_eq!(emitted(&outbox).await, [1, 1]);
}

async fn a_foreign_message_is_recognised_by_what_the_handler_names<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let handler = test(&outbox, HandlerOptions::new().foreign(ForeignId::Header("x-request")));
    let foreign = |request: &str, n: i64| {
        let payload = format!(r#"{{"customer":"a","tenant":null,"n":{n}}}"#);
        TestMessage::foreign("order-events", Some(b"a"), payload).header("x-request", request)
    };
    assert_eq!(handler.deliver(&foreign("r1", 1)).await.unwrap(), Delivery::Handled);
    assert_eq!(handler.deliver(&foreign("r1", 1)).await.unwrap(), Delivery::Duplicate);
    assert_eq!(handler.deliver(&foreign("r2", 2)).await.unwrap(), Delivery::Handled);
    assert_eq!(emitted(&outbox).await, [1, 2]);
}

async fn the_inbox_forgets_what_is_old<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let (handler, message) = (test(&outbox, HandlerOptions::new().group("g")), message(1));
    assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Handled);
    assert_eq!(outbox.forget_handled("g", Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(handler.deliver(&message).await.unwrap(), Delivery::Duplicate);
    assert_eq!(outbox.forget_handled("other", Duration::ZERO).await.unwrap(), 0);
    // By clocks that count milliseconds, it may not be in the past yet.
    let forgotten = async || outbox.forget_handled("g", Duration::ZERO).await.unwrap() == 1;
    eventually("it is forgotten", forgotten).await;
    assert_eq!(
        handler.deliver(&message).await.unwrap(),
        Delivery::Handled,
        "the limit of the promise"
    );
}

async fn what_each_group_remembers_is_counted<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    assert_eq!(outbox.inbox_stats().await.unwrap(), []);
    let before = SystemTime::now() - Duration::from_secs(60);
    for (group, count) in [("b", 1), ("a", 3)] {
        let handler = test(&outbox, HandlerOptions::new().group(group));
        for n in 0..count {
            assert_eq!(handler.deliver(&message(n)).await.unwrap(), Delivery::Handled);
        }
    }
    let stats = outbox.inbox_stats().await.unwrap();
    let counted: Vec<_> = stats.iter().map(|of| (&*of.group, of.handled)).collect();
    assert_eq!(counted, [("a", 3), ("b", 1)]);
    let after = SystemTime::now() + Duration::from_secs(60);
    for of in &stats {
        assert!(before < of.oldest && of.oldest <= of.latest && of.latest < after, "{of:?}");
    }
    let hour = Duration::from_secs(3_600);
    assert_eq!(outbox.handled_longer_ago("a", hour).await.unwrap(), 0);
    // By clocks that count milliseconds, they may not be in the past yet.
    let old = async || outbox.handled_longer_ago("a", Duration::ZERO).await.unwrap() == 3;
    eventually("they are old", old).await;
    assert_eq!(outbox.forget_handled("a", Duration::ZERO).await.unwrap(), 3);
    let groups = outbox.inbox_stats().await.unwrap();
    assert_eq!(groups.iter().map(|of| &*of.group).collect::<Vec<_>>(), ["b"]);
    assert_eq!(outbox.waiting_keys().await.unwrap(), []);
}

async fn messages_may_come_out_of_order<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let handler = test(&outbox, HandlerOptions::new());
    for n in [3, 1, 2] {
        assert_eq!(handler.deliver(&message(n)).await.unwrap(), Delivery::Handled);
    }
    assert_eq!(emitted(&outbox).await, [3, 1, 2]);
}
