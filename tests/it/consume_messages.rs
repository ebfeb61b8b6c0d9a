//! What a consumer reads beside events of its own version: messages of foreign producers, of older
//! versions, and what is no event.

use std::sync::Arc;

use crate::support::consumers::{
    QUICK, RunningConsumer, Scripted, consume, consumer_outbox, new_consumer, pairs, produce,
    publish, until_handled,
};
use crate::support::topics::create_topic;
use outbox::consume::{EventContext, ForeignId, Undecodable, handler_fn};
use outbox::{DomainEvent, OutboxTx};
use serde::{Deserialize, Serialize};
use sqlx::Postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_foreign_producers_are_handled_once_by_what_the_user_names() {
    event_on_topic!(Created, "consume-foreign");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let payload = |n: i64| format!(r#"{{"customer":"a","tenant":"t","n":{n}}}"#);
    for (n, request) in [(1, "r1"), (1, "r1"), (2, "r2")] {
        produce(Created::TOPIC, "a", &payload(n), &[("x-request", request)]).await;
    }
    let by_header = QUICK.foreign(ForeignId::Header("x-request"));
    let handler = Scripted::<Created>::new("foreign", by_header, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "foreign", 2).await, pairs("a", [1, 2]));
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.duplicates), (2, 1));

    let by_place = QUICK.foreign(ForeignId::Place);
    let handler = Scripted::<Created>::new("foreign-place", by_place, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "foreign-place", 3).await, pairs("a", [1, 1, 2]));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_an_event_can_be_skipped_instead() {
    event_on_topic!(Created, "consume-skipped");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    produce(Created::TOPIC, "garbage", "{", &[]).await;
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler = Scripted::<Created>::new("skipped", QUICK, |_, _, _| async { Ok(()) });
    let consumer =
        new_consumer(&outbox).handler(Arc::clone(&handler)).undecodable(Undecodable::Skip);
    let consumer = RunningConsumer::start(consumer);
    until_handled(&outbox, "skipped", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.undecodable_skipped, consumed.dead_letters), (1, 1, 0));
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "consume-versions", name = "price.changed", version = 1)]
struct PriceV1 {
    #[event(key)]
    item: String,
    euros: i64,
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "consume-versions", name = "price.changed", version = 2, upcast_from = PriceV1)]
struct Price {
    #[event(key)]
    item: String,
    cents: i64,
}

impl From<PriceV1> for Price {
    fn from(old: PriceV1) -> Self {
        Self { item: old.item, cents: old.euros * 100 }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_of_the_new_version_takes_the_old_one() {
    async fn note(
        tx: &mut OutboxTx<'_, Postgres>,
        price: Price,
        context: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("insert into handled (consumer, customer, n) values ('versions', $1, $2)")
            .bind(format!("{} v{}", price.item, context.version))
            .bind(price.cents)
            .execute(tx)
            .await?;
        Ok(())
    }
    create_topic("consume-versions", 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [PriceV1 { item: "apple".to_owned(), euros: 2 }]).await;
    publish(&outbox, [Price { item: "apple".to_owned(), cents: 199 }]).await;
    let consumer = new_consumer(&outbox).group("versions").handler(handler_fn(note));
    let consumer = RunningConsumer::start(consumer);
    let handled = until_handled(&outbox, "versions", 2).await;
    consumer.stop().await;
    assert_eq!(handled, [("apple v1".to_owned(), 200), ("apple v2".to_owned(), 199)]);
}
