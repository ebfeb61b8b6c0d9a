//! A lock with each kind of shape.

use outbox_contracts::Lock;

pub fn lock() -> Lock {
    Lock::parse(WHOLE).unwrap()
}

/// The same kinds of shape are in `Shape`.
const WHOLE: &str = r#"format = 1

[[event]]
topic = "orders"
name = "order.placed"
version = 1
content-type = "application/json"
key = ["customer", "shop"]
headers = ["tenant"]

[event.fields]
customer = "string"
shop = "u32"

[[event]]
topic = "orders"
name = "order.placed"
version = 2
content-type = "application/json"
key = ["customer", "shop"]
headers = ["tenant"]
reads = [1]
flattened = ["Payment"]

[event.fields]
anything = "any"
at = "string(date-time)"
born = "string(date)"
clock = "string(time)"
count = "u8"
currency = '"eur" | "usd"'
customer = "string"
debt = "i128"
fingerprint = "bytes"
flag = "bool"
free = "number"
host = "string(hostname)"
id = "string(uuid)"
items = "[Item]"
level = "integer(1..=9)"
link = "string(uri)"
mail = "string(email)"
many = "u128"
none = "null"
note = "string?"
odd = "schema {\"type\":\"string\",\"pattern\":\"^a\",\"examples\":[\"abc\"]}"
pair = "(bool, bytes)"
parcel = "enum(kind) { box: { kilos: u8 }, letter }"
path = "[f32; 3]"
payment = "enum { card: { number: string }, cash }"
pay2 = "enum { cash, card: { number: string } }"
price = "f64"
rank = "default u8"
reason = "string | u32"
remark = "optional string"
shape = "{ a: string, b: optional u8 }"
shop = "u32"
sizes = "map<u16>"
strict = "closed { a: string, b: u8? }"
tree = "Tree?"
unread = "unreadable i64"
visits = "i64"
wait = "string(duration)"
where4 = "string(ipv4)"
where6 = "string(ipv6)"

[event.types.Item.fields]
sku = "string"
count = "u32"

[event.types.Payment]
tag = "type"

[event.types.Payment.variants]
card = "{ number: string }"
cash = "unit"

[event.types.Tree.fields]
name = "string"
kids = "[Tree]"

[event.removed]
gone = "string?"

[[event]]
topic = "orders"
name = "order.counted"
version = 1
content-type = "application/json"
flattened = ["map<u16>"]

[event.fields]
shop = "string"

[[event]]
topic = "orders"
name = "order.cancelled"
version = 1
content-type = "application/json"
closed = true

[event.fields]
reason = "enum { customer, shop: string }"

[[event]]
topic = "payments"
name = "payment"
version = 1
content-type = "application/json"
tag = "type"

[event.variants]
paid = "{ amount: u64 }"
refused = "unit"

[[event]]
topic = "payments"
name = "payment list"
version = 1
content-type = "application/json"
shape = '[(u8, @"a/b~1 #%25\"é")]'

[event.types.'a/b~1 #%25"é'.fields]
sku = "string"

[[event]]
topic = "payments"
name = "endless"
version = 1
content-type = "application/json"

[event.fields]
next = "Endless"

[event.types.Endless.fields]
next = "Endless"

[[event]]
topic = "scans"
name = "scan"
version = 1
content-type = "application/octet-stream"
key = ["device"]

[[event]]
topic = "gone"
name = "gone"
version = 1
content-type = "application/json"
retired = true
shape = "string"
"#;
