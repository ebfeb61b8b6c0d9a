use std::collections::BTreeMap;

use outbox::DomainEvent;
use outbox::codec::{Codec, Encode};
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[serde(rename_all = "camelCase", tag = "kind", content = "data")]
#[event(topic = "t")]
enum OrderEvent {
    #[serde(rename = "placed-by")]
    #[event(name = "order.placed")]
    PlacedBy {
        #[serde(rename = "customer")]
        #[event(key)]
        customer_id: u64,
        #[serde(flatten)]
        more: BTreeMap<&'static str, u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[event(header)]
        tenant: Option<String>,
    },
}

fn main() {
    let event =
        OrderEvent::PlacedBy { customer_id: 1, more: BTreeMap::from([("a", 2)]), tenant: None };
    let mut payload = Vec::new();
    <<OrderEvent as DomainEvent>::Codec as Encode<OrderEvent>>::encode(&event, &mut payload)
        .unwrap();
    assert_eq!(payload, br#"{"kind":"placed-by","data":{"customer":1,"a":2}}"#);
    assert_eq!(<outbox::codec::Json as Codec>::CONTENT_TYPE, OrderEvent::CONTENT_TYPE);
}
