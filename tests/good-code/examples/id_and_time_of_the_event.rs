use std::time::{Duration, SystemTime};

use outbox::DomainEvent;
use serde::Serialize;
use uuid::Uuid;

#[derive(Clone)]
struct Millis(u64);

impl From<Millis> for SystemTime {
    fn from(millis: Millis) -> Self {
        Self::UNIX_EPOCH + Duration::from_millis(millis.0)
    }
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "readings")]
struct Reading {
    #[event(id, key)]
    id: Uuid,
    #[event(occurred_at)]
    #[serde(skip)]
    at: Millis,
}

fn main() {
    let event = Reading { id: Uuid::max(), at: Millis(5) };
    assert_eq!(event.id(), Some(Uuid::max()));
    assert_eq!(event.occurred_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_millis(5)));
    assert!(event.key().is_some());
}
