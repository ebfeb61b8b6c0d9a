use outbox::event::{EventId, EventKey, HeaderValue};
use uuid::Uuid;

#[derive(EventKey)]
struct Nothing;

#[derive(HeaderValue)]
struct Name {
    first: String,
    last: String,
}

#[derive(EventId)]
struct Ids(Uuid, Uuid);

#[derive(EventId)]
enum Kind {
    Placed,
}

#[derive(EventKey)]
enum Customer {
    Known(u64),
    Unknown,
}

#[derive(EventKey)]
union Either {
    a: u64,
    b: u64,
}

fn main() {}
