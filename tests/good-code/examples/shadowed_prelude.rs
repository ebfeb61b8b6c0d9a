#![allow(dead_code, non_camel_case_types)]

// Whatever the user calls these, the expansions mean the standard library's.
mod core {}
mod std {}
mod alloc {}
mod outbox_runtime {}

struct Option;
struct Some;
struct None;
struct Result;
struct Ok;
struct Err;
struct Vec;
struct String;
struct Box;
struct Uuid;
struct Json;
struct Headers;
struct EventDescriptor;
trait Clone {}
trait Into {}
trait Future {}
trait Send {}
struct Wait;
struct Place;
struct ErrorClass;
struct EventContext;
struct Duration;
trait Encode {}
trait Decode {}
trait From {}
trait EventHandler {}
trait Classify {}
type u8 = ();
type u32 = ();
type str = ();

mod macros {
    #[allow(unused_macros)]
    macro_rules! unreachable {
        () => {};
    }
}

#[derive(::serde::Serialize, ::outbox::DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    #[event(id)]
    uuid: ::uuid::Uuid,
    #[event(occurred_at)]
    #[serde(skip)]
    at: ::std::time::SystemTime,
    #[event(header)]
    tenant: ::std::string::String,
}

#[derive(::serde::Serialize, ::outbox::DomainEvent)]
#[event(topic = "t")]
enum Generic<T> {
    A(#[event(key)] T, #[event(header = "x-a")] i8),
    B {
        #[event(key)]
        b: i8,
    },
    #[event(keyless)]
    C,
}

#[derive(::serde::Serialize, ::outbox::DomainEvent)]
#[event(topic = "t", version = 2, upcast_from = First)]
struct Second {
    #[event(key)]
    id: i8,
}

#[derive(::serde::Serialize, ::outbox::DomainEvent)]
#[event(topic = "t", name = "Second")]
struct First {
    #[event(key)]
    id: i8,
}

// serde's own derive would not work here.
impl<'de> ::serde::Deserialize<'de> for Second {
    fn deserialize<D: ::serde::Deserializer<'de>>(
        from: D,
    ) -> ::core::result::Result<Self, D::Error> {
        <i8 as ::serde::Deserialize>::deserialize(from).map(|id| Self { id })
    }
}

impl<'de> ::serde::Deserialize<'de> for First {
    fn deserialize<D: ::serde::Deserializer<'de>>(
        from: D,
    ) -> ::core::result::Result<Self, D::Error> {
        <i8 as ::serde::Deserialize>::deserialize(from).map(|id| Self { id })
    }
}

impl ::core::convert::From<First> for Second {
    fn from(first: First) -> Self {
        Self { id: first.id }
    }
}

#[derive(Debug, ::outbox::consume::Classify)]
enum Error {
    #[classify(permanent)]
    A,
    B(::outbox::OutboxError),
}

impl ::core::fmt::Display for Error {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str("wrong")
    }
}

impl ::core::error::Error for Error {}

#[::outbox::event_handler(
    group = "g",
    attempts = 2,
    pause = "1ms",
    longest_pause = "1s",
    retry_topics = ["1s"],
    later_events = "wait",
    timeout = "1s",
    foreign = "place",
    shared_transaction = 2,
)]
async fn reserve(
    tx: &mut ::outbox::OutboxTx<'_, ::sqlx::Sqlite>,
    second: &Second,
    context: &::outbox::consume::EventContext,
    service: &Service,
) -> ::core::result::Result<(), Error> {
    if second.id == 1 && context.attempt == 1 {
        return ::core::result::Result::Err(Error::A);
    }
    ::sqlx::query("select 1")
        .execute(tx)
        .await
        .map_err(|error| Error::B(::core::convert::From::from(error)))?;
    service.create().await.map_err(Error::B)
}

struct Service(::outbox::Outbox<::sqlx::Sqlite>);

impl Service {
    #[::outbox::transactional_outbox(tx in self.0)]
    async fn create(&self) -> ::core::result::Result<(), ::outbox::OutboxError> {
        tx.emit(Generic::A(1_i64, 2))?;
        ::core::result::Result::Ok(())
    }
}

fn main() {
    let _ = Service::create;
    let _ = |service| {
        fn handler(_: impl ::outbox::consume::EventHandler<::sqlx::Sqlite>) {}
        handler(reserve(service));
    };
}
