//! Keys, headers and ids of types of your own: newtypes, and enums without fields.
//!
//! ```text
//! key     7:eu_west
//! header  tenant = acme
//! id      01900000-0000-7000-8000-000000000001
//! ```

use std::error::Error;

use outbox::DomainEvent;
use outbox::event::{EventId, EventKey, EventRecord, HeaderValue};
use serde::Serialize;
use uuid::Uuid;

/// Its key is the key of what is in it.
#[derive(Serialize, EventKey)]
struct CustomerId(u64);

/// Its key is the name of the variant, as serde writes it into the payload.
#[derive(Serialize, EventKey)]
#[serde(rename_all = "snake_case")]
enum Region {
    EuWest,
}

#[derive(Serialize, HeaderValue)]
struct Tenant(String);

/// Never the same for two events: consumers skip an event whose id they know.
#[derive(Serialize, EventId)]
struct PaymentId(Uuid);

#[derive(Serialize, DomainEvent)]
#[event(topic = "payments", name = "payment.received")]
struct PaymentReceived {
    #[event(id)]
    payment: PaymentId,
    #[event(key)]
    customer: CustomerId,
    #[event(key)]
    region: Region,
    #[event(header)]
    tenant: Tenant,
}

fn main() -> Result<(), Box<dyn Error>> {
    let payment = PaymentReceived {
        payment: PaymentId(Uuid::from_u128(0x01900000_0000_7000_8000_000000000001)),
        customer: CustomerId(7),
        region: Region::EuWest,
        tenant: Tenant("acme".into()),
    };
    // What `emit` adds to the transaction.
    let event = EventRecord::from_event(&payment)?;
    println!("key     {}", String::from_utf8(event.key.unwrap_or_default())?);
    for (name, value) in event.headers.iter() {
        println!("header  {name} = {value}");
    }
    println!("id      {}", event.id);
    Ok(())
}
