//! Newtypes and enums of the user's own as keys, headers and ids.
#![deny(warnings)]

use std::borrow::Cow;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outbox::DomainEvent;
use outbox::event::{EventId, EventKey, HeaderValue, Headers, event_key};
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize, EventKey, HeaderValue)]
#[serde(transparent)]
struct CustomerId(Uuid);

#[derive(Serialize, EventKey, HeaderValue)]
struct OrderId(NonZeroU64);

#[derive(Serialize, EventKey)]
struct LineId {
    order: OrderId,
    line: u32,
}

#[derive(EventKey, HeaderValue)]
struct Id<'a, T>(&'a str, PhantomData<T>);

#[derive(EventKey)]
struct Of<T, const N: usize>
where
    T: Clone,
{
    inner: [T; N],
}

#[derive(Clone, Copy, Serialize, EventId)]
struct PaymentId(Uuid);

#[derive(Serialize, EventId)]
struct Wrapped {
    payment: PaymentId,
}

#[derive(Serialize, HeaderValue)]
struct Tenant(Option<Box<str>>);

#[derive(Serialize, EventKey, HeaderValue)]
enum Plain {
    First,
    #[allow(non_camel_case_types)]
    r#type,
}

#[derive(Serialize, EventKey, HeaderValue)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE", tag = "kind")]
enum AsSerde {
    EuWest,
    #[serde(rename = "us", alias = "usa")]
    UsEast,
}

#[derive(Serialize, EventKey)]
#[serde(rename_all = "UPPERCASE")]
#[event(rename_all = "snake_case")]
enum Own {
    EuWest,
    #[serde(rename = "us")]
    UsEast,
    #[event(rename = "ap")]
    ApSouth {},
}

#[derive(EventKey, HeaderValue)]
enum Never {}

#[derive(Serialize, DomainEvent)]
#[event(topic = "payments")]
struct Paid<'a> {
    #[event(id)]
    payment: PaymentId,
    #[event(key)]
    customer: &'a CustomerId,
    #[event(key)]
    region: AsSerde,
    #[event(header)]
    tenant: Tenant,
    #[event(header)]
    by: Arc<str>,
    #[event(header)]
    from: IpAddr,
    #[event(header)]
    to: Cow<'a, str>,
    #[event(header)]
    line: Option<NonZeroU64>,
    #[event(occurred_at)]
    at: &'a SystemTime,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "payments")]
enum Several<'a, T: Serialize> {
    One {
        #[event(key)]
        key: [u8; 3],
        #[event(occurred_at)]
        at: &'a &'a T,
    },
    Two(#[event(key)] NonZeroU64, #[event(occurred_at)] SystemTime),
}

fn main() {
    let key = |key: &dyn EventKey| String::from_utf8(event_key(&[key])).unwrap();
    let order = || OrderId(NonZeroU64::MIN);
    assert_eq!(key(&order()), "1");
    assert_eq!(key(&LineId { order: order(), line: 2 }), "1:2");
    assert_eq!(event_key(&[&LineId { order: order(), line: 2 }, &"a"]), br"1\:2:a");
    assert_eq!(key(&Id::<u8>("a", PhantomData)), "a");
    assert_eq!(key(&Of { inner: [b'a', b'b'] }), "ab");
    assert_eq!([key(&Plain::First), key(&Plain::r#type)], ["First", "type"]);
    assert_eq!([key(&AsSerde::EuWest), key(&AsSerde::UsEast)], ["EU-WEST", "us"]);
    assert_eq!(
        [key(&Own::EuWest), key(&Own::UsEast), key(&Own::ApSouth {})],
        ["eu_west", "us_east", "ap"]
    );
    assert_eq!(AsSerde::UsEast.header_value().as_deref(), Some("us"));
    assert_eq!(Tenant(None).header_value(), None);
    let is_never = |never: &Never| (never.header_value().is_some(), key(never)).0;
    let _ = is_never;

    let at = UNIX_EPOCH + Duration::from_secs(7);
    let id = Uuid::from_u128(7);
    let paid = Paid {
        payment: PaymentId(id),
        customer: &CustomerId(id),
        region: AsSerde::EuWest,
        tenant: Tenant(Some("acme".into())),
        by: "ada".into(),
        from: IpAddr::from([127, 0, 0, 1]),
        to: "bob".into(),
        line: None,
        at: &at,
    };
    assert_eq!(paid.id(), Some(Wrapped { payment: paid.payment }.event_id()));
    assert_eq!(paid.key().unwrap(), format!("{id}:EU-WEST").into_bytes());
    assert_eq!(paid.occurred_at(), Some(at));
    let mut headers = Headers::new();
    paid.headers(&mut headers);
    let headers: Vec<_> = headers.iter().collect();
    assert_eq!(headers, [("tenant", "acme"), ("by", "ada"), ("from", "127.0.0.1"), ("to", "bob")]);
    assert_eq!(Several::One { key: *b"abc", at: &&at }.occurred_at(), Some(at));
    assert_eq!(Several::<SystemTime>::Two(NonZeroU64::MIN, at).occurred_at(), Some(at));
}
