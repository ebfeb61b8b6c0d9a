//! What a type has by the names of our traits' items stays its own.
#![allow(dead_code)]

use outbox::DomainEvent;
use outbox::codec::Json;
use outbox::consume::{Classify, ErrorClass};
use outbox::event::{EventDescriptor, EventKind, Headers};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "pictures", name = "picture.taken")]
struct PictureTakenV1 {
    #[event(key)]
    key: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "pictures", name = "picture.taken", version = 2, upcast_from = PictureTakenV1)]
struct PictureTaken {
    #[event(key)]
    key: u64,
    #[event(header)]
    headers: String,
    #[event(id)]
    id: uuid::Uuid,
    #[event(occurred_at)]
    occurred_at: std::time::SystemTime,
    descriptor: u8,
}

impl PictureTaken {
    pub const CONTENT_TYPE: &'static str = "image/png";
    pub const DESCRIPTORS: u8 = 1;

    pub fn key(&self) -> &'static str {
        "own"
    }
    pub fn headers(&self) -> &'static str {
        "own"
    }
    pub fn id(self) -> &'static str {
        "own"
    }
    pub fn occurred_at() -> &'static str {
        "own"
    }
    pub fn descriptor(&self) -> &'static str {
        "own"
    }
    pub fn older_versions() -> &'static str {
        "own"
    }
    pub fn decode_payload(_: &[u8]) -> &'static str {
        "own"
    }
    pub fn encode_payload(&self) -> &'static str {
        "own"
    }
}

impl PictureTakenV1 {
    pub const CONTENT_TYPE: &'static str = "image/png";
    pub const DESCRIPTORS: u8 = 1;

    pub fn older_versions() -> &'static str {
        "own"
    }
}

impl From<PictureTakenV1> for PictureTaken {
    fn from(old: PictureTakenV1) -> Self {
        Self {
            key: old.key,
            headers: String::new(),
            id: uuid::Uuid::from_u128(1),
            occurred_at: std::time::UNIX_EPOCH,
            descriptor: 0,
        }
    }
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "pictures")]
enum Picture {
    Codec(#[event(key)] u64),
    #[allow(non_camel_case_types)]
    descriptor {
        #[event(key)]
        key: u64,
    },
}

impl Picture {
    pub const DESCRIPTORS: u8 = 1;
    pub const CONTENT_TYPE: &'static str = "image/png";
}

#[derive(Debug, thiserror::Error, Classify)]
#[error("failed")]
#[allow(dead_code)]
enum Failed {
    #[classify(permanent)]
    Permanent,
    Transient,
}

impl Failed {
    pub fn class(&self) -> &'static str {
        "own"
    }
}

fn described<E: DomainEvent>(event: &E) -> (&'static EventDescriptor, Headers) {
    let mut headers = Headers::new();
    event.headers(&mut headers);
    (event.descriptor(), headers)
}

fn main() {
    let event = PictureTaken::from(PictureTakenV1 { key: 7 });
    let (descriptor, headers) = described(&event);
    assert_eq!(descriptor.content_type, "application/json");
    assert_eq!((descriptor.name, descriptor.version), ("picture.taken", 2));
    assert_eq!(headers.get("headers"), Some(""));
    assert_eq!(DomainEvent::key(&event).as_deref(), Some(&b"7"[..]));
    assert_eq!(DomainEvent::id(&event), Some(uuid::Uuid::from_u128(1)));
    assert_eq!(DomainEvent::occurred_at(&event), Some(std::time::UNIX_EPOCH));
    let read = <PictureTaken as DomainEvent>::decode_payload::<Json>(
        EventKind::new("pictures", "picture.taken", 1),
        br#"{"key": 8}"#,
    );
    assert_eq!(read.unwrap().unwrap().key, 8);
    assert_eq!(described(&Picture::Codec(1)).0.name, "Codec");
    assert_eq!(described(&Picture::descriptor { key: 1 }).0.content_type, "application/json");
    assert_eq!(Classify::class(&Failed::Permanent), ErrorClass::Permanent);
    assert_eq!(Failed::Transient.class(), "own");
    assert_eq!((event.key(), event.headers(), event.descriptor()), ("own", "own", "own"));
}
