//! What we write never trips a lint in the crate that uses us. `cargo clippy` sees the same in
//! `tests/it/compiled.rs`.
#![deny(
    warnings,
    future_incompatible,
    keyword_idents,
    let_underscore,
    missing_docs,
    missing_debug_implementations,
    nonstandard_style,
    redundant_lifetimes,
    rust_2018_idioms,
    rust_2021_compatibility,
    rust_2024_compatibility,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unreachable_code,
    unreachable_pub,
    unsafe_code,
    unused,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences
)]

use outbox::consume::{Classify, EventContext};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

/// An event.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
pub struct Created {
    /// Its key.
    #[event(key)]
    pub id: u64,
    /// A header.
    #[event(header)]
    #[deprecated]
    pub tenant: String,
}

/// Several.
#[derive(Debug, Serialize, DomainEvent)]
#[event(topic = "t")]
#[serde(bound = "T: Serialize")]
pub enum Several<'a, T> {
    /// One.
    A(#[event(key)] &'a str, T),
    /// Two.
    B {
        /// Its key.
        #[event(key)]
        b: u64,
    },
    /// Three.
    #[event(keyless)]
    #[deprecated]
    C,
}

/// Uses everything once.
#[transactional_outbox(tx in outbox)]
pub async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    let _emitted = emit(tx).await?;
    Ok(())
}

#[transactional_outbox(tx in tx)]
async fn emit(tx: &mut OutboxTx<'_, Sqlite>) -> Result<u8, OutboxError> {
    let _id = tx.emit(Several::A("a", 1))?;
    Ok(1)
}

/// Never returns.
#[transactional_outbox(tx in outbox)]
pub async fn never(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    let _: &mut OutboxTx<'_, Sqlite> = tx;
    return Err(sqlx::Error::RowNotFound.into());
}

/// One expression.
#[transactional_outbox(_tx in outbox)]
pub async fn one(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    Ok(())
}

/// A later version.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "t", name = "Created", version = 2, upcast_from = Created)]
pub struct CreatedLater {
    /// Its key.
    #[event(key)]
    pub id: u64,
}

impl From<Created> for CreatedLater {
    fn from(created: Created) -> Self {
        Self { id: created.id }
    }
}

/// An error.
#[derive(Debug, thiserror::Error, Classify)]
#[error("an error")]
pub enum Error {
    /// One.
    #[classify(permanent)]
    #[deprecated]
    One,
    /// Two.
    Two(#[from] OutboxError),
    /// Three.
    Three {
        /// Its number.
        number: u64,
    },
}

/// Handles an event.
#[event_handler(attempts = 3, retry_topics = ["1s", "2s"], later_events = "wait", timeout = "1m")]
pub async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, created: CreatedLater) -> Result<(), Error> {
    let _id = tx.emit(Several::A("a", created.id))?;
    Ok(())
}

/// What a handler needs.
#[derive(Debug)]
pub struct Service {
    number: u64,
}

/// Needs more.
#[event_handler]
pub async fn needs_more(
    tx: &mut OutboxTx<'_, Sqlite>,
    created: &CreatedLater,
    context: &EventContext,
    service: &Service,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if service.number < u64::from(context.attempt) {
        return Err(Error::Three { number: service.number }.into());
    }
    let _id = tx.emit(created)?;
    Ok(())
}

/// Needs nothing.
#[event_handler]
pub async fn needs_nothing(_tx: &mut OutboxTx<'_, Sqlite>, _: CreatedLater) -> sqlx::Result<()> {
    Ok(())
}

mod private {
    use super::*;

    #[event_handler]
    pub(super) async fn of_the_crate(
        _: &mut OutboxTx<'_, Sqlite>,
        _: CreatedLater,
        _: &Service,
    ) -> sqlx::Result<()> {
        Ok(())
    }
}

#[event_handler]
async fn own(_: &mut OutboxTx<'_, Sqlite>, _: CreatedLater, _: &u8) -> sqlx::Result<()> {
    Ok(())
}

fn main() {
    let _ = (create, never, one);
    let service = || Service { number: 1 };
    drop((
        reserve(),
        needs_more(service()),
        needs_nothing(),
        private::of_the_crate(service()),
        own(1),
    ));
}
