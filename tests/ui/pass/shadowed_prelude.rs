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
trait Encode {}
type u8 = ();
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
}
