use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(kafka_topic = "orders", event_type = "order.placed", schema_version = 2, partition_key = "customer_id")]
struct Placed {
    customer_id: u64,
    #[event(timestamp)]
    at: std::time::SystemTime,
    #[event(message_id)]
    id: uuid::Uuid,
    #[event(metadata = "x-tenant")]
    tenant: String,
    #[event(skip)]
    note: String,
    #[event(rename = "amount")]
    cents: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(aggregate_type = "orders", type = "order.paid", aggregate_id = "self.order")]
struct Paid {
    order: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic("orders"), event_name = "order", retention = "7d", source = "/orders", rename_all = "snake_case")]
enum OrderEvent {
    #[event(type = "order.shipped")]
    Shipped(#[event(partition_key)] u64),
}

#[derive(Serialize, DomainEvent)]
#[event(destination = "orders", keyless, content_type = "text/plain", version = 2, upcaster = Placed)]
struct Closed;

fn main() {}
