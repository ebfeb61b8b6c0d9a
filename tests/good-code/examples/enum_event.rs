use outbox::DomainEvent;
use outbox::event::Headers;
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", version = 3)]
enum OrderEvent {
    #[event(name = "order.placed")]
    Placed {
        #[event(key)]
        order: u64,
        #[event(id)]
        id: Uuid,
    },
    #[event(version = 1, topic = "payments")]
    Paid(#[event(key)] u64, #[event(header = "x-currency")] String),
    #[event(keyless)]
    Audited,
    #[event(name = "order.placed", version = 4)]
    PlacedAgain {
        #[event(key)]
        order: u64,
        #[event(key)]
        part: u8,
    },
}

fn main() {
    let names = |event: &OrderEvent| {
        let descriptor = event.descriptor();
        (descriptor.topic, descriptor.name, descriptor.version)
    };
    let placed = OrderEvent::Placed { order: 1, id: Uuid::max() };
    assert_eq!(names(&placed), ("orders", "order.placed", 3));
    assert_eq!(placed.key().as_deref(), Some(&b"1"[..]));
    assert_eq!(placed.id(), Some(Uuid::max()));

    let paid = OrderEvent::Paid(2, "EUR".to_owned());
    assert_eq!(names(&paid), ("payments", "Paid", 1));
    assert_eq!(paid.descriptor().key_fields, ["0"]);
    assert_eq!(paid.id(), None);
    let mut headers = Headers::default();
    paid.headers(&mut headers);
    assert_eq!(headers.get("x-currency"), Some("EUR"));

    assert_eq!(names(&OrderEvent::Audited), ("orders", "Audited", 3));
    assert_eq!(OrderEvent::Audited.key(), None);

    let again = OrderEvent::PlacedAgain { order: 1, part: 2 };
    assert_eq!(names(&again), ("orders", "order.placed", 4));
    assert_eq!(again.key().as_deref(), Some(&b"1:2"[..]));
    assert_eq!(OrderEvent::DESCRIPTORS.len(), 4);
}
