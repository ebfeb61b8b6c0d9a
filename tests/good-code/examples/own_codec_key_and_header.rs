use std::borrow::Cow;

use outbox::DomainEvent;
use outbox::codec::{Codec, CodecError, Encode};
use outbox::event::{EventKey, HeaderValue};

struct Text;

impl Codec for Text {
    const CONTENT_TYPE: &'static str = "text/plain";
}

impl Encode<Renamed> for Text {
    fn encode(value: &Renamed, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.to.as_bytes());
        Ok(())
    }
}

struct CustomerId(u64);

impl EventKey for CustomerId {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
    }
}

struct Tenant;

impl HeaderValue for Tenant {
    fn header_value(&self) -> Option<Cow<'_, str>> {
        Some("acme".into())
    }
}

#[derive(DomainEvent)]
#[event(topic = "customers", codec = Text)]
struct Renamed {
    #[event(key)]
    customer: CustomerId,
    #[event(header)]
    tenant: Tenant,
    to: String,
}

fn main() {
    let event = Renamed { customer: CustomerId(4), tenant: Tenant, to: "Ada".to_owned() };
    assert_eq!(event.descriptor().content_type, "text/plain");
    assert_eq!(event.key().as_deref(), Some(&b"4"[..]));
}
