use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outbox::DomainEvent;
use outbox::event::{EventId, EventKey};
use serde::Serialize;
use uuid::Uuid;

#[derive(Clone, Copy, Serialize)]
struct OrderEventId(Uuid);

impl EventId for OrderEventId {
    fn event_id(&self) -> Uuid {
        self.0
    }
}

#[derive(Clone, Copy, Serialize)]
struct UnixMillis(u64);

impl From<UnixMillis> for SystemTime {
    fn from(time: UnixMillis) -> Self {
        SystemTime::UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct CustomerId(String);

impl EventKey for CustomerId {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
    }
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed {
    #[event(id)]
    id: OrderEventId,
    #[event(key)]
    region: Arc<str>,
    #[event(key)]
    customer: CustomerId,
    #[event(occurred_at)]
    at: UnixMillis,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "generic")]
struct Generic<I, T> {
    #[event(id)]
    id: I,
    #[event(key)]
    key: u64,
    #[event(occurred_at)]
    at: T,
}

fn main() {
    let placed = Placed {
        id: OrderEventId(Uuid::nil()),
        region: "eu".into(),
        customer: CustomerId("ada".to_owned()),
        at: UnixMillis(7),
    };
    assert_eq!(placed.id(), Some(Uuid::nil()));
    assert_eq!(placed.key().as_deref(), Some(&b"eu:ada"[..]));
    assert_eq!(placed.occurred_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_millis(7)));
    let generic = Generic { id: Uuid::nil(), key: 1, at: UnixMillis(7) };
    assert_eq!(generic.occurred_at(), placed.occurred_at());
}
