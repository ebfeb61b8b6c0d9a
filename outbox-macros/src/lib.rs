//! The macros of [`outbox`](https://docs.rs/outbox): depend on that crate, which exports them.
//!
//! Each macro is one pipeline, with a file for each step: parse what the user wrote → a model that
//! borrows it and is valid by construction → expand. All mistakes of an item are reported at once,
//! each at the token to change.

#![forbid(unsafe_code)]
// A macro that panics shows the user a message that is not about their code.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod classify;
mod errors;
mod event;
mod function;
mod grammar;
mod handler;
mod symbol;
#[cfg(test)]
mod testing;
mod tokens;
mod transactional;

use proc_macro::TokenStream;

/// Makes a struct or an enum a domain event: something that can be emitted in a transaction, and
/// that a relay then publishes to Kafka.
///
/// ```
/// use outbox::DomainEvent;
/// use serde::Serialize;
/// use uuid::Uuid;
///
/// #[derive(Serialize, DomainEvent)]
/// #[event(topic = "order-events", name = "order.created")]
/// pub struct OrderCreated {
///     pub order_id: Uuid,
///     #[event(key)]
///     pub customer_id: Uuid,
///     #[event(header)]
///     pub tenant: String,
/// }
/// ```
///
/// # `#[event(…)]`
///
/// | Key | On | Value | Without it |
/// |---|---|---|---|
/// | `topic` | type, variant | the Kafka topic: a string literal, or the path of a `const` | required; a variant has its enum's |
/// | `name` | struct, variant | the name on the wire (CloudEvents `type`): a string literal | the name of the struct or variant |
/// | `version` | type, variant | the version of the payload's schema, from 1 | `1`; a variant has its enum's |
/// | `keyless` | type, variant | none: the event has no key, and no order with any other | there must be a `key` |
/// | `duplicate` | type, variant | none: another type of the crate is the same event, on purpose | that is an error |
/// | `upcast_from` | struct | the type of the version before this one, which is `Into` it | consumers take this version only |
/// | `codec` | type | the path of a type that is `Encode<Self>` | `Json`, by `serde::Serialize` |
/// | `crate` | type | the path of the crate `outbox`, if it is re-exported | `::outbox` |
/// | `key` | field | none: (a part of) the Kafka key; the field's type is an `EventKey` | |
/// | `header` | field | the name of a header, as a string literal; the field's type is a `HeaderValue` | with no value, the field's own name |
/// | `id` | field | none: the event's id; the field's type is an `EventId`, such as `Uuid` | `emit` makes a UUIDv7 |
/// | `occurred_at` | field | none: when it happened; the field's type is an `EventTime`, such as `SystemTime` | the time of `emit` |
///
/// - Events with equal keys are delivered in the order in which they were committed. Several `key`
///   fields make one key, in the order of their declaration.
/// - Every variant of an enum is an event of its own, with a name, version, topic and key of its
///   own.
/// - A consumer of version 3 reads version 1 as well, if 3 says `upcast_from` 2, and 2 says
///   `upcast_from` 1. That each is the version before, of the same topic and name, is checked.
/// - Raw identifiers are named without their `r#`. Attributes of other derives, such as
///   `#[serde(…)]`, are left alone.
///
/// # What it expands to
///
/// An implementation of `DomainEvent`, and a macro that is never called. Its name is visible in the
/// whole crate, so two types that are the same event are an error. In full, but for the paths
/// (`::outbox::__private::DomainEvent`):
///
#[doc = include_str!("../docs/domain_event.md")]
///
/// On a type with type parameters it has the bounds that the fields and the codec need, as a derive
/// of serde does.
///
/// # Guarantees
///
/// - An illegal topic, a reserved header, a missing or optional key and a version 0 do not compile.
///   All mistakes of an item are reported at once, each at the token to change. A `const` topic is
///   checked by the compiler's evaluation of it; on a generic event, when the event is first
///   emitted.
/// - No two types or variants of a crate have the same literal topic, name and version, by which
///   consumers tell events apart. Where two are meant, as for the borrowed form that a consumer
///   reads, the second says `duplicate`.
///
/// # Limits
///
/// - A key cannot be an `Option`: an event without a key has no order.
/// - Unions, and enums without variants, cannot be events.
/// - That two *crates* of a program declare one event is not seen, nor that two `const` topics are
///   equal.
#[proc_macro_derive(DomainEvent, attributes(event))]
pub fn derive_domain_event(input: TokenStream) -> TokenStream {
    event::derive(input.into()).into()
}

/// Runs an async function or method in a database transaction, and writes the events it emits in
/// the same one.
///
/// ```
/// use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
/// # #[derive(serde::Serialize, DomainEvent)]
/// # #[event(topic = "order-events", name = "order.created")]
/// # pub struct OrderCreated { #[event(key)] customer: String }
///
/// struct OrderService {
///     outbox: Outbox<sqlx::Sqlite>,
/// }
///
/// impl OrderService {
///     #[transactional_outbox(tx in self.outbox)]
///     pub async fn create_order(&self, customer: String) -> Result<(), OutboxError> {
///         sqlx::query("insert into orders (customer) values ($1)").bind(&customer).execute(&mut *tx).await?;
///         tx.emit(OrderCreated { customer })?;
///         Ok(())
///     }
/// }
/// ```
///
/// `Ok` inserts the events and commits; `Err` rolls back, data and events alike, and so does
/// dropping the future.
///
/// # `#[transactional_outbox(tx in EXPR)]`
///
/// | Argument | Meaning |
/// |---|---|
/// | `tx` | the name the body has for the transaction, a `&mut OutboxTx<'_, DB>`: any identifier |
/// | `EXPR` | where it begins: an `Outbox`, a pool, another type that is `BeginTransaction`, a reference, `Box` or `Arc` of one, or an outer `&mut OutboxTx`, for a savepoint in it |
/// | `isolation = "…"` | `"serializable"`, `"repeatable read"` or `"read committed"`; without it the connection's own. SQLite is always serializable |
/// | `retry = N` | runs the body again, up to `N` times, when the database refused it because of a conflict with a concurrent transaction: a serialization failure or a deadlock in Postgres, a busy SQLite |
/// | `name = "…"` | what Postgres calls the transaction while it runs (`application_name` in `pg_stat_activity` and in the server's log), up to 63 characters of ASCII; without it the connection's own |
/// | `crate = path` | the path of the crate `outbox`, if it is re-exported; `::outbox` without it |
///
/// `EXPR` is borrowed: `&(EXPR)`. Two forms are an outer transaction: the name of a parameter
/// declared as `&mut …` (`tx in tx` too), and an expression that itself begins with `&mut`. The
/// savepoint's failure drops its rows *and* its events, and leaves the outer transaction usable; it
/// takes no options. A helper without the attribute that takes `tx: &mut OutboxTx<'_, DB>` is
/// simply part of its caller's transaction.
///
/// # `retry`
///
/// - A conflict is recognised in what the database answers to a query on `tx`, and in the error
///   that the body returns, by its `source()`s (of `anyhow::Error`, `eyre::Report` and `Box<dyn
///   Error>` too).
/// - Every attempt starts from the beginning: the failed one is rolled back, with its events, and
///   each gets a clone of every argument. An argument that is not `Clone` does not compile. Nor do
///   `&mut` arguments, `&mut self` and `self`, which would carry what a failed attempt did into the
///   next. A `self: Arc<Self>` is borrowed by the body.
/// - What the body does outside of the transaction is done again.
/// - The pause between two attempts is 5 ms at first and doubles up to a second. Each is shortened
///   at random, to no less than half. After the last one, the error is the caller's, of the kind
///   `ErrorKind::Conflict` if it is an `OutboxError`.
/// - A commit whose answer was lost (`ErrorKind::CommitUnknown`) is not run again: it may have
///   happened.
///
/// # What it expands to
///
/// In full, but for the paths (`::outbox::__private::finish`):
///
#[doc = include_str!("../docs/transactional_outbox.md")]
///
/// The body is a closure so that the compiler knows how long `tx` lives, and it is called in place,
/// so that the compiler knows whether its future is `Send`. `outcome.never()` is never `Some`: it
/// tells the compiler the type that `?` and `return` have. With `isolation = "serializable", retry
/// = 3`:
///
#[doc = include_str!("../docs/transactional_outbox_retry.md")]
///
/// # Guarantees
///
/// - The body is not parsed: `?`, `return`, closures, nested `async` blocks and macros mean what
///   they mean without the attribute.
/// - The body has a `&mut` of the transaction, so it can neither commit early nor keep it. Outside
///   of the function there is no `tx`, so emitting outside of a transaction does not compile.
/// - The future is `Send` if the body's is, and nothing is allocated that the manual API would not
///   allocate.
/// - A mistake is one error, at the token to change; the function is still there for the rest of
///   the program.
///
/// # Where it goes
///
/// On free functions, inherent methods, and methods of traits: native async ones where they are
/// implemented or have a default body, those under `#[async_trait]`, and functions whose body ends
/// in `Box::pin(async move { … })` or `async move { … }` and whose return type says so. Generics,
/// lifetimes, `impl Trait` arguments and returns, and `#[tracing::instrument]` on either side all
/// work.
///
/// # Limits
///
/// - The function returns a `Result<_, E>` with `E: From<OutboxError>`, under any alias.
/// - Arguments that the body moves are dropped before the commit, not after it.
/// - `EXPR` is evaluated before the body, and once for each attempt.
#[proc_macro_attribute]
pub fn transactional_outbox(args: TokenStream, item: TokenStream) -> TokenStream {
    transactional::attribute(args.into(), item.into()).into()
}

/// Makes an async function the handler of an event: something that a `Consumer` runs in a
/// transaction, once for each event.
///
/// ```
/// use outbox::{DomainEvent, OutboxTx, consume::Classify, event_handler};
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "order-events", name = "order.created")]
/// # pub struct OrderCreated { #[event(key)] customer: String, item: String }
///
/// #[derive(Debug, thiserror::Error, Classify)]
/// pub enum ReserveError {
///     #[error("there is no item {0}")]
///     #[classify(permanent)]
///     UnknownItem(String),
///     #[error(transparent)]
///     Database(#[from] sqlx::Error),
/// }
///
/// #[event_handler(group = "inventory", retry_topics = ["10s", "5m"], later_events = "wait")]
/// async fn reserve(tx: &mut OutboxTx<'_, sqlx::Sqlite>, order: OrderCreated) -> Result<(), ReserveError> {
///     let reserved = sqlx::query("update stock set reserved = reserved + 1 where item = $1").bind(&order.item).execute(tx).await?;
///     if reserved.rows_affected() == 0 {
///         return Err(ReserveError::UnknownItem(order.item));
///     }
///     Ok(())
/// }
/// ```
///
/// The function becomes a type of its name, which is an `EventHandler`:
/// `consumer.handler(reserve)`. The function itself is its `reserve::call`.
///
/// # Arguments of the function
///
/// | Argument | |
/// |---|---|
/// | `tx: &mut OutboxTx<'_, DB>` | the transaction, in which the event is in the inbox already; the `DB` is that of the consumer |
/// | `event: E` or `event: &E` | the event; an enum for several events of a topic; `Option<E>` takes tombstones too, as `None` |
/// | `context: &EventContext` | optional: where it came from, its headers, the attempt |
/// | `service: &S` | optional: what else the handler needs. The handler is then `reserve(service)` |
///
/// It returns `Result<(), E>`: `Ok` commits; `Err` rolls back, and the event is tried again, unless
/// `E` is `Classify` and calls the error permanent.
///
/// # `#[event_handler(…)]`
///
/// | Option | Meaning | Without it |
/// |---|---|---|
/// | `group = "…"` | the consumer group | that of the `Consumer` |
/// | `attempts = N` | attempts in place, with the key waiting; `"unlimited"`: for ever | 10, with retry topics 1 |
/// | `pause = "…"`, `longest_pause = "…"` | between them: the first, and what it grows to by doubling | `"100ms"`, `"10s"` |
/// | `retry_topics = ["…", …]` | after them: topics in which the event waits, each for the given time, and is tried once after it | none |
/// | `later_events = "…"` | what later events of its key do until then: `"wait"` behind it, or `"overtake"` | required with `retry_topics` |
/// | `timeout = "…"` | how long an attempt may take | `"5m"` |
/// | `foreign = "…"` | messages without the headers of an event are for this handler, recognised by their `"place"`, their `"key"`, or a `"header NAME"` | they are dead letters |
/// | `crate = path` | the path of the crate `outbox`, if it is re-exported | `::outbox` |
///
/// Times are written `"500ms"`, `"10s"`, `"5m"`, `"2h"`, `"1d"`. An event that failed in every
/// attempt becomes a dead letter, on `<topic>.<group>.dlt`, without any option for that.
///
/// # What it expands to
///
/// In full, but for the paths (`::outbox::__private::EventHandler`):
///
#[doc = include_str!("../docs/event_handler.md")]
///
/// `class` is that of `Classify`, if the error implements it, and transient otherwise: the compiler
/// chooses.
///
/// # Where it goes
///
/// On functions outside of `impl` and `trait`. Attributes stay on the function; documentation,
/// `#[cfg]`, `#[allow]` and `#[deprecated]` hold for its type too. `#[tracing::instrument]` works
/// on either side, and knows the name of the function above `#[event_handler]`; below, it is
/// `call`.
///
/// # Limits
///
/// - A handler is not generic, and its event and its state own their data: both are named in an
///   implementation.
/// - The transaction names its database, which an alias can hide only as an argument: `&mut Tx<'_,
///   Postgres>`.
/// - The context is recognised by the name of its type, `EventContext`.
/// - As with any unit or tuple struct, a variable cannot have the name of a handler that is in
///   scope.
#[proc_macro_attribute]
pub fn event_handler(args: TokenStream, item: TokenStream) -> TokenStream {
    handler::attribute(args.into(), item.into()).into()
}

/// Declares for each variant of an error type whether another attempt can help:
/// `#[classify(permanent)]` if not, `#[classify(transient)]` if so. Default: transient. On the
/// type, it is the default of its variants. `#[classify(crate = path)]` on the type names the crate
/// `outbox` where it is re-exported.
///
/// ```
/// use outbox::consume::{Classify, ErrorClass};
///
/// #[derive(Classify)]
/// enum ReserveError {
///     #[classify(permanent)]
///     UnknownItem,
///     Database(sqlx::Error),
/// }
///
/// assert_eq!(ReserveError::UnknownItem.class(), ErrorClass::Permanent);
/// assert_eq!(ReserveError::Database(sqlx::Error::RowNotFound).class(), ErrorClass::Transient);
/// ```
#[proc_macro_derive(Classify, attributes(classify))]
pub fn derive_classify(input: TokenStream) -> TokenStream {
    classify::derive(input.into()).into()
}
