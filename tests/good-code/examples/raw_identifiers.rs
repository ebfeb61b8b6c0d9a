use outbox::consume::{EventContext, EventHandler};
use outbox::event::Headers;
use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, DomainEvent)]
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

#[event_handler]
async fn r#match(
    r#in: &mut OutboxTx<'_, sqlx::Sqlite>,
    r#fn: r#move,
    r#struct: &EventContext,
    r#try: &u8,
) -> sqlx::Result<()> {
    sqlx::query("select $1")
        .bind(r#fn.r#type + r#struct.attempt as u8 + r#try)
        .execute(r#in)
        .await?;
    Ok(())
}

fn main() {
    assert_eq!(EventHandler::name(&r#match(7)), "raw_identifiers::match");
    let event = r#move { r#type: 1, r#in: "there".to_owned() };
    assert_eq!(event.descriptor().name, "move");
    assert_eq!(event.descriptor().key_fields, ["type"]);
    let mut headers = Headers::default();
    event.headers(&mut headers);
    assert_eq!(headers.get("in"), Some("there"));
    assert_eq!(Raw::r#loop { r#fn: 1 }.descriptor().name, "loop");
}
