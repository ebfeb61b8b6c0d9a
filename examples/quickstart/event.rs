//! What the two services share.

use outbox::DomainEvent;
use serde::{Deserialize, Serialize};

/// What the inventory needs to know about an order.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "quickstart-orders", name = "order.placed")]
pub(crate) struct OrderPlaced {
    /// The key: events of one customer stay in order.
    #[event(key)]
    pub(crate) customer: String,
    /// The customer's first order is number 1, the next number 2.
    pub(crate) number: i64,
    pub(crate) item: String,
}
