//! Programs of others, which write what a test consumes.

use std::fs;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::clients::{groovy, python, run_in_time};
use crate::tools::Tool;
use crate::{Error, ScratchDir};

/// An SDK of CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// That for Python. kcat sends what it makes.
    Python,
    /// That for Java, with Kafka's own client.
    Java,
}

/// Where the attributes of an event are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In headers.
    Binary,
    /// With the data in the record's value.
    Structured,
}

/// An event that an SDK writes.
#[derive(Debug, Clone)]
pub struct SdkEvent<'e> {
    /// Its attribute `id`.
    pub id: &'e str,
    /// Its attribute `source`: a reference of a URI.
    pub source: &'e str,
    /// Its attribute `type`.
    pub event_type: &'e str,
    /// Key of its record.
    pub key: &'e str,
    /// What happened: an object.
    pub data: Value,
}

impl Sdk {
    /// Writes an event.
    ///
    /// # Errors
    ///
    /// The SDK cannot be fetched, refuses the event, or the broker does not take it in time.
    pub fn write(
        self,
        brokers: &str,
        topic: &str,
        mode: Mode,
        event: &SdkEvent<'_>,
    ) -> Result<(), Error> {
        let SdkEvent { id, source, event_type, key, data } = event;
        let event =
            json!({ "id": id, "source": source, "type": event_type, "key": key, "data": data });
        let event = event.to_string();
        let mode = match mode {
            Mode::Binary => "binary",
            Mode::Structured => "structured",
        };
        let purpose = format!("write an event to {topic}");
        match self {
            Self::Java => {
                let mut groovy = groovy(include_str!("clients/cloud_events.groovy"))?;
                groovy.args([brokers, topic, mode, &event]);
                run_in_time(&groovy, &purpose).map(drop)
            }
            Self::Python => {
                let mut python = python(include_str!("clients/cloud_events.py"))?;
                python.args(["write", mode, &event]);
                let written = run_in_time(&python, &purpose)?;
                let record: Record = serde_json::from_str(&written).map_err(|error| {
                    Error::new(format!("the SDK for Python writes no record ({error}): {written}"))
                })?;
                record.send(brokers, topic, &purpose)
            }
        }
    }
}

/// What the script for Python prints.
#[derive(Deserialize)]
struct Record {
    key: String,
    headers: Map<String, Value>,
    value: String,
}

impl Record {
    /// By kcat.
    fn send(&self, brokers: &str, topic: &str, purpose: &str) -> Result<(), Error> {
        let scratch = ScratchDir::new("writer")?;
        let value = scratch.path().join("value");
        fs::write(&value, &self.value)
            .map_err(|error| Error::io(format_args!("write {}", value.display()), error))?;
        let mut kcat: Command = Tool::Kcat.command()?;
        kcat.args(["-P", "-b", brokers, "-t", topic, "-k", &self.key]);
        for (name, value) in &self.headers {
            kcat.arg("-H").arg(format!("{name}={}", value.as_str().unwrap_or_default()));
        }
        // A file is one record, whatever is in it.
        kcat.arg(value);
        run_in_time(&kcat, purpose).map(drop)
    }
}
