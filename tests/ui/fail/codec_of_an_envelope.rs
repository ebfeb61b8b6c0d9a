//! A codec whose content type would have consumers take its payloads for envelopes of CloudEvents.

use outbox::DomainEvent;
use outbox::codec::{Codec, CodecError, Encode};

struct Enveloped;

impl Codec for Enveloped {
    const CONTENT_TYPE: &'static str = "application/cloudevents+json; charset=utf-8";
}

impl<T: serde::Serialize> Encode<T> for Enveloped {
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(CodecError::new)
    }
}

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 1, codec = Enveloped, unlocked)]
struct OrderPlaced {
    #[event(key)]
    customer: String,
}

fn main() {}
