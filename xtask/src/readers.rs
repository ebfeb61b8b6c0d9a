//! Programs of others, which read what a test has published.

use std::path::PathBuf;
use std::process::Command;

use crate::Error;
use crate::fetch::{Artifact, Goal, dist};
use crate::process::run;
use crate::servers::SchemaRegistry;
use crate::servers::kafka::RELEASE as KAFKA;
use crate::servers::registry::APICURIO;
use crate::tools::Tool;

const CLOUD_EVENTS: &str = "4.0.1";
const SPRING: &str = "3.3.3";
/// Longest time for one of them to read all events.
const WITHIN_SECONDS: u32 = 90;

/// Who reads.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'r> {
    /// kcat, which is librdkafka: a line is JSON of the whole record.
    Kcat,
    /// The SDK of CloudEvents for Java: a line is the event as it shows it.
    CloudEvents,
    /// Spring's deserializer of JSON: a line is the map that it makes.
    Spring,
    /// Apicurio's deserializer of Avro, for payloads in the framing of Confluent's clients: a line is
    /// JSON. Confluent's own are not on Maven Central.
    Avro(&'r SchemaRegistry),
}

impl Reader<'_> {
    /// The first `events` of a topic, a line each.
    ///
    /// # Errors
    ///
    /// It cannot be fetched, fails, or does not get as many in time.
    pub fn read(self, brokers: &str, topic: &str, events: u32) -> Result<Vec<String>, Error> {
        let program = match self {
            Self::Kcat => kcat(brokers, topic, events)?,
            reader => reader.java(brokers, topic, events)?,
        };
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", &WITHIN_SECONDS.to_string()]);
        command.arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let lines = run(command, &format!("read {events} events of {topic}"))?;
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// Kafka's own consumer for the console, with a deserializer.
    fn java(self, brokers: &str, topic: &str, events: u32) -> Result<Command, Error> {
        let mut java = Tool::Java.command()?;
        java.arg("-cp").arg(jars()?.join("*"));
        java.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
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
            Self::Kcat => Vec::new(),
            Self::CloudEvents => {
                vec![("", "io.cloudevents.kafka.CloudEventDeserializer".to_owned())]
            }
            Self::Spring => vec![
                ("", "org.springframework.kafka.support.serializer.JsonDeserializer".to_owned()),
                (".spring.json.value.default.type", "java.util.TreeMap".to_owned()),
            ],
            Self::Avro(registry) => vec![
                ("", "io.apicurio.registry.serde.avro.AvroKafkaDeserializer".to_owned()),
                (".apicurio.registry.as-confluent", "true".to_owned()),
                // The ids that its API of Confluent's gives are these.
                (".apicurio.registry.use-id", "contentId".to_owned()),
                (".apicurio.registry.url", registry.own_url()),
            ],
        }
    }
}

fn kcat(brokers: &str, topic: &str, events: u32) -> Result<Command, Error> {
    let mut kcat = Tool::Kcat.command()?;
    kcat.args(["-C", "-J", "-q", "-b", brokers, "-t", topic, "-o", "beginning"]);
    kcat.args(["-c", &events.to_string()]);
    Ok(kcat)
}

/// Fetches what the readers need, before the first test.
pub(crate) fn fetch() -> Result<(), Error> {
    jars().map(drop)
}

/// The folder with their jars, which are fetched if they are not there.
fn jars() -> Result<PathBuf, Error> {
    let jar = |group, name, version| Artifact { group, name, version };
    let artifacts = [
        // First, so that its version of the client is that of all.
        jar("org.apache.kafka", "kafka-tools", KAFKA),
        jar("io.apicurio", "apicurio-registry-serdes-avro-serde", APICURIO),
        jar("io.cloudevents", "cloudevents-kafka", CLOUD_EVENTS),
        jar("org.springframework.kafka", "spring-kafka", SPRING),
    ];
    dist(&format!("java-readers-{KAFKA}"), &artifacts, Goal::CopyJars, |jars| Ok(jars.to_owned()))
}
