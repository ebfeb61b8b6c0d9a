//! What the services of the shop tell each other. In `events.lock` is what their consumers rely on:
//! the tests that the derives write compare it with these types.

use outbox::DomainEvent;
use outbox::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
pub struct OrderPlaced {
    #[event(key)]
    pub customer: String,
    pub item: String,
    pub cents: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "payments", name = "payment.taken")]
pub struct PaymentTaken {
    #[event(key)]
    pub customer: String,
    pub cents: u32,
}

// An event that is in the lock and not here was deleted: that is found, too.
outbox::catalogue![OrderPlaced, PaymentTaken];
