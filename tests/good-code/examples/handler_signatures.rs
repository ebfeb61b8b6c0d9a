use std::sync::Arc;

use outbox::consume::{EventContext, EventHandler};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool};

#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created")]
struct OrderCreated {
    #[event(key)]
    customer: String,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "payment-events")]
#[serde(untagged)]
enum PaymentEvent {
    Paid {
        #[event(key)]
        paid: u64,
    },
    Refunded {
        #[event(key)]
        refunded: u64,
    },
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Changed<T> {
    #[event(key)]
    id: T,
}

async fn note(tx: &mut OutboxTx<'_, Sqlite>, what: impl Into<String> + Send) -> sqlx::Result<()> {
    sqlx::query("insert into handled values ($1)").bind(what.into()).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn by_value(tx: &mut OutboxTx<'_, Sqlite>, order: OrderCreated) -> sqlx::Result<()> {
    note(tx, order.customer).await
}

#[event_handler()]
async fn by_reference(tx: &mut OutboxTx<'_, Sqlite>, order: &OrderCreated) -> sqlx::Result<()> {
    note(tx, &order.customer).await
}

#[event_handler]
async fn with_context(
    tx: &mut OutboxTx<'_, Sqlite>,
    order: OrderCreated,
    context: &EventContext,
) -> sqlx::Result<()> {
    note(tx, format!("{} of {}", order.customer, context.topic)).await
}

#[event_handler]
async fn several(tx: &mut OutboxTx<'_, Sqlite>, event: PaymentEvent) -> Result<(), sqlx::Error> {
    match event {
        PaymentEvent::Paid { paid } => note(tx, format!("{paid} is paid")).await,
        PaymentEvent::Refunded { refunded } => note(tx, format!("{refunded} is refunded")).await,
    }
}

struct Service {
    name: &'static str,
}

#[event_handler]
async fn with_state(
    tx: &mut OutboxTx<'_, Sqlite>,
    order: OrderCreated,
    service: &Service,
) -> sqlx::Result<()> {
    note(tx, format!("{} by {}", order.customer, service.name)).await
}

#[event_handler]
async fn with_context_and_state(
    tx: &mut OutboxTx<'_, Sqlite>,
    order: &OrderCreated,
    context: &EventContext,
    service: &Service,
) -> sqlx::Result<()> {
    note(tx, format!("{} by {}, attempt {}", order.customer, service.name, context.attempt)).await
}

trait Catalog: Send + Sync {
    fn knows(&self, customer: &str) -> bool;
}

impl Catalog for Service {
    fn knows(&self, customer: &str) -> bool {
        customer == self.name
    }
}

#[event_handler]
async fn with_state_and_context(
    tx: &mut outbox::OutboxTx<'_, sqlx::Sqlite>,
    OrderCreated { mut customer }: OrderCreated,
    catalog: &Arc<dyn Catalog>,
    _: &outbox::consume::EventContext,
) -> sqlx::Result<()> {
    if catalog.knows(&customer) {
        customer.push_str(" is known");
    }
    note(tx, customer).await
}

#[event_handler]
async fn with_a_function_as_its_state(
    tx: &mut OutboxTx<'_, Sqlite>,
    order: OrderCreated,
    rename: &fn(&str) -> String,
) -> sqlx::Result<()> {
    note(tx, rename(&order.customer)).await
}

#[event_handler]
#[allow(unused_parens)]
async fn of_one_type_of_a_generic_event(
    (tx): &mut (OutboxTx<'_, Sqlite>),
    _: Changed<u64>,
) -> sqlx::Result<()> {
    note(tx, "changed").await
}

type InSqlite<'c, DB = Sqlite> = OutboxTx<'c, DB>;

#[event_handler]
async fn with_an_alias(tx: &mut InSqlite<'_, Sqlite>, order: OrderCreated) -> sqlx::Result<()> {
    note(tx, order.customer).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), OutboxError> {
    let pool = sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::query("create table handled (what text)").execute(&pool).await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    let order = TestMessage::of(&OrderCreated { customer: "alice".to_owned() })?;
    let service = || Service { name: "alice" };
    macro_rules! expect {
        ($handler:expr, $message:expr, [$($what:literal),*]) => {
            let test = HandlerTest::new(outbox.clone(), $handler)?;
            assert_eq!(test.deliver(&$message).await?, Delivery::Handled);
            assert_eq!(handled(&pool).await, [$($what),*]);
        };
    }
    expect!(by_value(), order.clone().header("ce_id", uuid(1)), ["alice"]);
    expect!(by_reference(), order.clone().header("ce_id", uuid(2)), ["alice"]);
    expect!(with_context(), order.clone().header("ce_id", uuid(3)), ["alice of order-events"]);
    expect!(
        several(),
        TestMessage::of(&PaymentEvent::Refunded { refunded: 7 })?,
        ["7 is refunded"]
    );
    expect!(several(), TestMessage::of(&PaymentEvent::Paid { paid: 7 })?, ["7 is paid"]);
    expect!(with_state(service()), order.clone().header("ce_id", uuid(4)), ["alice by alice"]);
    expect!(
        with_context_and_state(service()),
        order.clone().header("ce_id", uuid(5)),
        ["alice by alice, attempt 1"]
    );
    expect!(
        with_state_and_context(Arc::new(service())),
        order.clone().header("ce_id", uuid(6)),
        ["alice is known"]
    );
    expect!(
        with_a_function_as_its_state(str::to_uppercase),
        order.clone().header("ce_id", uuid(7)),
        ["ALICE"]
    );
    expect!(
        of_one_type_of_a_generic_event(),
        TestMessage::of(&Changed { id: 1_u64 })?,
        ["changed"]
    );
    expect!(with_an_alias(), order.clone().header("ce_id", uuid(8)), ["alice"]);
    expect!(Arc::new(by_value()), order.clone().header("ce_id", uuid(9)), ["alice"]);

    // A test of the handler alone, in a transaction of its own.
    let bob = OrderCreated { customer: "bob".to_owned() };
    let context = TestMessage::of(&bob)?.context();
    let mut tx = outbox.begin().await?;
    with_state(service()).handle(&mut tx, bob, &context).await?;
    tx.commit().await?;
    assert_eq!(handled(&pool).await, ["bob by alice"]);
    Ok(())
}

/// Another event for each handler: they share an inbox.
fn uuid(n: u128) -> String {
    uuid::Uuid::from_u128(n).to_string()
}

/// What was handled since the last time.
async fn handled(pool: &SqlitePool) -> Vec<String> {
    sqlx::query_scalar("delete from handled returning what").fetch_all(pool).await.unwrap()
}
