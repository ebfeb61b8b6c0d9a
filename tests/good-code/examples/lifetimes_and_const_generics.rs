use std::borrow::Cow;

use outbox::DomainEvent;
use serde::Serialize;

mod topics {
    pub const BORROWED: &str = "borrowed";
}

#[derive(Serialize, DomainEvent)]
#[event(topic = topics::BORROWED)]
struct Borrowed<'a, 'b: 'a> {
    #[event(key)]
    customer: &'a str,
    #[event(header)]
    tenant: Cow<'b, str>,
}

struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "arrays")]
struct Array<const N: usize> {
    #[event(key)]
    id: u8,
    bytes: Bytes<N>,
}

fn main() {
    let name = "ada".to_owned();
    let event = Borrowed { customer: &name, tenant: "acme".into() };
    assert_eq!(event.key().as_deref(), Some(&b"ada"[..]));
    assert_eq!(event.descriptor().topic, "borrowed");
    assert_eq!(Array { id: 3, bytes: Bytes([0; 4]) }.key().as_deref(), Some(&b"3"[..]));
}
