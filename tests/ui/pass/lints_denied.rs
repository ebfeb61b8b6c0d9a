//! What we write never trips a lint in the crate that uses us. `cargo clippy` sees the same in `tests/macros.rs`.
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

use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

/// An event.
#[derive(Debug, Serialize, DomainEvent)]
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
async fn emit(tx: &mut OutboxTx<'_, Sqlite>) -> Result<u8, OutboxError> { let _id = tx.emit(Several::A("a", 1))?; Ok(1) }

/// Never returns.
#[transactional_outbox(tx in outbox)]
pub async fn never(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    let _: &mut OutboxTx<'_, Sqlite> = tx;
    return Err(sqlx::Error::RowNotFound.into());
}

/// One expression.
#[transactional_outbox(_tx in outbox)]
pub async fn one(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> { Ok(()) }

fn main() {
    let _ = (create, never, one);
}
