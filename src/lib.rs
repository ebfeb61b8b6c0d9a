//! The transactional outbox for Rust: events commit with your data, and reach Kafka at least once
//! and in order.
//!
//! ```no_run
//! use outbox::publish::kafka::KafkaPublisher;
//! use outbox::{DomainEvent, Outbox, OutboxError, Relay, transactional_outbox};
//!
//! #[derive(serde::Serialize, DomainEvent)]
//! #[event(topic = "order-events", name = "order.created")]
//! struct OrderCreated {
//!     #[event(key)]
//!     customer: String,
//! }
//!
//! struct Orders {
//!     outbox: Outbox<sqlx::Postgres>,
//! }
//!
//! impl Orders {
//!     // `Ok` commits the order and its event, `Err` rolls both back.
//!     #[transactional_outbox(tx in self.outbox)]
//!     async fn create(&self, customer: String) -> Result<(), OutboxError> {
//!         sqlx::query("insert into orders (customer) values ($1)")
//!             .bind(&customer)
//!             .execute(&mut *tx)
//!             .await?;
//!         tx.emit(OrderCreated { customer })?;
//!         Ok(())
//!     }
//! }
//!
//! // The relay publishes what is committed, in this process or in another.
//! # async fn relay(outbox: Outbox<sqlx::Postgres>) -> Result<(), OutboxError> {
//! # let shutdown = std::future::pending();
//! let kafka = KafkaPublisher::new("localhost:9092")?;
//! Relay::new(outbox, kafka).run(shutdown).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A service that commits to its database and then publishes to Kafka loses events: if it crashes
//! between the two, the order is stored and the inventory never hears of it. Here the event is a
//! row of the *same transaction* as the order. A relay publishes it afterwards, and publishes it
//! again if it cannot be sure that Kafka has it; consumers recognise events that they have handled.
//!
//! # Where to find what
//!
//! 1. [`#[derive(DomainEvent)]`](macro@DomainEvent) on a struct or enum declares an event: its
//!    topic, name, version, key and headers. [`event`] has what these are made of, [`codec`] the
//!    encoding of payloads.
//! 2. [`Outbox`] is the handle: [`Outbox::migrate`] creates the tables.
//! 3. [`#[transactional_outbox]`](macro@transactional_outbox) on an async function gives its body
//!    an [`OutboxTx`], on which it runs queries and [`emit`](OutboxTx::emit)s events. Without the
//!    macro, write [`Outbox::begin`], `emit` and [`OutboxTx::commit`]; [`Outbox::attach`] joins a
//!    transaction that sqlx has open. [`tx`] has the options of a transaction.
//! 4. [`Relay`] publishes, in the service or in a process of its own, to a publisher of
//!    [`publish`]. Operators use [`admin`], and monitoring uses [`observe`].
//! 5. [`#[event_handler]`](macro@event_handler) on an async function makes it a handler, which a
//!    consumer of [`consume`] runs once for each event. The consumer tries an event again when its
//!    handler fails, and keeps it as a dead letter when it gives up.
//! 6. [`testing`] is for tests of your service without Kafka.
//!
//! The [`guide`] has the rest: errors and retries, idempotency, likely mistakes, Postgres. In the
//! repository, the folder `examples` has programs of one idea each, in an order that teaches.
//!
//! # What is promised
//!
//! - **No event without its transaction, no transaction without its events.** They are rows of one
//!   commit.
//! - **At least once.** An event leaves the outbox only when all in-sync replicas have it. After a
//!   crash some are published again; a consumer makes the changes of each once.
//! - **Order by key.** Events with equal keys are published in the order of their commits, if each
//!   writer held the lock of what the key names before it emitted (see [`OutboxTx`]). Retries,
//!   restarts and take-overs keep that order.
//! - **Nothing is skipped.** What Kafka refuses is tried again, and then parked together with the
//!   later events of its topic and key, until it is published or an operator gives it up: see
//!   [`Outbox::parked`].
//!
//! # Features
//!
#![cfg_attr(feature = "_docs", doc = document_features::document_features!())]
//!
//! A crate that only declares events needs no feature beside `macros`: it has [`DomainEvent`],
//! [`event`] and [`codec`], and compiles neither sqlx nor tokio. A service whose relay runs
//! elsewhere does not need `kafka`. Of the mechanisms of SASL, `PLAIN` needs no feature, and
//! Kerberos (GSSAPI) needs the feature `gssapi` of the crate `rdkafka` in your own manifest.
//!
//! # Supported Rust versions
//!
//! The oldest supported Rust is 1.95. A new minor version of this crate may raise that, a patch
//! never does.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Without a database, most of what the manual links to is not there.
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite", feature = "mysql")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(feature = "schema")]
mod catalogue;
#[cfg(doc)]
pub mod guide;

#[doc(inline)]
pub use outbox_event::DomainEvent;
#[cfg(feature = "macros")]
pub use outbox_macros::DomainEvent;
#[cfg(all(
    feature = "macros",
    any(feature = "postgres", feature = "sqlite", feature = "mysql")
))]
pub use outbox_macros::{Classify, event_handler, transactional_outbox};
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
#[doc(inline)]
pub use outbox_runtime::consume::Classify;
#[cfg(feature = "kafka")]
#[doc(inline)]
pub use outbox_runtime::kafka;
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql", feature = "kafka"))]
#[doc(inline)]
pub use outbox_runtime::{ErrorKind, OutboxError, is_conflict, observe, testing, trace};
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
#[doc(inline)]
pub use outbox_runtime::{
    ExactlyOnce, ExactlyOnceRelay, MemoryBudget, Outbox, OutboxBuilder, OutboxDatabase, OutboxTx,
    Relay, RelayBuilder,
};

/// Describes payloads: see [contracts](guide::contracts). `use outbox::schemars::{self, JsonSchema}`
/// is all that `#[derive(JsonSchema)]` needs.
#[cfg(feature = "schema")]
#[doc(no_inline)]
pub use outbox_contracts::schemars;

/// What the macros expand to. Not for you: it changes without notice.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "schema")]
    pub use outbox_contracts::program as contracts;
    pub use outbox_event::__private::*;
    #[cfg(any(
        feature = "postgres",
        feature = "sqlite",
        feature = "mysql",
        feature = "kafka"
    ))]
    pub use outbox_runtime::__private::*;
}

pub mod event {
    //! What an event is made of: its id, key, time and headers.
    //!
    //! [`#[derive(DomainEvent)]`](macro@crate::DomainEvent) needs these traits of the fields that
    //! it uses. The common types have them already. Derive one for a newtype or an enum of your
    //! own, or implement it for any other type, to make it a [key](EventKey), a
    //! [header](HeaderValue) or an [id](EventId). What converts into a `SystemTime` is a
    //! [time](EventTime).

    #[doc(inline)]
    pub use outbox_event::{
        EventDescriptor, EventId, EventKey, EventKind, EventTime, HeaderValue, Headers,
        NotReadOnly, UpcastFrom, event_key,
    };
    #[cfg(feature = "macros")]
    pub use outbox_macros::{EventId, EventKey, HeaderValue};
    #[cfg(any(
        feature = "postgres",
        feature = "sqlite",
        feature = "mysql",
        feature = "kafka"
    ))]
    #[doc(inline)]
    pub use outbox_runtime::{DEFAULT_MAX_EVENT_BYTES, EventRecord};
}

pub mod codec {
    //! How payloads are encoded: [`Json`] by default, or a [`Codec`] of your own.

    // Errors of the compiler name these.
    #[doc(hidden)]
    pub use outbox_event::__private::{DecodeInner, Inner, Readable};
    #[doc(inline)]
    pub use outbox_event::{Codec, CodecError, Decode, Encode, Json, Variant};
}

#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
pub mod tx {
    //! Transactions beside [`OutboxTx`](crate::OutboxTx) itself: their options, what they begin
    //! on, and what a function under
    //! [`#[transactional_outbox]`](macro@crate::transactional_outbox) may return.

    #[doc(inline)]
    pub use outbox_runtime::{
        BeginOutbox, BeginTransaction, Isolation, Lend, Outcome, RetryArgument, TxOptions,
    };
}

#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
pub mod admin {
    //! For operators: the [`Status`] of an outbox, the [`ParkedEvent`]s that Kafka refused, and the
    //! [`Replay`] of events that were published.
    //!
    //! [`Outbox::status`](crate::Outbox::status), [`parked`](crate::Outbox::parked) and
    //! [`replay`](crate::Outbox::replay) are where these come from.

    #[cfg(feature = "postgres")]
    #[doc(inline)]
    pub use outbox_runtime::HandOff;
    #[doc(inline)]
    pub use outbox_runtime::{
        AppliedMigration, Connections, DeliveryStatus, Diagnosis, Direction, DiscardedEvent,
        EventCopy, EventFilter, EventState, EventTail, FoundEvent, GroupEvent, GroupState,
        GroupStatus, InboxStats, LANES, LackingRight, Lane, LaneStatus, ListedEvent, Migrate,
        MigrationStatus, MigrationStep, OpenTransaction, OutboxGauges, ParkedEvent, ParkedFilter,
        ParkedGroup, ParkedGrouping, Pause, PauseScope, RelayStatus, Replay, ReplayPlan, Status,
        TailLook, TailedEvent, Unfit, WaitingKeys,
    };
}

#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql", feature = "kafka"))]
pub mod publish {
    //! Where a relay publishes.

    #[doc(inline)]
    pub use outbox_runtime::StoredEvent;
    #[doc(inline)]
    #[cfg(feature = "postgres")]
    #[doc(inline)]
    pub use outbox_runtime::publish::SlotPublisher;
    #[cfg(feature = "kafka")]
    #[doc(inline)]
    pub use outbox_runtime::publish::kafka;
    #[doc(inline)]
    pub use outbox_runtime::publish::{Batch, DeliveryReport, Position, Publisher};
}

#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql", feature = "kafka"))]
pub mod consume {
    //! The consumer side: handlers that run in a database transaction, once per event and group.
    //!
    //! | what | |
    //! |---|---|
    //! | [`#[event_handler]`](macro@crate::event_handler), [`EventHandler`], [`handler_fn`] | what a user writes |
    //! | [`HandlerOptions`], [`Classify`] | how often and when a failed event is tried again |
    //! | `Consumer` (feature `kafka`) | runs handlers on topics |
    //! | `DeadLetters` (feature `kafka`) | what was given up: listed, replayed, discarded |
    //! | `OpenDeadLetters` (feature `kafka`) | how many of them are open, as a metric |
    //! | `ConsumerGroups` (feature `kafka`) | how far the groups of a cluster are |
    //! | [`testing::HandlerTest`](crate::testing::HandlerTest) | runs handlers in a test, without Kafka |

    #[cfg(feature = "macros")]
    pub use outbox_macros::Classify;
    #[cfg(feature = "kafka")]
    #[doc(inline)]
    pub use outbox_runtime::consume::{
        BulkOptions, ClusterDescription, Consumed, Consumer, ConsumerBuilder, ConsumerGroups,
        DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterStream, DeadLetters,
        DeadLettersBuilder, GroupLag, GroupTopics, GroupTopicsBuilder, NotADeadLetterId,
        OpenDeadLetters, OpenOfGroup, PlannedTopic, Progress, Resolved, Selection, TailedItem,
        TailedMessage, TemporaryTopic, TopicDescription, TopicFault, TopicPlace, TopicPlaces,
        TopicPlan, TopicSearch, TopicTail, TopicTailBuilder, Undecodable, UnknownEvents,
    };
    #[doc(inline)]
    pub use outbox_runtime::consume::{
        Classify, ErrorClass, EventContext, EventHandler, ForeignId, FunctionHandler, HandlerError,
        HandlerEvent, HandlerFn, HandlerOptions, HandlerResult, HandlerTypes, LaterEvents,
        WithOptions, handler_fn,
    };
    #[cfg(feature = "kafka")]
    #[doc(no_inline)]
    pub use outbox_runtime::kafka::KafkaConfig;
}

/// The code of the README and of the documentation of the macros, compiled.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../outbox-macros/docs/example_event.md")]
    struct Event;
    #[doc = include_str!("../outbox-macros/docs/example_transaction.md")]
    struct Transaction;
    #[doc = include_str!("../outbox-macros/docs/example_handler.md")]
    struct Handler;
    #[doc = include_str!("../outbox-macros/docs/example_classify.md")]
    struct Classify;
    #[doc = include_str!("../outbox-macros/docs/example_newtypes.md")]
    struct Newtypes;
}
