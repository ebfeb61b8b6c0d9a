use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "accounts")]
struct Closed(#[event(key)] u64);

#[derive(Serialize, DomainEvent)]
#[event(topic = "accounts")]
struct Moved(String, #[event(key)] u64, #[event(header = "x-to")] String);

#[derive(Serialize, DomainEvent)]
#[event(topic = "heartbeat", keyless)]
struct Ping;

fn main() {
    assert_eq!(Closed(9).key().as_deref(), Some(&b"9"[..]));
    assert_eq!(Moved(String::new(), 8, String::new()).descriptor().key_fields, ["1"]);
    assert_eq!(Ping.key(), None);
}
