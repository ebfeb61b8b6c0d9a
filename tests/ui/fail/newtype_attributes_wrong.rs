use outbox::event::{EventKey, HeaderValue};

#[derive(EventKey)]
#[event(rename_all = "snake")]
enum Region {
    #[event(renam = "eu")]
    Eu,
    #[event(rename_all = "lowercase")]
    Us,
    #[event(rename = asia)]
    Asia,
}

#[derive(HeaderValue)]
#[event(rename = "x")]
enum Size {
    Small,
    #[event(rename = "Small")]
    Large,
}

#[derive(EventKey)]
#[event(topic = "orders")]
struct OrderId(#[event(key)] u64);

fn main() {}
