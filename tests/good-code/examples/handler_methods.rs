//! Handlers that are methods of what they need.
#![deny(warnings)]

use std::sync::Arc;

use outbox::consume::{Consumer, EventContext, EventHandler};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Sqlite};

#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events")]
pub struct OrderPlaced {
    #[event(key)]
    pub item: String,
}

#[derive(Clone)]
pub struct Inventory {
    prefix: &'static str,
}

impl Inventory {
    const TABLE: &'static str = "reserved";

    /// Reserves what was ordered.
    #[event_handler(group = "inventory", retry_topics = ["1s"], later_events = "wait")]
    pub async fn reserve(
        &self,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> sqlx::Result<()> {
        self.insert(tx, &order.item).await
    }

    #[event_handler]
    async fn with_context(
        self: &Self,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: &OrderPlaced,
        context: &EventContext,
    ) -> Result<(), sqlx::Error> {
        self.insert(tx, &format!("{}, attempt {}", order.item, context.attempt)).await
    }

    #[event_handler]
    async fn of_a_clone(
        mut self,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> Result<(), sqlx::Error> {
        self.prefix = "a clone of ";
        self.insert(tx, &order.item).await
    }

    // Associated functions, one of which names its type.
    #[event_handler]
    async fn associated(tx: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> sqlx::Result<()> {
        sqlx::query("insert into reserved values ($1)").bind(order.item).execute(tx).await?;
        Ok(())
    }

    #[event_handler]
    async fn naming_its_type(
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
        service: &Self,
    ) -> sqlx::Result<()> {
        assert_eq!(Self::TABLE, "reserved");
        service.insert(tx, &order.item).await
    }

    async fn insert(&self, tx: &mut OutboxTx<'_, Sqlite>, item: &str) -> sqlx::Result<()> {
        let item = format!("{}{item}", self.prefix);
        sqlx::query("insert into reserved values ($1)").bind(item).execute(tx).await?;
        Ok(())
    }
}

// What cannot be cloned is shared.
pub struct Shared {
    prefix: String,
}

impl Shared {
    #[event_handler]
    #[allow(dead_code)]
    async fn reserve(
        self: Arc<Self>,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> sqlx::Result<()> {
        let item = self.prefix.clone() + &order.item;
        sqlx::query("insert into reserved values ($1)").bind(item).execute(tx).await?;
        Ok(())
    }

    #[event_handler]
    async fn borrowed(
        self: &Arc<Self>,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> sqlx::Result<()> {
        Arc::clone(self).inner(tx, order).await
    }

    async fn inner(
        self: Arc<Self>,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> sqlx::Result<()> {
        sqlx::query("insert into reserved values ($1)").bind(order.item).execute(tx).await?;
        Ok(())
    }
}

// Generic over a port, and over the database.
pub trait Stock: Clone + Send + Sync + 'static {
    fn take(&self, item: &str) -> impl Future<Output = Result<(), OutboxError>> + Send;
}

#[derive(Clone)]
pub struct InMemory;

impl Stock for InMemory {
    async fn take(&self, _: &str) -> Result<(), OutboxError> {
        Ok(())
    }
}

#[derive(Clone)]
pub struct Warehouse<S> {
    stock: S,
}

impl<S: Stock> Warehouse<S> {
    #[event_handler]
    pub async fn take(
        &self,
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> Result<(), OutboxError> {
        self.stock.take(&order.item).await?;
        tx.emit(order)?;
        Ok(())
    }
}

impl<S> Warehouse<S>
where
    S: Stock,
{
    #[event_handler]
    async fn count(
        tx: &mut OutboxTx<'_, Postgres>,
        order: OrderPlaced,
        own: &Self,
    ) -> Result<(), OutboxError> {
        own.stock.take(&order.item).await?;
        tx.emit(order)?;
        Ok(())
    }
}

fn handlers(outbox: Outbox<Sqlite>, inventory: &Inventory) -> impl Sized + use<> {
    // Handlers outlive what they were made of.
    let shared = Arc::new(Shared { prefix: String::new() });
    Consumer::builder(outbox, "127.0.0.1:9092")
        .handler(inventory.reserve())
        .handler(shared.borrowed())
        .handler(Warehouse { stock: InMemory }.take())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), OutboxError> {
    let pool = sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::query("create table reserved (item text)").execute(&pool).await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    let inventory = Inventory { prefix: "a " };
    let order = OrderPlaced { item: "book".to_owned() };
    let context = TestMessage::of(&order)?.context();
    macro_rules! expect {
        ($handler:expr, $what:literal) => {
            let handler = $handler;
            let mut tx = outbox.begin().await?;
            handler.handle(&mut tx, order.clone(), &context).await?;
            tx.commit().await?;
            let reserved: Vec<String> =
                sqlx::query_scalar("delete from reserved returning item").fetch_all(&pool).await?;
            assert_eq!(reserved, [$what]);
        };
    }
    expect!(inventory.reserve(), "a book");
    expect!(Inventory { prefix: "the " }.reserve(), "the book");
    expect!(inventory.with_context(), "a book, attempt 1");
    expect!(inventory.clone().of_a_clone(), "a clone of book");
    expect!(Inventory::associated(), "book");
    expect!(Inventory::naming_its_type(inventory.clone()), "a book");
    let shared = Arc::new(Shared { prefix: "our ".to_owned() });
    expect!(Arc::clone(&shared).reserve(), "our book");
    expect!(shared.borrowed(), "book");
    let inbox = HandlerTest::new(outbox.clone(), inventory.reserve())?;
    assert_eq!(inbox.deliver(&TestMessage::of(&order)?).await?, Delivery::Handled);
    let name = "handler_methods::Inventory::reserve";
    assert_eq!(EventHandler::name(&inventory.reserve()), name);
    drop(handlers(outbox, &inventory));
    drop(Warehouse::count(Warehouse { stock: InMemory }));
    Ok(())
}
