//! The grants of docs/guide/postgres.md suffice for each part, and a service that emits needs each
//! of its own.

use std::time::Duration;

use crate::support::consumers::{
    Scripted, TRANSIENT, consume, publish, until_handled, with_handled,
};
use crate::support::relays::{RunningRelay, kafka_publisher, new_relay, until_parked_count};
use crate::support::topics::create_topic;
use crate::support::{self, OrderCreated, POSTGRES, commit, eventually, within_a_minute};
use outbox::admin::{EventFilter, PauseScope, Replay};
use outbox::consume::{EventContext, HandlerOptions, LaterEvents, handler_fn};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::{ExactlyOnce, Outbox, OutboxError, OutboxTx};
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres};
use uuid::Uuid;

const PAGE: &str = include_str!("../../docs/guide/postgres.md");

/// A relay that delivers exactly once has the rights of a relay as well.
const EXACTLY_ONCE: &str = "exactly_once";

/// The statements of the page, each with its role's name as it is here.
fn statements(role: &str, name: &str) -> Vec<String> {
    let blocks = PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let statements = blocks.flat_map(|(block, _)| block.split(";\n"));
    statements
        .filter_map(|statement| {
            let (grant, to) = statement.trim().rsplit_once(" to ")?;
            let is_of = |to: &str| to == role || role == EXACTLY_ONCE && to == "relay";
            to.split(", ").any(is_of).then(|| format!("{grant} to {name}"))
        })
        .collect()
}

/// A database with the tables in the schema `shop`, and the outbox of a role that has all rights of
/// the page but one.
async fn outbox_of(role: &str, without: Option<usize>) -> (Outbox<Postgres>, PgPool) {
    let admin = support::postgres(POSTGRES, 4).await;
    let owner = Outbox::builder(admin.clone()).schema("shop").build().unwrap();
    owner.migrate().await.unwrap();
    let name = format!("{role}_{}", Uuid::now_v7().simple());
    admin.execute(AssertSqlSafe(format!("create role {name} login"))).await.unwrap();
    for (place, statement) in statements(role, &name).into_iter().enumerate() {
        if Some(place) != without {
            admin.execute(AssertSqlSafe(statement)).await.unwrap();
        }
    }
    let options = (*admin.connect_options()).clone().username(&name);
    let pool = PgPool::connect_with(options).await.unwrap();
    (Outbox::builder(pool).schema("shop").build().unwrap(), admin)
}

fn owner(admin: &PgPool) -> Outbox<Postgres> {
    Outbox::builder(admin.clone()).schema("shop").build().unwrap()
}

/// Runs a part with all of its rights, and without each of them.
macro_rules! each_right_is_needed {
    ($role:literal, $part:expr) => {
        let (outbox, admin) = outbox_of($role, None).await;
        within_a_minute($part(outbox, admin)).await.expect("all rights of the page");
        for without in 0..statements($role, "").len() {
            let (outbox, admin) = outbox_of($role, Some(without)).await;
            let missing = &statements($role, "it")[without];
            within_a_minute($part(outbox, admin)).await.expect_err(missing);
        }
    };
}

async fn emits(outbox: Outbox<Postgres>, _: PgPool) -> Result<(), OutboxError> {
    outbox.migrate().await?;
    let mut tx = outbox.begin().await?;
    tx.emit(OrderCreated::new("a", 1))?;
    tx.commit().await
}

#[tokio::test]
async fn a_service_that_emits_needs_what_the_page_says() {
    each_right_is_needed!("emitter", emits);
}

async fn operates(outbox: Outbox<Postgres>, admin: PgPool) -> Result<(), OutboxError> {
    commit(&owner(&admin), [OrderCreated::new("a", 1)]).await;
    outbox.migrate().await?;
    outbox.status().await?;
    outbox.parked(10).await?;
    outbox.release_all_parked().await?;
    outbox.discard_parked(Uuid::now_v7()).await?;
    outbox.migration_status().await?;
    outbox.pause(&PauseScope::All, "a test", "test").await?;
    outbox.resume(&PauseScope::Topic("orders".to_owned())).await?;
    outbox.resume(&PauseScope::All).await?;
    outbox.find_event(Uuid::now_v7()).await?;
    outbox.groups_of_event(Uuid::now_v7()).await?;
    outbox.list_events(&EventFilter::all(), None, 10).await?;
    outbox.plan_replay(&Replay::all()).await?;
    outbox.replay(Replay::all()).await.map(drop)
}

#[tokio::test]
async fn an_operator_has_enough_with_what_the_page_says() {
    let (outbox, admin) = outbox_of("operator", None).await;
    operates(outbox, admin).await.unwrap();
}

async fn nothing(
    _: &mut OutboxTx<'_, Postgres>,
    _: OrderCreated,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

/// `key_queue` is for the order of keys: below, on Kafka.
#[tokio::test]
async fn a_consumer_does_not_work_without_its_inbox() {
    let inbox =
        statements("consumer", "").iter().position(|grant| grant.contains("inbox")).unwrap();
    let (outbox, _admin) = outbox_of("consumer", Some(inbox)).await;
    outbox.migrate().await.unwrap();
    let test = HandlerTest::new(outbox, handler_fn(nothing)).unwrap();
    let message = TestMessage::of(&OrderCreated::new("a", 1)).unwrap();
    test.deliver(&message).await.unwrap_err();

    let (outbox, _admin) = outbox_of("consumer", None).await;
    let test = HandlerTest::new(outbox.clone(), handler_fn(nothing)).unwrap();
    assert_eq!(test.deliver(&message).await.unwrap(), Delivery::Handled);
    outbox.forget_handled("test", Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_keeps_the_order_of_keys_has_enough_with_what_the_page_says() {
    event_on_topic!(Created, "privileges-consumer");
    create_topic(Created::TOPIC, 1, &[]).await;
    let (outbox, admin) = outbox_of("consumer", None).await;
    let business = with_handled(Outbox::new(admin)).await;
    let grants =
        "grant insert on handled to public; grant usage on sequence handled_place_seq to public";
    business.pool().execute(grants).await.unwrap();
    const SHORT: &[Duration] = &[Duration::from_millis(100)];
    let options = HandlerOptions::new().attempts(1).retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("privileges", options, |_, n, attempt| async move {
        if n == 1 && attempt == 1 { TRANSIENT } else { Ok(()) }
    });
    let consumer = consume(&outbox, &handler);
    publish(&support::consumers::consumer_outbox().await, (1..=3).map(|n| Created::new("a", n)))
        .await;
    let handled = until_handled(&business, "privileges", 3).await;
    consumer.stop().await;
    assert_eq!(handled, (1..=3).map(|n| ("a".to_owned(), n)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_has_enough_with_what_the_page_says() {
    let (outbox, admin) = outbox_of("relay", None).await;
    let (owner, kafka) = (owner(&admin), MemoryPublisher::new());
    outbox.migrate().await.unwrap();
    let relay =
        new_relay(&outbox, kafka.clone()).park_after(1).retry_parked(Duration::from_millis(50));
    let relay = RunningRelay::start(relay);
    commit(&owner, [OrderCreated::new("a", 1)]).await;
    within_a_minute(kafka.wait_for(1)).await;
    kafka.refuse(|event| (support::order(event).customer == "b").then(|| "not now".to_owned()));
    commit(&owner, [OrderCreated::new("b", 1)]).await;
    until_parked_count(&owner, 1).await;
    kafka.accept_all();
    within_a_minute(kafka.wait_for(2)).await;
    until_parked_count(&owner, 0).await;
    let next =
        "select setval('shop.outbox_seq', ((last_value >> 20) + 1) << 20) from shop.outbox_seq";
    admin.execute(next).await.unwrap();
    commit(&owner, [OrderCreated::new("a", 2)]).await;
    within_a_minute(kafka.wait_for(3)).await;
    eventually("a leaf is reclaimed", async || outbox.reclaim(Duration::ZERO).await.unwrap() > 0)
        .await;
    relay.stop().await;
    outbox.begin().await.unwrap().execute("create table shop.another (n int)").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_delivers_exactly_once_has_enough_with_what_the_page_says() {
    event_on_topic!(Created, "privileges-exactly-once");
    create_topic(Created::TOPIC, 1, &[]).await;
    let (outbox, admin) = outbox_of(EXACTLY_ONCE, None).await;
    outbox.migrate().await.unwrap();
    let relay =
        || new_relay(&outbox, kafka_publisher()).build_exactly_once(ExactlyOnce::new()).unwrap();
    let mut tx = owner(&admin).begin().await.unwrap();
    tx.emit(Created::new("a", 1)).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(within_a_minute(relay().drain()).await.unwrap(), 1);
    within_a_minute(relay().hand_back()).await.unwrap();
    assert_eq!(within_a_minute(relay().drain()).await.unwrap(), 0);
}
