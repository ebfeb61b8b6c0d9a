//! A consumer in Java, which reads what a test has published.

use std::path::PathBuf;
use std::process::Command;

use crate::Error;
use crate::fetch::{Artifact, Goal, dist};
use crate::servers::SchemaRegistry;
use crate::servers::registry::APICURIO;
use crate::tools::Tool;

/// That of the brokers.
const KAFKA: &str = "4.1.0";
/// Longest wait for the next event.
const WITHIN_MS: &str = "60000";

/// A command that prints the first events of a topic, one a line, as Kafka's own consumer for the
/// console does. They are in Avro, in the framing of Confluent's clients. The deserializer is
/// Apicurio's: those of Confluent are not on Maven Central.
///
/// # Errors
///
/// Java or Maven is missing and cannot be fetched, or the jars cannot.
pub fn avro_consumer(
    brokers: &str,
    topic: &str,
    registry: &SchemaRegistry,
    events: u32,
) -> Result<Command, Error> {
    let mut java = Tool::Java.command()?;
    java.arg("-cp")
        .arg(fetched()?.join("*"))
        .arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
    java.args(["--bootstrap-server", brokers, "--topic", topic, "--from-beginning"]);
    java.args(["--max-messages", &events.to_string(), "--timeout-ms", WITHIN_MS]);
    let deserializer = "io.apicurio.registry.serde.avro.AvroKafkaDeserializer";
    for (name, value) in [
        ("value.deserializer", deserializer),
        ("value.deserializer.apicurio.registry.as-confluent", "true"),
        // The ids that its API of Confluent's gives are these.
        ("value.deserializer.apicurio.registry.use-id", "contentId"),
        ("value.deserializer.apicurio.registry.url", &registry.own_url()),
    ] {
        java.args(["--property", &format!("{name}={value}")]);
    }
    Ok(java)
}

/// The folder with its jars, which are fetched if they are not there.
pub(crate) fn fetched() -> Result<PathBuf, Error> {
    let artifacts = [
        Artifact { group: "org.apache.kafka", name: "kafka-tools", version: KAFKA },
        Artifact {
            group: "io.apicurio",
            name: "apicurio-registry-serdes-avro-serde",
            version: APICURIO,
        },
    ];
    dist(&format!("java-consumer-{KAFKA}"), &artifacts, Goal::CopyJars, |jars| Ok(jars.to_owned()))
}
