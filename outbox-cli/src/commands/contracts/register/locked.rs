//! The schemas of the events of a lock.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use outbox_contracts::{EventName, Lock};
use outbox_registry::{Registry, RegistryConfig, Schema, SchemaFormat, SubjectStrategy};

use super::{Read, failure, read};
use crate::commands::contracts::read_lock;
use crate::commands::contracts::render::path_of;
use crate::failure::Failure;
use crate::text::one_line;

#[derive(Debug, Args)]
pub struct LockedArgs {
    /// Also the events of this lock that are JSON with a schema (the codec JsonSchema), each by its
    /// file <topic>/<name>.v<version>.json in the folder of --schemas
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Folder with the schemas of the lock's events
    #[arg(long = "schemas", value_name = "FOLDER", default_value = "contracts", requires = "lock")]
    folder: PathBuf,
    /// How the subjects of the lock's events are named: as the services and consumers are told that
    /// have them [default: as these do if they are told nothing, which is topic]
    #[arg(long, value_enum, value_name = "STRATEGY", requires = "lock")]
    subject_strategy: Option<Strategy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Strategy {
    /// <topic>-value: one event on a topic
    Topic,
    /// The title of the schema
    Record,
    /// <topic>-<title of the schema>: several events on a topic
    TopicRecord,
}

impl LockedArgs {
    pub fn subjects(&self, config: RegistryConfig) -> RegistryConfig {
        let Some(strategy) = self.subject_strategy else { return config };
        config.subjects(match strategy {
            Strategy::Topic => SubjectStrategy::TopicName,
            Strategy::Record => SubjectStrategy::RecordName,
            Strategy::TopicRecord => SubjectStrategy::TopicRecordName,
        })
    }

    /// Adds the schemas of the lock's events, the older versions of each first. Returns what is to be
    /// said of the others.
    pub fn read(&self, registry: &Registry, to: &mut Vec<Read>) -> Result<Vec<String>, Failure> {
        let Some(file) = &self.lock else { return Ok(Vec::new()) };
        let lock = read_lock(file)?;
        let mut names = BTreeMap::new();
        for name in with_schemas(&lock) {
            let file = self.folder.join(path_of(name));
            if !file.is_file() {
                return Err(configuration(&format!(
                    "the schema of `{}` version {} is not in {}, and nothing was registered. Put it there, and let the \
                     type say the same file: `json_schema!(…, include_str!(…))`; or name the schemas without --lock, \
                     as SUBJECT=FILE",
                    name.name,
                    name.version,
                    file.display()
                )));
            }
            let text = read(&file)?;
            let subject = registry
                .subject_of_json_schema(&name.topic, &text)
                .map_err(|error| failure(error.about(file.display())))?;
            match names.insert(subject.clone(), name) {
                // The same event may be on several topics, by the strategy `record`.
                Some(other) if other.name != name.name => {
                    return Err(shared(&subject, other, name));
                }
                _ => {
                    let schema = Schema::new(SchemaFormat::Json, text);
                    to.push(Read { subject, schema });
                }
            }
        }
        Ok(without_schemas(&lock, file.display()))
    }
}

/// A lock may have any text as a name.
fn configuration(said: &str) -> Failure {
    Failure::configuration(one_line(said))
}

/// In the order of their names and versions.
fn with_schemas(lock: &Lock) -> impl Iterator<Item = &EventName> {
    let events = lock.events.iter().filter(|(_, contract)| !contract.retired);
    events
        .filter(|(_, contract)| contract.content_type == SchemaFormat::Json.content_type())
        .map(|(name, _)| name)
}

/// A registry would compare them as versions of one schema, and refuse the second one, or take it.
fn shared(subject: &str, one: &EventName, other: &EventName) -> Failure {
    configuration(&format!(
        "`{}` and `{}` would both be versions of the subject {subject}, and nothing was registered: with several events \
         on a topic, give --subject-strategy topic-record, and `SubjectStrategy::TopicRecordName` to the services and \
         consumers; and give each schema a `title` of its own",
        one.name, other.name
    ))
}

/// Events with a registry's codec whose schemas are not in files beside the lock.
fn without_schemas(lock: &Lock, file: impl std::fmt::Display) -> Vec<String> {
    const OTHERS: [(SchemaFormat, &str, &str); 2] =
        [(SchemaFormat::Avro, "Avro", "avsc"), (SchemaFormat::Protobuf, "Protobuf", "proto")];
    let mut notes = Vec::new();
    for (name, contract) in &lock.events {
        let of = OTHERS.iter().find(|(of, ..)| contract.content_type == of.content_type());
        let Some((_, format, extension)) = of.filter(|_| !contract.retired) else { continue };
        notes.push(one_line(&format!(
            "`{}` version {} is not registered by the lock: it is {format}, whose schema {file} does not have. Give it \
             as SUBJECT=FILE.{extension}, or call `Registry::register` with its type",
            name.name, name.version
        )));
    }
    if notes.is_empty() && with_schemas(lock).next().is_none() {
        notes.push(format!("no event of {file} has a codec with a schema registry"));
    }
    notes
}
