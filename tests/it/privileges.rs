//! The grants of docs/guide/postgres.md and docs/guide/mysql.md suffice for each part, and a service
//! that emits needs each of its own.

use std::time::Duration;

use crate::support::consumers::{
    Scripted, TRANSIENT, consume, publish, until_handled, with_handled,
};
use crate::support::relays::{RunningRelay, kafka_publisher, new_relay, until_parked_count};
use crate::support::topics::create_topic;
use crate::support::{self, OrderCreated, POSTGRES, commit, eventually, migrated, within_a_minute};
use outbox::admin::{EventFilter, PauseScope, Replay};
use outbox::consume::{EventContext, HandlerOptions, LaterEvents, handler_fn};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::{ExactlyOnce, Outbox, OutboxDatabase, OutboxError, OutboxTx};
use sqlx::{AssertSqlSafe, Executor, MySql, MySqlPool, PgPool, Postgres};
use uuid::Uuid;

/// A relay that delivers exactly once has the rights of a relay as well.
const EXACTLY_ONCE: &str = "exactly_once";

/// A database with a page of the guide that has its grants, for tables in a schema `shop`.
trait Granted: OutboxDatabase {
    const PAGE: &'static str;

    /// The outbox of one who owns its tables, in a database of its own.
    async fn owner() -> Outbox<Self>;

    /// The same outbox, for a new user with these rights.
    async fn user(owner: &Outbox<Self>, name: &str, rights: &[String]) -> Outbox<Self>;
}

impl Granted for Postgres {
    const PAGE: &'static str = include_str!("../../docs/guide/postgres.md");

    async fn owner() -> Outbox<Self> {
        let admin = support::postgres(POSTGRES, 4).await;
        migrated(Outbox::builder(admin).schema("shop").build().unwrap()).await
    }

    async fn user(owner: &Outbox<Self>, name: &str, rights: &[String]) -> Outbox<Self> {
        let admin = owner.pool();
        admin.execute(AssertSqlSafe(format!("create role {name} login"))).await.unwrap();
        for right in rights {
            admin.execute(AssertSqlSafe(right.clone())).await.unwrap();
        }
        let options = (*admin.connect_options()).clone().username(name);
        let pool = PgPool::connect_with(options).await.unwrap();
        Outbox::builder(pool).schema("shop").build().unwrap()
    }
}

impl Granted for MySql {
    const PAGE: &'static str = include_str!("../../docs/guide/mysql.md");

    async fn owner() -> Outbox<Self> {
        migrated(Outbox::new(support::mysql(4).await)).await
    }

    async fn user(owner: &Outbox<Self>, name: &str, rights: &[String]) -> Outbox<Self> {
        let admin = owner.pool();
        admin.execute(AssertSqlSafe(format!("create user {name}"))).await.unwrap();
        let database: String =
            sqlx::query_scalar("select database()").fetch_one(admin).await.unwrap();
        for right in rights {
            let right = right.replace("shop.", &format!("{database}."));
            admin.execute(AssertSqlSafe(right)).await.unwrap();
        }
        let options = (*admin.connect_options()).clone().username(name);
        Outbox::new(MySqlPool::connect_with(options).await.unwrap())
    }
}

/// The statements of the page, each with its role's name as it is here.
fn statements<DB: Granted>(role: &str, name: &str) -> Vec<String> {
    let blocks = DB::PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let statements = blocks.flat_map(|(block, _)| block.split(";\n"));
    statements
        .filter_map(|statement| {
            let (grant, to) = statement.trim().rsplit_once(" to ")?;
            let is_of = |to: &str| to == role || role == EXACTLY_ONCE && to == "relay";
            to.split(", ").any(is_of).then(|| format!("{grant} to {name}"))
        })
        .collect()
}

/// The outbox of a role that has all rights of the page but one, and that of the owner.
async fn outbox_of<DB: Granted>(role: &str, without: Option<usize>) -> (Outbox<DB>, Outbox<DB>) {
    let owner = DB::owner().await;
    // MySQL has room for 32 characters.
    let name = format!("{role}_{}", &Uuid::now_v7().simple().to_string()[16..]);
    let mut rights = statements::<DB>(role, &name);
    assert!(!rights.is_empty(), "the page has the rights of {role}");
    if let Some(without) = without {
        rights.remove(without);
    }
    let outbox = DB::user(&owner, &name, &rights).await;
    (outbox, owner)
}

macro_rules! on_both {
    ($($promise:ident)*) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise::<sqlx::Postgres>().await;
            })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise::<sqlx::MySql>().await;
            })*
        }
    };
}

on_both! {
    a_service_that_emits_needs_what_the_page_says
    an_operator_has_enough_with_what_the_page_says
    a_consumer_does_not_work_without_its_inbox
    a_relay_has_enough_with_what_the_page_says
}

async fn emits<DB: Granted>(outbox: Outbox<DB>) -> Result<(), OutboxError> {
    outbox.migrate().await?;
    let mut tx = outbox.begin().await?;
    tx.emit(OrderCreated::new("a", 1))?;
    tx.commit().await
}

async fn a_service_that_emits_needs_what_the_page_says<DB: Granted>() {
    let role = "emitter";
    let (outbox, _owner) = outbox_of::<DB>(role, None).await;
    within_a_minute(emits(outbox)).await.expect("all rights of the page");
    for without in 0..statements::<DB>(role, "").len() {
        let (outbox, _owner) = outbox_of::<DB>(role, Some(without)).await;
        let missing = &statements::<DB>(role, "it")[without];
        let refused = within_a_minute(emits(outbox)).await.expect_err(missing).to_string();
        assert!(refused.contains("docs/guide"), "{refused}");
    }
}

async fn an_operator_has_enough_with_what_the_page_says<DB: Granted>() {
    let (outbox, owner) = outbox_of::<DB>("operator", None).await;
    commit(&owner, [OrderCreated::new("a", 1)]).await;
    let operates = async {
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
    };
    let operated: Result<(), OutboxError> = operates.await;
    operated.unwrap();
}

#[tokio::test]
async fn who_migrates_on_mysql_has_enough_with_what_the_page_says() {
    let (user, _owner) = outbox_of::<MySql>("migrator", None).await;
    let other = Outbox::<MySql>::builder(user.pool().clone()).table_prefix("other_");
    other.build().unwrap().migrate().await.unwrap();
}

async fn nothing<DB: OutboxDatabase>(
    _: &mut OutboxTx<'_, DB>,
    _: OrderCreated,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

/// `key_queue` is for the order of keys: below, on Kafka.
async fn a_consumer_does_not_work_without_its_inbox<DB: Granted>() {
    let rights = statements::<DB>("consumer", "");
    let inbox = rights.iter().position(|grant| grant.contains("inbox")).unwrap();
    let (outbox, _owner) = outbox_of::<DB>("consumer", Some(inbox)).await;
    outbox.migrate().await.unwrap();
    let test = HandlerTest::new(outbox, handler_fn(nothing::<DB>)).unwrap();
    let message = TestMessage::of(&OrderCreated::new("a", 1)).unwrap();
    test.deliver(&message).await.unwrap_err();

    let (outbox, _owner) = outbox_of::<DB>("consumer", None).await;
    let test = HandlerTest::new(outbox.clone(), handler_fn(nothing::<DB>)).unwrap();
    assert_eq!(test.deliver(&message).await.unwrap(), Delivery::Handled);
    assert_eq!(test.deliver(&message).await.unwrap(), Delivery::Duplicate);
    outbox.forget_handled("test", Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_keeps_the_order_of_keys_has_enough_with_what_the_page_says() {
    event_on_topic!(Created, "privileges-consumer");
    create_topic(Created::TOPIC, 1, &[]).await;
    let (outbox, owner) = outbox_of::<Postgres>("consumer", None).await;
    let business = with_handled(Outbox::new(owner.pool().clone())).await;
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

async fn a_relay_has_enough_with_what_the_page_says<DB: Granted>() {
    let (outbox, owner) = outbox_of::<DB>("relay", None).await;
    let kafka = MemoryPublisher::new();
    outbox.migrate().await.unwrap();
    let relay = new_relay(&outbox, kafka.clone())
        .park_after(1)
        .retry_parked(Duration::from_millis(50))
        .retention(Duration::from_secs(3_600));
    let relay = RunningRelay::start(relay);
    commit(&owner, [OrderCreated::new("a", 1)]).await;
    within_a_minute(kafka.wait_for(1)).await;
    kafka.refuse(|event| (support::order(event).customer == "b").then(|| "not now".to_owned()));
    commit(&owner, [OrderCreated::new("b", 1)]).await;
    until_parked_count(&owner, 1).await;
    kafka.accept_all();
    within_a_minute(kafka.wait_for(2)).await;
    until_parked_count(&owner, 0).await;
    outbox.reclaim(Duration::ZERO).await.unwrap();
    relay.stop().await;
}

/// To empty a leaf, once the sequence of the events has left it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_reclaims_with_what_the_page_says() {
    let (outbox, owner) = outbox_of::<Postgres>("relay", None).await;
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    commit(&owner, [OrderCreated::new("a", 1)]).await;
    within_a_minute(kafka.wait_for(1)).await;
    let next =
        "select setval('shop.outbox_seq', ((last_value >> 20) + 1) << 20) from shop.outbox_seq";
    owner.pool().execute(next).await.unwrap();
    commit(&owner, [OrderCreated::new("a", 2)]).await;
    within_a_minute(kafka.wait_for(2)).await;
    eventually("a leaf is reclaimed", async || outbox.reclaim(Duration::ZERO).await.unwrap() > 0)
        .await;
    relay.stop().await;
    outbox.begin().await.unwrap().execute("create table shop.another (n int)").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_delivers_exactly_once_has_enough_with_what_the_page_says() {
    event_on_topic!(Created, "privileges-exactly-once");
    create_topic(Created::TOPIC, 1, &[]).await;
    let (outbox, owner) = outbox_of::<Postgres>(EXACTLY_ONCE, None).await;
    outbox.migrate().await.unwrap();
    let relay =
        || new_relay(&outbox, kafka_publisher()).build_exactly_once(ExactlyOnce::new()).unwrap();
    let mut tx = owner.begin().await.unwrap();
    tx.emit(Created::new("a", 1)).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(within_a_minute(relay().drain()).await.unwrap(), 1);
    within_a_minute(relay().hand_back()).await.unwrap();
    assert_eq!(within_a_minute(relay().drain()).await.unwrap(), 0);
}
