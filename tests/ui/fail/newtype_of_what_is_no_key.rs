use outbox::event::{EventId, EventKey, HeaderValue};

#[derive(EventKey, HeaderValue)]
struct Amount(f64);

#[derive(EventId)]
struct OrderEventId(String);

fn main() {}
