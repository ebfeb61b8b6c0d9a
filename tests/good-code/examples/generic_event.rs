use outbox::DomainEvent;
use outbox::event::{EventKey, HeaderValue};
use serde::Serialize;

trait Aggregate {
    type Id;
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "changes", name = "changed")]
struct Changed<T> {
    #[event(key)]
    id: u64,
    state: T,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "changes")]
struct Keyed<K, H = String>
where
    K: Clone,
{
    #[event(key)]
    id: K,
    #[event(header = "x-label")]
    label: H,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "changes")]
enum Either<A: Aggregate, T: ?Sized> {
    Id(#[event(key)] A::Id),
    Boxed(#[event(key)] Box<T>),
}

fn generic<K: Clone + Serialize + EventKey, H: Serialize + HeaderValue>(
    event: &Keyed<K, H>,
) -> Option<Vec<u8>> {
    event.key()
}

struct Order;

impl Aggregate for Order {
    type Id = u32;
}

fn main() {
    assert_eq!(Changed { id: 1, state: vec![1] }.descriptor().name, "changed");
    assert_eq!(generic(&Keyed { id: "k", label: 1_u8 }).as_deref(), Some(&b"k"[..]));
    let event: Either<Order, str> = Either::Boxed("b".into());
    assert_eq!(event.key().as_deref(), Some(&b"b"[..]));
    let event: Either<Order, str> = Either::Id(5);
    assert_eq!(event.key().as_deref(), Some(&b"5"[..]));
}
