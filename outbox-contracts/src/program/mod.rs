//! The events of a program, and their comparison with a lock. The macros of `outbox` call this in
//! the tests that they write. It is not for you: it changes without notice.

mod compare;
mod content;
mod file;
mod reader;
mod said;
mod source;
mod tested;
mod update;

use std::collections::BTreeSet;

use outbox_event::EventDescriptor;
use schemars::JsonSchema;

pub use content::{Content, Wire};
pub use tested::{catalogue, check};

use crate::lock::{Contract, EventName, Lock};
use crate::schema;
use crate::shape::Payload;

/// An event whose payload can be described.
#[diagnostic::on_unimplemented(
    message = "nothing says what is in the payload of `{Self}`, so it cannot be compared with `events.lock`",
    label = "`JsonSchema` is not implemented for `{Self}`",
    note = "add `#[derive(JsonSchema)]` to it and to the types of its fields, and `use outbox::schemars::{{self, JsonSchema}};` to the file",
    note = "an event that no consumer relies on, such as one of a test, is left out by `#[event(unlocked)]`"
)]
pub trait Described {
    /// What is written, and what a reader needs of it.
    #[doc(hidden)]
    fn emitted() -> Payload;
    /// What a reader needs.
    #[doc(hidden)]
    fn handled() -> Payload;
}

#[diagnostic::do_not_recommend]
impl<T: JsonSchema + ?Sized> Described for T {
    fn emitted() -> Payload {
        schema::emitted::<T>()
    }

    fn handled() -> Payload {
        schema::handled::<T>()
    }
}

/// A type of events, for which the derive says what its contracts are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no contract",
    label = "this is no event with a contract",
    note = "a contract has each type with `#[derive(JsonSchema, DomainEvent)]` that is not `#[event(unlocked)]`; for the one, write `use outbox::schemars::{{self, JsonSchema}};`"
)]
pub trait Contracted {
    /// Those of its events.
    fn contracts() -> Vec<Declared>;
}

macro_rules! pointers {
    ($([$($lifetime:lifetime)?] $pointer:ty)*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($lifetime,)? E: Contracted> Contracted for $pointer {
            fn contracts() -> Vec<Declared> {
                E::contracts()
            }
        }
    )*};
}
pointers!(['a] &'a E [] Box<E>);

/// Who a type is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is emitted: its lock is that of the program.
    Emitted,
    /// It is an old version of an event of this program, and only read.
    ReadOnly,
    /// It reads what another program emits, whose lock is this: a path, `git:REVISION:PATH`, or the
    /// lock itself.
    EmittedBy(&'static str),
}

/// What a program says that an event is.
#[derive(Debug, Clone)]
pub struct Declared {
    pub(crate) name: EventName,
    pub(crate) contract: Contract,
    pub(crate) role: Role,
}

/// The contracts of a type whose payload is described.
#[must_use]
pub fn described<E: Described + ?Sized>(
    role: Role,
    events: &[EventDescriptor],
    older: &[EventDescriptor],
    wires: &[Wire],
) -> Vec<Declared> {
    let payload = match role {
        Role::Emitted => E::emitted(),
        Role::ReadOnly | Role::EmittedBy(_) => E::handled(),
    };
    declared(role, events, older, wires, |wire| content::of(&payload, wire, role))
}

/// The contracts of a type with a codec that is not JSON, of whose payload nothing is known.
#[must_use]
pub fn opaque(
    role: Role,
    events: &[EventDescriptor],
    older: &[EventDescriptor],
    wires: &[Wire],
) -> Vec<Declared> {
    declared(role, events, older, wires, |_| None)
}

/// The lock that has these events.
#[must_use]
pub fn lock_of(declared: &[Declared]) -> Lock {
    let mut lock = Lock::default();
    for Declared { name, contract, .. } in declared {
        lock.accept(name, contract.clone());
    }
    lock
}

fn declared(
    role: Role,
    events: &[EventDescriptor],
    older: &[EventDescriptor],
    wires: &[Wire],
    payload: impl Fn(&Wire) -> Option<Payload>,
) -> Vec<Declared> {
    let each = events.iter().zip(wires).map(|(event, wire)| {
        let is_older = |older: &&EventDescriptor| {
            (older.topic, older.name) == (event.topic, event.name) && older.version < event.version
        };
        let contract = Contract {
            content_type: event.content_type.to_owned(),
            key: wire.key.iter().map(|&field| field.to_owned()).collect(),
            headers: event.header_names.iter().map(|&name| name.to_owned()).collect(),
            reads: older
                .iter()
                .filter(is_older)
                .map(|older| older.version)
                .collect::<BTreeSet<_>>(),
            payload: payload(wire),
            ..Contract::default()
        };
        let name = EventName::new(event.topic, event.name, event.version);
        Declared { name, contract, role }
    });
    each.collect()
}
