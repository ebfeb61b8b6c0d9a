//! The transactional outbox for Rust: events commit with your data, and reach Kafka at least once
//! and in order.
//!
//! A service that commits to its database and then publishes to Kafka loses events: a crash between
//! the two, and the inventory is never told of the order. Here the event is a row of the *same
//! transaction* as the order. A relay publishes it afterwards, and again if it cannot be sure;
//! consumers recognise what they have handled.
//!
//! The parts, in the order in which you meet them:
//!
//! 1. [`#[derive(DomainEvent)]`](macro@DomainEvent) on a struct or enum: its topic, name, version,
//!    key and headers.
//! 2. [`Outbox`], the handle: [`Outbox::migrate`] creates the tables.
//! 3. [`#[transactional_outbox]`](macro@transactional_outbox) on an async function: its body gets
//!    an [`OutboxTx`] to run queries and [`emit`](OutboxTx::emit) events on. `Ok` commits both,
//!    `Err` rolls both back. It is sugar over [`Outbox::begin`], `emit` and [`OutboxTx::commit`];
//!    [`Outbox::attach`] joins a transaction that sqlx has open. [`_mistakes`] shows what the
//!    compiler says to ten likely mistakes.
//! 4. [`Relay`], in the service or in a process of its own, with a
//!    [`publish::kafka::KafkaPublisher`]. [`Outbox::status`], [`Outbox::parked`] and
//!    [`Outbox::replay`] are for whoever operates it, [`observe`] for what watches.
//! 5. [`#[event_handler]`](macro@event_handler) on an async function, and a `consume::Consumer`
//!    that runs it once per event, tries again what fails, and keeps what it gives up as dead
//!    letters (`consume::DeadLetters`). [`_errors_retries_dead_letters`] says what becomes of an
//!    event that fails, [`_idempotency`] what is promised of one that comes twice.
//! 6. [`testing`], for tests of your service without Kafka.
//!
//! # What is promised
//!
//! - **No event without its transaction, no transaction without its events.** They are rows of one
//!   commit.
//! - **At least once.** An event leaves the outbox only when all in-sync replicas have it. After a
//!   crash some are published again; a `consume::Consumer` makes the changes of each once.
//! - **Order by key.** Events with equal keys are published in the order of their commits, if each
//!   writer held the lock of what the key names before it emitted (see [`OutboxTx`]), through
//!   retries, restarts and take-overs.
//! - **Nothing is skipped.** What Kafka refuses is tried again, and then parked with the later
//!   events of its topic and key, until it gets through or is given up: see [`Outbox::parked`].
//!
//! # Features
//!
//! | feature | what it switches on |
//! |---|---|
//! | `macros` (default) | the macros |
//! | `postgres` | the Postgres store (14 and later) |
//! | `sqlite` | the SQLite store, with SQLite itself bundled |
//! | `kafka` | the Kafka publisher, the consumer and its dead letters, with librdkafka bundled (needs a C compiler and make) |
//! | `metrics` | the metrics of [`observe`], by the crate `metrics` |
//!
//! A service whose relay runs elsewhere does not need `kafka`. For TLS, turn on the features of
//! `sqlx` (`tls-rustls`) and of `rdkafka` (`ssl`) in your own `Cargo.toml`.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub use outbox_runtime::__private;
pub use outbox_runtime::{
    BeginOutbox, BeginTransaction, Codec, CodecError, DEFAULT_MAX_EVENT_BYTES, Decode,
    DiscardedEvent, DomainEvent, Encode, ErrorKind, EventDescriptor, EventId, EventKey,
    EventRecord, EventTime, HeaderValue, Headers, Isolation, Json, LANES, Lane, LaneStatus, Outbox,
    OutboxBuilder, OutboxDatabase, OutboxError, OutboxTx, Outcome, ParkedEvent, Relay, Replay,
    RetryArgument, Status, StoredEvent, TxOptions, event_key,
};
#[doc(inline)]
pub use outbox_runtime::{observe, publish, testing};

pub mod consume {
    //! The consumer side: handlers that run in a database transaction, once per event and group.
    //!
    //! | what | |
    //! |---|---|
    //! | [`#[event_handler]`](macro@crate::event_handler), [`EventHandler`], [`handler_fn`] | what a user writes |
    //! | [`HandlerOptions`], [`Classify`] | how often and when a failed event is tried again |
    //! | `Consumer` (feature `kafka`) | runs handlers on topics |
    //! | `DeadLetters` (feature `kafka`) | what was given up: listed, replayed, discarded |
    //! | [`testing::HandlerTest`](crate::testing::HandlerTest) | runs handlers in a test, without Kafka |

    #[cfg(feature = "macros")]
    pub use outbox_macros::Classify;
    #[doc(inline)]
    pub use outbox_runtime::consume::*;
}

#[cfg(feature = "macros")]
pub use outbox_macros::{DomainEvent, event_handler, transactional_outbox};

#[cfg(all(doc, not(doctest)))]
#[doc = include_str!("../docs/guide/mistakes.md")]
pub mod _mistakes {}

#[cfg(all(doc, not(doctest)))]
#[doc = include_str!("../docs/guide/errors-retries-dead-letters.md")]
pub mod _errors_retries_dead_letters {}

#[cfg(all(doc, not(doctest)))]
#[doc = include_str!("../docs/guide/idempotency.md")]
pub mod _idempotency {}

/// The code of the README and of the guide, compiled.
#[cfg(all(
    doctest,
    feature = "macros",
    feature = "postgres",
    feature = "sqlite",
    feature = "kafka"
))]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/guide/errors-retries-dead-letters.md")]
    struct ErrorsRetriesDeadLetters;
    #[doc = include_str!("../docs/guide/idempotency.md")]
    struct Idempotency;
}
