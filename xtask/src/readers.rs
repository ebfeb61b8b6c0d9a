//! Programs of others, which read what a test has published.

use std::process::Command;

use crate::Error;
use crate::clients::{java, python, run_in_time};
use crate::servers::SchemaRegistry;
use crate::tools::Tool;

/// Who reads.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'r> {
    /// kcat, which is librdkafka: a line is JSON of the whole record.
    Kcat,
    /// The SDK of CloudEvents for Java: a line is the event as it shows it.
    CloudEventsForJava,
    /// That for Python, of what kcat reads: a line is JSON, with the attributes of the event and its
    /// `data`.
    CloudEventsForPython,
    /// Spring's deserializer of JSON: a line is the map that it makes.
    Spring,
    /// Apicurio's deserializer of Avro, for payloads in the framing of Confluent's clients: a line is
    /// JSON. Confluent's own are not on Maven Central.
    Avro(&'r SchemaRegistry),
    /// Apicurio's deserializer of JSON with a schema, with which it compares the payload: a line is
    /// JSON. Its deserializer of Protobuf knows no framing of Confluent's: it takes the indexes of the
    /// message for one of its own, `Ref`.
    JsonSchema(&'r SchemaRegistry),
}

impl Reader<'_> {
    /// The first `events` of a topic, a line each.
    ///
    /// # Errors
    ///
    /// It cannot be fetched, fails, or does not get as many in time.
    pub fn read(self, brokers: &str, topic: &str, events: u32) -> Result<Vec<String>, Error> {
        let purpose = format!("read {events} events of {topic}");
        let lines = match self {
            Self::Kcat | Self::CloudEventsForPython => {
                run_in_time(&kcat(brokers, topic, events)?, &purpose)?
            }
            reader => run_in_time(&reader.console_consumer(brokers, topic, events)?, &purpose)?,
        };
        let lines = match self {
            Self::CloudEventsForPython => {
                let mut python = python(include_str!("clients/cloud_events.py"))?;
                python.arg("read").args(lines.lines());
                run_in_time(&python, &purpose)?
            }
            _ => lines,
        };
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// Kafka's own consumer for the console, with a deserializer.
    fn console_consumer(self, brokers: &str, topic: &str, events: u32) -> Result<Command, Error> {
        let mut java = java("org.apache.kafka.tools.consumer.ConsoleConsumer")?;
        java.args(["--bootstrap-server", brokers, "--topic", topic, "--from-beginning"]);
        java.args(["--max-messages", &events.to_string()]);
        for (name, value) in self.deserializer() {
            java.args(["--property", &format!("value.deserializer{name}={value}")]);
        }
        Ok(java)
    }

    /// Its properties. The first one is the class.
    fn deserializer(self) -> Vec<(&'static str, String)> {
        match self {
            Self::Kcat | Self::CloudEventsForPython => Vec::new(),
            Self::CloudEventsForJava => {
                vec![("", "io.cloudevents.kafka.CloudEventDeserializer".to_owned())]
            }
            Self::Spring => vec![
                ("", "org.springframework.kafka.support.serializer.JsonDeserializer".to_owned()),
                (".spring.json.value.default.type", "java.util.TreeMap".to_owned()),
            ],
            Self::Avro(registry) => {
                by_registry("io.apicurio.registry.serde.avro.AvroKafkaDeserializer", registry)
            }
            Self::JsonSchema(registry) => by_registry(
                "io.apicurio.registry.serde.jsonschema.JsonSchemaKafkaDeserializer",
                registry,
            ),
        }
    }
}

/// A deserializer of Apicurio's.
fn by_registry(class: &str, registry: &SchemaRegistry) -> Vec<(&'static str, String)> {
    vec![
        ("", class.to_owned()),
        (".apicurio.registry.as-confluent", "true".to_owned()),
        // The ids that its API of Confluent's gives are these.
        (".apicurio.registry.use-id", "contentId".to_owned()),
        (".apicurio.registry.url", registry.own_url()),
    ]
}

fn kcat(brokers: &str, topic: &str, events: u32) -> Result<Command, Error> {
    let mut kcat = Tool::Kcat.command()?;
    kcat.args(["-C", "-J", "-q", "-b", brokers, "-t", topic, "-o", "beginning"]);
    kcat.args(["-c", &events.to_string()]);
    Ok(kcat)
}
