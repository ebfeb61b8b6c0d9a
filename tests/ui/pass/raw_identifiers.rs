use outbox::{DomainEvent, Headers};
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "raw")]
#[allow(non_camel_case_types)]
struct r#move {
    #[event(key)]
    r#type: u8,
    #[event(header)]
    r#in: String,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "raw")]
#[allow(non_camel_case_types)]
enum Raw {
    r#loop {
        #[event(key)]
        r#fn: u8,
    },
}

fn main() {
    let event = r#move { r#type: 1, r#in: "there".to_owned() };
    assert_eq!(event.descriptor().name, "move");
    assert_eq!(event.descriptor().key_fields, ["type"]);
    let mut headers = Headers::default();
    event.headers(&mut headers);
    assert_eq!(headers.get("in"), Some("there"));
    assert_eq!(Raw::r#loop { r#fn: 1 }.descriptor().name, "loop");
}
