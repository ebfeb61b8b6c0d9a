use outbox::DomainEvent;
use outbox::event::Headers;
use serde::Serialize;
use uuid::Uuid;

/// Documented, and with a rename of serde's, which is none of our business.
#[derive(Serialize, DomainEvent)]
#[serde(rename_all = "camelCase")]
#[event(topic = "order-events", name = "order.created", version = 2)]
pub struct OrderCreated {
    /// The order.
    pub order_id: Uuid,
    #[event(key)]
    pub customer_id: u64,
    #[event(header)]
    pub tenant: String,
    #[event(header = "x-channel")]
    #[serde(skip)]
    pub channel: Option<String>,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "order-events")]
struct Cancelled {
    #[event(key, header = "order")]
    order: String,
}

fn main() {
    let event = OrderCreated {
        order_id: Uuid::nil(),
        customer_id: 7,
        tenant: "acme".to_owned(),
        channel: None,
    };
    let descriptor = event.descriptor();
    assert_eq!(descriptor.topic, "order-events");
    assert_eq!(descriptor.name, "order.created");
    assert_eq!(descriptor.version, 2);
    assert_eq!(descriptor.content_type, "application/json");
    assert_eq!(descriptor.key_fields, ["customer_id"]);
    assert_eq!(descriptor.header_names, ["tenant", "x-channel"]);
    assert_eq!(event.key().as_deref(), Some(&b"7"[..]));
    let mut headers = Headers::default();
    event.headers(&mut headers);
    assert_eq!(headers.iter().collect::<Vec<_>>(), [("tenant", "acme")]);
    assert_eq!(event.id(), None);
    assert_eq!(event.occurred_at(), None);

    let event = Cancelled { order: "o-1".to_owned() };
    assert_eq!(event.descriptor().name, "Cancelled");
    assert_eq!(event.descriptor().version, 1);
    assert_eq!(event.key().as_deref(), Some(&b"o-1"[..]));
}
