use serde::Serialize;

#[derive(Serialize)]
#[event(topic = "t")]
struct Created(u64);

fn main() {}
