//! The macros of [`outbox`](https://docs.rs/outbox): depend on that crate, which exports them.
//!
//! Each macro is one pipeline, with a file for each step: parse what the user wrote → a model that
//! borrows it and is valid by construction → expand. All mistakes of an item are reported at once,
//! each at the token to change.

#![forbid(unsafe_code)]
// A macro that panics shows the user a message that is not about their code.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod case;
mod classify;
mod dependency;
mod errors;
mod event;
mod function;
mod generics;
mod grammar;
#[cfg(test)]
mod half_typed;
mod handler;
mod newtype;
mod serdes;
mod symbol;
#[cfg(test)]
mod testing;
mod tokens;
mod transactional;

use proc_macro::TokenStream;

/// Makes a struct or an enum a domain event: it can be emitted in a transaction, and a relay then
/// publishes it to Kafka.
///
#[doc = include_str!("../docs/example_event.md")]
///
/// # `#[event(…)]`
///
/// | Key | On | Value | Without it |
/// |---|---|---|---|
/// | `topic` | type, variant | the Kafka topic: a string literal, or the path of a `const` | required; a variant has its enum's |
/// | `name` | struct, variant | the name on the wire (CloudEvents `type`): a string literal | the name of the struct or variant |
/// | `version` | type, variant | the version of the payload's schema, from 1 | `1`; a variant has its enum's |
/// | `keyless` | type, variant | none: the event has no key, and no order with other events | a `key` is required |
/// | `duplicate` | type, variant | none: another type of the crate is the same event, on purpose | two such types are an error |
/// | `upcast_from` | struct, variant | the type of the previous version, which is `Into` this one, or into the enum | consumers read this version only |
/// | `transparent` | type | none: the event is the one in the only field of the struct, or of each variant | topic and key are said here |
/// | `read_only` | struct | none: the type is an old version, which only `upcast_from` reads: it needs `Deserialize`, but neither `Serialize` nor a key, and emitting it does not compile | it can be emitted |
/// | `unlocked` | type | none: the event is compared with no `events.lock` (feature `schema`) | it is compared with that of the crate |
/// | `emitted_by` | type | the lock of the program that emits the event, which the type only reads: a path, `"git:REVISION:PATH"`, or the path of a `const` | it is an event of the crate |
/// | `codec` | type | the path of a type that is `Encode<Self>` | `Json`, by `serde::Serialize` |
/// | `crate` | type | the path of the crate `outbox`, if it is re-exported | `::outbox` |
/// | `key` | field | none: the field is the Kafka key or a part of it; its type is an `EventKey` | |
/// | `header` | field | the name of a header, as a string literal; the field's type is a `HeaderValue` | no header; written without a value, it takes the field's name |
/// | `id` | field | none: the field is the event's id; its type is an `EventId`, such as `Uuid` | `emit` makes a UUIDv7 |
/// | `occurred_at` | field | none: the field is the time of the event; its type is an `EventTime`, such as `SystemTime` | the time of `emit` |
///
/// - Events with equal keys are delivered in the order in which they were committed. Several `key`
///   fields make one key, in the order of their declaration.
/// - Each variant of an enum is an event with its own name, version, topic and key. Its payload is
///   that of a struct with its fields, `{"customer":…}` and not `{"Placed":{"customer":…}}`, so that
///   a struct or another language reads it. A consumer's enum chooses its variant by topic, name and
///   version, and not by the payload. Serde's own attributes keep their meaning: an enum with
///   `#[serde(tag = …)]` or `#[serde(untagged)]` is written as serde writes it.
/// - A `transparent` enum has an event, a struct with this derive, in each variant: topic, name,
///   version, key, headers, id, time, codec and older versions are that event's. It needs no derive
///   of serde.
/// - A consumer of version 3 also reads version 1 if version 3 says `upcast_from` version 2, and
///   version 2 says `upcast_from` version 1. The compiler checks that each names the version right
///   before its own, of the same topic and name.
/// - Raw identifiers are named without their `r#`. Attributes of other derives, such as
///   `#[serde(…)]`, are left alone.
///
/// # What it expands to
///
/// An implementation of `DomainEvent`. In full, with the paths (`::outbox::__private::DomainEvent`)
/// shortened:
///
#[doc = include_str!("../docs/domain_event.md")]
///
/// On a type with type parameters, the implementation has the bounds that its fields and codec
/// need, like a derive of serde.
///
/// # Guarantees
///
/// - An illegal topic, a reserved header, a missing or optional key and a version 0 do not compile.
///   All mistakes of an item are reported at once, each at the token to change. A `const` topic is
///   checked when the compiler evaluates it; that of a generic event, when the event is first
///   emitted.
/// - No two types or variants of a crate have the same literal topic, name and version, by which
///   consumers tell events apart. If you want two, such as an owned and a borrowed form of one
///   event, mark the second `duplicate`.
///
/// # Limits
///
/// - A key cannot be an `Option`: an event without a key has no order.
/// - Unions, and enums without variants, cannot be events.
/// - Two *crates* of a program that declare the same event are not noticed, nor are two `const`
///   topics with equal values. An editor does not notice two types of a crate either: only the
///   compiler does.
#[proc_macro_derive(DomainEvent, attributes(event))]
pub fn derive_domain_event(input: TokenStream) -> TokenStream {
    event::derive(input.into(), event::Contracts::here()).into()
}

/// Runs an async function or method in a database transaction, and writes the events that it emits
/// in the same transaction.
///
#[doc = include_str!("../docs/example_transaction.md")]
///
/// `Ok` inserts the events and commits. `Err` rolls back data and events, and so does dropping the
/// future.
///
/// # `#[transactional_outbox(tx in EXPR)]`
///
/// | Argument | Meaning |
/// |---|---|
/// | `tx` | the body's name for the transaction, a `&mut OutboxTx<'_, DB>`: any identifier |
/// | `EXPR` | what the transaction begins on; see below |
/// | `isolation = "…"` | `"serializable"`, `"repeatable read"` or `"read committed"`. Default: the connection's own. SQLite is always serializable |
/// | `retry = N` | the number of further attempts when the database refuses the transaction because of a conflict with a concurrent one: a serialization failure or deadlock in Postgres, a busy SQLite. Default: 0 |
/// | `name = "…"` | the name of the transaction in Postgres while it runs (`application_name` in `pg_stat_activity` and in the server's log), at most 63 characters of ASCII. Default: the connection's own |
/// | `crate = path` | the path of the crate `outbox`, if it is re-exported. Default: `::outbox` |
///
/// # `EXPR`
///
/// | `EXPR` is | the body runs in |
/// |---|---|
/// | an `Outbox`, a pool or another type that is `BeginTransaction`, or a reference, `Box` or `Arc` of one | a new transaction |
/// | an outer `OutboxTx`, or a `&mut` to one: a parameter, or a field in a method with `&mut self` | a savepoint of that transaction |
///
/// The macro borrows `EXPR`. If it begins with a parameter that can be borrowed mutably, or with
/// the `self` of `&mut self`, its type decides how: `tx in self.tx` begins a savepoint in a unit of
/// work, whose body can use the other fields. The outer and the inner transaction may have one
/// name: `tx in tx`.
///
/// If a function with a savepoint fails, its rows *and* its events are dropped, and the outer
/// transaction stays usable. A savepoint takes no options. A function without the attribute that
/// takes `tx: &mut OutboxTx<'_, DB>` is part of its caller's transaction.
///
/// # `retry`
///
/// - **A conflict** is found in the answer of the database to a query on `tx`, and in the error
///   that the body returns. Its `source()`s are searched, also those in an `anyhow::Error`, an
///   `eyre::Report` and a `Box<dyn Error>`.
/// - **Each attempt** has a new transaction and a clone of each argument. A failed attempt is
///   rolled back together with its events.
/// - **Arguments** must be `Clone`. `&mut` arguments, `&mut self` and `self` do not compile: they
///   would carry changes of a failed attempt into the next one. A `self: Arc<Self>` is borrowed by
///   the body.
/// - **Effects outside of the transaction** are repeated with the body.
/// - **The pause** is 5 ms at first and doubles up to 1 s. Each is shortened at random, to no less
///   than half.
/// - **After the last attempt** the caller gets the error. If it is an `OutboxError`, its kind is
///   `ErrorKind::Conflict`. `outbox::is_conflict` tells it of any error.
/// - **A commit whose answer was lost** (`ErrorKind::CommitUnknown`) ends the attempts: it may have
///   happened.
///
/// # What it expands to
///
/// In full, with the paths (`::outbox::__private::finish`) shortened:
///
#[doc = include_str!("../docs/transactional_outbox.md")]
///
/// The body becomes a closure, which tells the compiler how long `tx` lives. It is called right
/// away, which tells the compiler whether its future is `Send`. `outcome.never()` is always `None`:
/// it tells the compiler the type that `?` and `return` convert to. `outcome.hold` returns an error
/// that is not `Send` at once, so that the function's future is `Send` all the same; any other
/// error is returned after the rollback. With `isolation = "serializable", retry = 3`:
///
#[doc = include_str!("../docs/transactional_outbox_retry.md")]
///
/// # Guarantees
///
/// - The body is not parsed: `?`, `return`, closures, nested `async` blocks and macros mean the
///   same as without the attribute.
/// - The body only borrows the transaction, so it can neither commit early nor keep it. There is no
///   `tx` outside of the function, so emitting outside of a transaction does not compile.
/// - The future is `Send` if the body's is, and it allocates no more than a function that calls
///   `Outbox::begin` and `OutboxTx::commit` itself.
/// - A mistake is one error, at the token to change. The function still exists for the rest of the
///   program, so no other errors follow.
///
/// # Where it can be written
///
/// On free functions, inherent methods and methods of traits:
///
/// - native async methods, in an implementation or as a default body;
/// - methods under `#[async_trait]`;
/// - functions that return a future by any name, such as the `Self::Future` of tower, if the body
///   ends in `Box::pin(async move { … })` or `async move { … }`; `.boxed()` and `.instrument(…)`
///   may follow.
///
/// Generics, lifetimes, `impl Trait` in arguments and return types, and `#[tracing::instrument]`
/// above or below all work. `#[axum::debug_handler]` goes below: above, it compiles a copy of the
/// body, in which there is no `tx`.
///
/// # Limits
///
/// - The function returns a `Result<_, E>` with `E: From<OutboxError>`, under any alias.
///   `sqlx::Error` and other types of other crates have no such `From`: return `OutboxError` or
///   `anyhow::Error`, or a type of your own around them.
/// - Arguments that the body moves are dropped before the commit, not after it.
/// - `EXPR` is evaluated before the body, once for each attempt.
#[proc_macro_attribute]
pub fn transactional_outbox(args: TokenStream, item: TokenStream) -> TokenStream {
    transactional::attribute(args.into(), item.into()).into()
}

/// Makes an async function the handler of an event: a `Consumer` runs it in a transaction, once for
/// each event.
///
#[doc = include_str!("../docs/example_handler.md")]
///
/// The function becomes one that returns the handler: call it where you give it to a consumer, as
/// in `consumer.handler(reserve())`. A test calls the handler by `reserve().handle(&mut tx, event,
/// &context)`.
///
/// # Arguments of the function
///
/// | Argument | |
/// |---|---|
/// | `tx: &mut OutboxTx<'_, DB>` | the transaction, in which the event is in the inbox already; `DB` is the consumer's |
/// | `event: E` or `event: &E` | the event. An enum takes several events of a topic; `Option<E>` takes tombstones too, as `None` |
/// | `context: &EventContext` | optional: the message's place and headers, and the number of the attempt |
/// | `service: &S` | optional: state that the handler needs. The handler is then made by `reserve(service)` |
/// | `&self` | in an `impl`: the same, of which the handler has a clone. It is made by `inventory.reserve()` |
///
/// The function returns `Result<(), E>`. `Ok` commits. `Err` rolls back, and the event is tried
/// again, unless `E` is `Classify` and calls the error permanent.
///
/// # `#[event_handler(…)]`
///
/// | Option | Meaning | Default |
/// |---|---|---|
/// | `group = "…"` | the consumer group; one that the `Consumer` names replaces it | that of the `Consumer` |
/// | `attempts = N` | attempts before the retry topics, during which the later events of the key wait; `"unlimited"` never gives up | 10; 1 with `retry_topics` |
/// | `pause = "…"` | the pause after the first attempt; each later one is twice as long | `"100ms"` |
/// | `longest_pause = "…"` | the longest pause | `"10s"` |
/// | `retry_topics = ["…", …]` | delays, with a retry topic for each: the event waits there for the delay and is tried once more | none |
/// | `later_events = "…"` | what later events of the key do until then: `"wait"` behind it, or `"overtake"` | required with `retry_topics` |
/// | `timeout = "…"` | the longest time of an attempt | `"5m"` |
/// | `foreign = "…"` | takes messages without the headers of an event, and recognises them by their `"place"`, their `"key"` or a `"header NAME"` | they are dead letters; CloudEvents of other producers need no option |
/// | `only = ["…", …]` | the names of the events that it takes, if its type is an enum: several handlers can share one | all events of its type |
/// | `shared_transaction = N` | up to N events that were received already are handled in one transaction; if it fails, each is handled alone | each alone |
/// | `crate = path` | the path of the crate `outbox`, if it is re-exported | `::outbox` |
///
/// Times are written `"500ms"`, `"10s"`, `"5m"`, `"2h"`, `"1d"`. A deployment changes these options
/// when it adds the handler, by `EventHandler::with_options`. An event that failed in every
/// attempt becomes a dead letter on the topic `<topic>.<group>.dlt`, without any option for that.
///
/// # What it expands to
///
/// In full, with the paths (`::outbox::__private::EventHandler`) shortened:
///
#[doc = include_str!("../docs/event_handler.md")]
///
/// `class` asks `Classify` if the error implements it, and is `Transient` otherwise: the compiler
/// chooses between `ByClassify` and `ByDefault`.
///
/// # Where it can be written
///
/// On functions, and on methods and associated functions in an `impl` of a type:
///
/// ```text
/// #[derive(Clone)]
/// struct Inventory { … }
///
/// impl Inventory {
///     #[event_handler]
///     async fn reserve(&self, tx: &mut OutboxTx<'_, Postgres>, order: OrderCreated) -> Result<(), ReserveError> { … }
/// }
///
/// consumer.handler(inventory.reserve())
/// ```
///
/// A type that is not `Clone` is shared: `self: Arc<Self>`. The method becomes one that returns the
/// handler, beside a hidden one with the body.
///
/// `#[doc]`, `#[deprecated]`, `#[cfg]` and levels of lints apply to the function that returns the
/// handler; other attributes stay with the body. `#[tracing::instrument]` works above and below; of
/// a method, only above does its span have the method's name.
///
/// # Limits
///
/// - The event and the state own their data: a consumer keeps both. Of a generic handler, all type
///   parameters are `Send + Sync + 'static`.
/// - The first argument names its database. In an alias, the database must be an argument: `&mut
///   Tx<'_, Postgres>`.
/// - The context is recognised by the name of its type, `EventContext`.
/// - `Result<(), E>` is the standard library's, or that of `anyhow` or `eyre`. Another type of this
///   name and form, whose error is not its second argument, needs its path:
///   `error_stack::Result<(), E>`.
#[proc_macro_attribute]
pub fn event_handler(args: TokenStream, item: TokenStream) -> TokenStream {
    handler::attribute(args.into(), item.into()).into()
}

/// Implements `Classify` for an error type: for each variant, whether another attempt can help.
///
/// | Attribute | On | Meaning |
/// |---|---|---|
/// | `#[classify(permanent)]` | type, variant | another attempt cannot help: the event becomes a dead letter at once |
/// | `#[classify(transient)]` | type, variant | another attempt can help; this is the default |
/// | `#[classify(transparent)]` | type, variant | the error in its field decides: the only field, or the one that is `#[from]`, `#[source]` or named `source` |
/// | `#[classify(crate = path)]` | type | the path of the crate `outbox`, if it is re-exported |
///
/// The attribute of a type is the default of its variants.
///
#[doc = include_str!("../docs/example_classify.md")]
#[proc_macro_derive(Classify, attributes(classify))]
pub fn derive_classify(input: TokenStream) -> TokenStream {
    classify::derive(input.into()).into()
}

/// Implements `EventKey`, so that a field of the type can be `#[event(key)]`: for a newtype, for a
/// struct of several fields, and for an enum whose variants have no fields.
///
#[doc = include_str!("../docs/example_newtypes.md")]
///
/// | type | its key |
/// |---|---|
/// | a newtype | the key of what it wraps. A field of type `PhantomData` does not count |
/// | a struct of several fields | their keys, made one key in the way of several `#[event(key)]` fields |
/// | an enum | the name of the variant |
///
/// | Attribute | On | Meaning |
/// |---|---|---|
/// | `#[event(rename = "…")]` | variant | the text of this variant |
/// | `#[event(rename_all = "…")]` | enum | the case of all names: those of serde, such as `"snake_case"` |
/// | `#[event(crate = path)]` | type | the path of the crate `outbox`, if it is re-exported |
///
/// Without an attribute of ours, `#[serde(rename = "…")]` and `#[serde(rename_all = "…")]` say the
/// text: it is then the same in the key and in a JSON payload.
///
/// The text decides the partition of an event, and so the order: when it changes, events before and
/// after have no order with each other.
#[proc_macro_derive(EventKey, attributes(event))]
pub fn derive_event_key(input: TokenStream) -> TokenStream {
    newtype::derive(newtype::Target::Key, input.into()).into()
}

/// Implements `HeaderValue`, so that a field of the type can be `#[event(header)]`: for a newtype
/// the value of what it wraps, and for an enum whose variants have no fields the name of the
/// variant.
///
/// The attributes are those of `#[derive(EventKey)]`.
///
#[doc = include_str!("../docs/example_newtypes.md")]
#[proc_macro_derive(HeaderValue, attributes(event))]
pub fn derive_header_value(input: TokenStream) -> TokenStream {
    newtype::derive(newtype::Target::Header, input.into()).into()
}

/// Implements `EventId` for a newtype of a `Uuid` or of another `EventId`, so that a field of the
/// type can be `#[event(id)]`.
///
#[doc = include_str!("../docs/example_newtypes.md")]
#[proc_macro_derive(EventId, attributes(event))]
pub fn derive_event_id(input: TokenStream) -> TokenStream {
    newtype::derive(newtype::Target::Id, input.into()).into()
}
