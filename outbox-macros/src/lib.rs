//! The macros of [`outbox`](https://docs.rs/outbox): depend on that crate, which exports them.
//!
//! Each macro is one pipeline, with a file for each step: parse what the user wrote → a model that borrows it and is
//! valid by construction → expand. All mistakes of an item are reported at once, each at the token to change.

#![forbid(unsafe_code)]
// A macro that panics shows the user a message of ours about nothing of theirs.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod errors;
mod event;
mod grammar;
mod symbol;
#[cfg(test)]
mod testing;
mod tokens;
mod transactional;

use proc_macro::TokenStream;

/// Makes a struct or an enum a domain event: something that can be emitted in a transaction, and that a relay then
/// publishes to Kafka.
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
/// | `codec` | type | the path of a type that is `Encode<Self>` | `Json`, by `serde::Serialize` |
/// | `crate` | type | the path of the crate `outbox`, if it is re-exported | `::outbox` |
/// | `key` | field | none: (a part of) the Kafka key; the field's type is an `EventKey` | |
/// | `header` | field | the name of a header, as a string literal; the field's type is a `HeaderValue` | with no value, the field's own name |
/// | `id` | field | none: the event's id, a `Uuid` | `emit` makes a UUIDv7 |
/// | `occurred_at` | field | none: when it happened; `Clone + Into<SystemTime>` | the time of `emit` |
///
/// - Events with equal keys are delivered in the order in which they were committed. Several `key` fields make one
///   key, in the order of their declaration.
/// - Every variant of an enum is an event of its own, with a name, version, topic and key of its own.
/// - Raw identifiers are named without their `r#`. Attributes of other derives, such as `#[serde(…)]`, are left alone.
///
/// # What it expands to
///
/// An implementation of `DomainEvent`, and nothing else:
///
/// ```text
/// impl DomainEvent for OrderCreated {
///     type Codec = Json;
///     const DESCRIPTORS: &'static [EventDescriptor] = &[EventDescriptor::new(
///         "order-events", "order.created", 1, <Self::Codec as Codec>::CONTENT_TYPE, &["customer_id"], &["tenant"],
///     )];
///     fn descriptor(&self) -> &'static EventDescriptor {
///         &Self::DESCRIPTORS[0]
///     }
///     fn key(&self) -> Option<Vec<u8>> {
///         Some(event_key(&[&self.customer_id]))
///     }
///     fn headers(&self, headers: &mut Headers) {
///         Headers::insert(headers, "tenant", &self.tenant);
///     }
/// }
/// ```
///
/// On a type with type parameters it has the bounds that the fields and the codec need, as a derive of serde does.
///
/// # Guarantees
///
/// - An illegal topic, a reserved header, a missing or optional key and a version 0 do not compile. All mistakes of
///   an item are reported at once, each where it is to be mended. A `const` topic is checked by the compiler's
///   evaluation of it; on a generic event, when the event is first emitted.
/// - Two variants of an enum never have the same literal topic, name and version.
///
/// # Limits
///
/// - A key cannot be an `Option`: an event without a key has no order.
/// - Unions, and enums without variants, cannot be events.
#[proc_macro_derive(DomainEvent, attributes(event))]
pub fn derive_domain_event(input: TokenStream) -> TokenStream {
    event::derive(input.into()).into()
}

/// Runs an async function or method in a database transaction, and writes the events it emits in the same one.
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
/// `Ok` inserts the events and commits; `Err` rolls back, data and events alike, and so does dropping the future.
///
/// # `#[transactional_outbox(tx in EXPR)]`
///
/// | Argument | Meaning |
/// |---|---|
/// | `tx` | the name the body has for the transaction, a `&mut OutboxTx<'_, DB>`: any identifier |
/// | `EXPR` | where it begins: an `Outbox`, a pool, a reference to one, or an outer `&mut OutboxTx`, for a savepoint in it |
/// | `crate = path` | the path of the crate `outbox`, if it is re-exported; `::outbox` without it |
///
/// `EXPR` is borrowed: `&(EXPR)`. Two forms are an outer transaction: the name of a parameter declared as `&mut …`
/// (`tx in tx` too), and an expression that itself begins with `&mut`. The savepoint's failure drops its rows *and* its
/// events, and leaves the outer transaction usable. A helper without the attribute that takes
/// `tx: &mut OutboxTx<'_, DB>` is simply part of its caller's transaction.
///
/// # What it expands to
///
/// ```text
/// pub async fn create_order(&self, customer: String) -> Result<(), OutboxError> {
///     let outcome = <Result<(), OutboxError> as Outcome>::VTABLE;
///     let mut transaction = match begin(&(self.outbox)).await {
///         Ok(transaction) => transaction,
///         Err(error) => return outcome.error(error),
///     };
///     let borrowed = &mut transaction;
///     let result = async move {
///         // Tells the compiler the type which `?` and `return` are about; never runs.
///         if let Some(result) = None::<Result<(), OutboxError>> {
///             return result;
///         }
///         let tx = borrowed;
///         let result: Result<(), OutboxError> = { /* the body, token for token */ };
///         result
///     }
///     .await;
///     finish(transaction, result, outcome).await
/// }
/// ```
///
/// # Guarantees
///
/// - The body is not parsed: `?`, `return`, closures, nested `async` blocks and macros mean what they mean without the
///   attribute.
/// - The body has a `&mut` of the transaction, so it can neither commit early nor keep it. Outside of the function there is
///   no `tx`, so emitting outside of a transaction does not compile.
/// - The future is `Send` if the body's is, and nothing is allocated that the manual API would not allocate.
///
/// # Where it goes
///
/// On free functions, inherent methods, and methods of traits: native async ones where they are implemented or have a
/// default body, those under `#[async_trait]`, and functions whose body ends in `Box::pin(async move { … })` or
/// `async move { … }` and whose return type says so. Generics, lifetimes, `impl Trait` arguments and returns, and
/// `#[tracing::instrument]` on either side all work.
///
/// # Limits
///
/// - The function returns a `Result<_, E>` with `E: From<OutboxError>`, under any alias.
/// - Arguments that the body moves are dropped before the commit, not after it.
/// - `EXPR` is evaluated before the body, and once.
#[proc_macro_attribute]
pub fn transactional_outbox(args: TokenStream, item: TokenStream) -> TokenStream {
    transactional::attribute(args.into(), item.into()).into()
}
