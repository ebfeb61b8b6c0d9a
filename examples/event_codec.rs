//! A codec of your own, for payloads that are not JSON.
//!
//! ```text
//! text/csv: cellar;12.5
//! cellar has 12.5 °C
//! the payload of event `measured` version 1 cannot be decoded (expected `sensor;degrees`)
//! ```

use std::error::Error;

use outbox::codec::{Codec, CodecError, Decode, Encode};
use outbox::testing::{Delivery, HandlerTest, TestMessage, emitted};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;

/// With Protobuf or Avro, this would be one type with an implementation for all messages.
struct Csv;

impl Codec for Csv {
    const CONTENT_TYPE: &'static str = "text/csv";
}

impl Encode<Measured> for Csv {
    fn encode(event: &Measured, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(format!("{};{}", event.sensor, event.degrees).as_bytes());
        Ok(())
    }
}

impl Decode<Measured> for Csv {
    fn decode(payload: &[u8]) -> Result<Measured, CodecError> {
        let text = str::from_utf8(payload).map_err(CodecError::new)?;
        let (sensor, degrees) =
            text.split_once(';').ok_or_else(|| CodecError::new("expected `sensor;degrees`"))?;
        let degrees = degrees.parse().map_err(CodecError::new)?;
        Ok(Measured { sensor: sensor.into(), degrees })
    }
}

#[derive(DomainEvent)]
#[event(topic = "measurements", name = "measured", codec = Csv)]
struct Measured {
    #[event(key)]
    sensor: String,
    degrees: f32,
}

#[event_handler]
async fn show(_: &mut OutboxTx<'_, Sqlite>, event: Measured) -> Result<(), sqlx::Error> {
    println!("{} has {} °C", event.sensor, event.degrees);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let event = Measured { sensor: "cellar".into(), degrees: 12.5 };
    let message = TestMessage::of(&event)?;

    let mut tx = outbox.begin().await?;
    tx.emit(event)?;
    tx.commit().await?;
    for event in emitted(&outbox).await?.iter() {
        let payload = str::from_utf8(event.payload.as_deref().unwrap_or_default())?;
        println!("{}: {payload}", event.content_type);
    }

    let handler = HandlerTest::new(outbox, show())?;
    assert_eq!(handler.deliver(&message).await?, Delivery::Handled);
    // A consumer makes it a dead letter at once: no other attempt can help.
    let broken = TestMessage::of(&Measured { sensor: "attic".into(), degrees: 30.0 })?;
    if let Delivery::Undecodable(why) = handler.deliver(&broken.payload("attic")).await? {
        println!("{why}");
    }
    Ok(())
}
