// Included once per database, with `Db` naming it.

use std::sync::atomic::{AtomicUsize, Ordering};

use outbox::consume::{Consumer, EventContext, EventHandler};
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::publish::{Batch, DeliveryReport, Publisher};
use outbox::{Outbox, OutboxError, OutboxTx, Relay, transactional_outbox};
use sqlx::{Executor, Pool};

use super::event::OrderPlaced;
use super::{DIE_AFTER_PUBLISHING, Duration, Failure, GO_ON, ServiceProcess, TAKE_ORDERS};

#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{0} is not sold here")]
    NotSold(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

struct OrderService {
    outbox: Outbox<Db>,
}

impl OrderService {
    /// The order and its event are committed together. An error rolls both back.
    #[transactional_outbox(tx in self.outbox)]
    async fn place_order(&self, customer: &str, item: &str) -> Result<i64, OrderError> {
        // Locks the customer's row: two orders of one customer are placed one after the other.
        sqlx::query(SQL.count).bind(customer).execute(&mut *tx).await?;
        let number: i64 = sqlx::query_scalar(SQL.number).bind(customer).fetch_one(&mut *tx).await?;
        sqlx::query(SQL.order)
            .bind(customer)
            .bind(number)
            .bind(item)
            .execute(&mut *tx)
            .await?;
        tx.emit(OrderPlaced { customer: customer.into(), number, item: item.into() })?;
        if item == "moon" {
            return Err(OrderError::NotSold(item.into()));
        }
        Ok(number)
    }
}

/// The other service: reserves what was ordered.
struct Inventory;

impl EventHandler<Db> for Inventory {
    type Event = OrderPlaced;
    type Error = sqlx::Error;

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Db>,
        order: OrderPlaced,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(SQL.reserve)
            .bind(&order.customer)
            .bind(order.number)
            .execute(&mut *tx)
            .await?;
        println!("   inventory  reserves {} for {}, order {}", order.item, order.customer, order.number);
        Ok(())
    }
}

async fn open(database: &str) -> Result<Outbox<Db>, Failure> {
    let outbox = Outbox::builder(Pool::<Db>::connect_lazy(database)?).table_prefix("quickstart_outbox_").build()?;
    outbox.migrate().await?;
    Ok(outbox)
}

/// One run of the service process.
pub(super) async fn service(what: &str, database: &str, brokers: &str) -> Result<(), Failure> {
    let service = OrderService { outbox: open(database).await? };
    let place = async |customer, item| match service.place_order(customer, item).await {
        Ok(number) => println!("{customer}'s order {number} is committed, with its event"),
        Err(error) => println!("{customer}'s order is refused and rolled back: {error}"),
    };
    match what {
        TAKE_ORDERS => {
            place("alice", "apples").await;
            place("bob", "bread").await;
            place("alice", "moon").await;
            place("alice", "cheese").await;
            println!("{TAKE_ORDERS}");
            std::future::pending().await
        }
        DIE_AFTER_PUBLISHING => {
            let publisher = DiesAfterPublishing {
                publisher: KafkaPublisher::new(brokers)?,
                acknowledged: AtomicUsize::new(0),
            };
            let relay = Relay::builder(service.outbox.clone(), publisher);
            let relay = relay.lease(Duration::from_millis(500)).build()?;
            Ok(relay.run(std::future::pending()).await?)
        }
        GO_ON => {
            let publisher = KafkaPublisher::new(brokers)?;
            let relay = tokio::spawn(Relay::new(service.outbox.clone(), publisher).run(std::future::pending()));
            place("bob", "dates").await;
            place("alice", "eggs").await;
            println!("{GO_ON}");
            Ok(relay.await??)
        }
        _ => Err("started with unknown arguments".into()),
    }
}

/// Number of orders committed by the process that was killed before it published.
const COMMITTED_BEFORE: usize = 3;

/// Kills the process at the worst moment: the broker has the events, and the relay has not saved
/// its progress.
struct DiesAfterPublishing {
    publisher: KafkaPublisher,
    acknowledged: AtomicUsize,
}

impl Publisher for DiesAfterPublishing {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        // Called for several lanes at the same time: the last call finds that all events are
        // acknowledged.
        let reports = self.publisher.publish(batch).await;
        let acknowledged = self.acknowledged.fetch_add(reports.len(), Ordering::SeqCst) + reports.len();
        if acknowledged == COMMITTED_BEFORE {
            println!("{acknowledged} events are acknowledged by the broker, and the process dies");
            std::process::abort()
        }
        std::future::pending().await
    }
}

pub(super) async fn story(database: &str, brokers: &str) -> Result<(), Failure> {
    let outbox = open(database).await?;
    for table in [
        "create table if not exists quickstart_customer (name varchar(100) primary key, orders bigint not null)",
        "create table if not exists quickstart_order (customer text, number bigint, item text)",
        "create table if not exists quickstart_reserved (customer text, number bigint)",
    ] {
        outbox.pool().execute(table).await?;
    }
    let before = count(&outbox, ORDERS).await?;

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let kafka = KafkaConfig::new(brokers).property("allow.auto.create.topics", "true");
    let inventory = Consumer::builder(outbox.clone(), kafka)
        .group("quickstart-inventory")
        .handler(Inventory)
        .build()?;
    let inventory = tokio::spawn(inventory.run(async { _ = stopped.await }));

    println!("1. The service takes orders.");
    let mut service = ServiceProcess::start(TAKE_ORDERS, database, brokers)?;
    service.listen(TAKE_ORDERS)?;
    println!("   It is killed (SIGKILL) before it has published anything.\n");
    service.kill()?;

    println!("2. It starts again. Its relay finds the events in the outbox.");
    ServiceProcess::start(DIE_AFTER_PUBLISHING, database, brokers)?.listen("")?;
    println!();

    println!("3. It starts again, publishes the same events again, and continues.");
    let mut service = ServiceProcess::start(GO_ON, database, brokers)?;
    service.listen(GO_ON)?;
    let orders = count(&outbox, ORDERS).await?;
    let mut waited = Duration::ZERO;
    while count(&outbox, RESERVED).await? < orders && !inventory.is_finished() {
        if waited > Duration::from_secs(30) {
            return Err("the inventory did not get all orders within 30 s: is Kafka up?".into());
        }
        waited += Duration::from_millis(20);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(stop);
    let consumed = inventory.await??;
    service.kill()?;

    // In the order of the reservations, the numbers of each customer must rise.
    let reserved: Vec<(String, i64)> =
        sqlx::query_as("select customer, number from quickstart_reserved").fetch_all(outbox.pool()).await?;
    let mut last = std::collections::HashMap::new();
    let violations =
        reserved.iter().filter(|(customer, number)| last.insert(customer, number) >= Some(number)).count();

    println!();
    println!("orders committed               {}", orders - before);
    println!("orders reserved                {}", consumed.handled);
    println!("events that came twice         {}, each skipped by the inbox", consumed.duplicates);
    println!("orders of a customer in disorder {violations}");
    if reserved.len() as i64 != orders || violations > 0 {
        return Err("orders and reservations differ: this is a bug in outbox".into());
    }
    Ok(())
}

const ORDERS: &str = "select count(*) from quickstart_order";
const RESERVED: &str = "select count(*) from quickstart_reserved";

async fn count(outbox: &Outbox<Db>, rows: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(rows).fetch_one(outbox.pool()).await
}
