//! A handler takes no name but its own, as a function does.
#![deny(warnings)]

use outbox::consume::{Consumer, EventContext, EventHandler};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
pub struct OrderPlaced(#[event(key)] u64);

// One file a handler.
mod reserve {
    use super::*;

    #[event_handler]
    pub async fn reserve(
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
    ) -> Result<(), OutboxError> {
        tx.emit(order)?;
        Ok(())
    }
}
pub use reserve::reserve;

mod stock {
    pub const SQL: &str = "select 1";
}

#[event_handler]
async fn stock(tx: &mut OutboxTx<'_, Sqlite>, _: OrderPlaced) -> sqlx::Result<()> {
    sqlx::query(stock::SQL).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn order(tx: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> Result<(), OutboxError> {
    tx.emit(order)?;
    Ok(())
}

mod handlers {
    use super::*;

    macro_rules! handlers {
        ($($name:ident)*) => {$(
            #[event_handler]
            pub async fn $name(
                $name: &mut OutboxTx<'_, Sqlite>,
                event: &OrderPlaced,
                context: &EventContext,
                state: &u64,
            ) -> Result<(), OutboxError> {
                $name.emit(event)?;
                $name.emit(OrderPlaced(u64::from(context.attempt) + state))?;
                Ok(())
            }
        )*};
    }
    handlers!(run result headers outcome error tx options name call classify handle handler service);

    // A method's names, and those of the parameters.
    #[event_handler]
    pub async fn event(tx: &mut OutboxTx<'_, Sqlite>, e: OrderPlaced) -> Result<(), OutboxError> {
        tx.emit(e)?;
        Ok(())
    }

    #[event_handler]
    pub async fn context(tx: &mut OutboxTx<'_, Sqlite>, e: OrderPlaced) -> Result<(), OutboxError> {
        tx.emit(e)?;
        Ok(())
    }

    #[event_handler]
    pub async fn state(tx: &mut OutboxTx<'_, Sqlite>, e: OrderPlaced) -> Result<(), OutboxError> {
        tx.emit(e)?;
        Ok(())
    }
}

// Beside constants, which no pattern of ours may name.
#[allow(non_upper_case_globals)]
mod constants {
    use super::*;

    pub const tx: u8 = 1;
    pub const event: u8 = 1;
    pub const context: u8 = 1;
    pub const state: u8 = 1;
    pub const error: u8 = 1;
    pub static result: u8 = tx + event + context + state + error;

    #[event_handler]
    pub async fn reserve(
        t: &mut OutboxTx<'_, Sqlite>,
        e: &OrderPlaced,
        _: &EventContext,
        _: &u8,
    ) -> Result<(), OutboxError> {
        t.emit(e)?;
        Ok(())
    }
}

// Types of the names that others give theirs.
mod types {
    use super::*;

    pub struct Types;
    pub struct Handler;
    pub struct FunctionHandler;

    #[event_handler]
    pub async fn reserve(
        tx: &mut OutboxTx<'_, Sqlite>,
        order: OrderPlaced,
        _types: &(Types, Handler, FunctionHandler),
    ) -> Result<(), OutboxError> {
        tx.emit(order)?;
        Ok(())
    }
}

fn main() {
    use handlers::*;

    // Locals of the names of handlers that are in scope.
    let order = OrderPlaced(constants::result.into());
    let (run, result, error, event) = (1, 2, 3, 4);
    assert_eq!(order.0 + run + result + error + event, 15);
    let state = || 1;
    let _ = |outbox: Outbox<Sqlite>| {
        Consumer::builder(outbox, "127.0.0.1:9092")
            .handler(reserve())
            .handler(stock())
            .handler(crate::order())
            .handler(handlers::run(state()))
            .handler(constants::reserve(1))
            .handler(types::reserve((types::Types, types::Handler, types::FunctionHandler)))
    };
    drop((result_of(headers(1)), outcome(1), tx(1), options(1), name(1), call(1), classify(1)));
    drop((handle(1), handler(1), service(1), context(), handlers::state(), handlers::event()));
    drop((handlers::result(1), handlers::error(1)));
    assert_eq!(reserve().name(), "handler_names::reserve::reserve");
    assert_eq!(stock().name(), "handler_names::stock");
}

fn result_of(handler: impl EventHandler<Sqlite>) -> impl EventHandler<Sqlite> {
    handler
}
