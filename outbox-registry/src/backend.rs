//! The questions to a registry, by Confluent's REST API.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::error::{RegistryError, RegistryErrorKind};
use crate::format::SchemaFormat;
use crate::frame::SchemaId;
use crate::memory::Memory;
use crate::references::{self, SchemaReference};
use crate::registry::Checked;
use crate::schema::Schema;
use crate::subject::escaped;

/// Longest part that is shown of why a version is not compatible.
const LONGEST_REASON: usize = 2_000;

/// The number of a schema of which only the GUID is known.
const UNKNOWN: i32 = -1;

/// A schema as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Its number. [`UNKNOWN`]: it was asked for by its GUID.
    pub(crate) id: i32,
    /// `AVRO`, `PROTOBUF` or `JSON`. `None`: the registry does not say. Confluent's does so for Avro,
    /// and Apicurio's for all in some of its answers: the text then tells.
    pub(crate) format: Option<String>,
    pub(crate) text: String,
    /// The schemas of the registry whose types it names.
    pub(crate) references: Vec<SchemaReference>,
}

pub(crate) enum Backend {
    Http(Client),
    Memory(Memory),
}

impl Backend {
    /// The id of exactly this schema.
    pub(crate) fn lookup(
        &self,
        subject: &str,
        schema: &Schema,
    ) -> Result<Registered, RegistryError> {
        let client = match self {
            Self::Http(client) => client,
            Self::Memory(memory) => return Ok(memory.lookup(subject, schema)),
        };
        let body = question(schema);
        let path = format!("/subjects/{}", escaped(subject));
        let mut answer = client.ask(&path, Some(&body))?;
        if answer.status == 404 {
            // It may have been registered in its normal form.
            answer = client.ask(&format!("{path}?normalize=true"), Some(&body))?;
        }
        match answer.status {
            200 => registered(&answer.body, None).ok_or_else(|| unexpected(&path, &answer)),
            404 => Err(RegistryError::new(RegistryErrorKind::NotRegistered, answer.words())),
            422 => Err(no_schema(&answer)),
            _ => Err(unexpected(&path, &answer)),
        }
    }

    /// Makes it the newest version of the subject, unless it is one already. Returns its id.
    pub(crate) fn register(&self, subject: &str, schema: &Schema) -> Result<i32, RegistryError> {
        let client = match self {
            Self::Http(client) => client,
            Self::Memory(memory) => return Ok(memory.lookup(subject, schema).id),
        };
        let path = format!("/subjects/{}/versions", escaped(subject));
        let answer = client.ask(&path, Some(&question(schema)))?;
        match answer.status {
            200 => answer.body.get("id").and_then(as_i32).ok_or_else(|| unexpected(&path, &answer)),
            409 => Err(incompatible(subject, &answer.words())),
            422 => Err(no_schema(&answer)),
            _ => Err(unexpected(&path, &answer)),
        }
    }

    /// Whether it could be the newest version of the subject.
    pub(crate) fn check(&self, subject: &str, schema: &Schema) -> Result<Checked, RegistryError> {
        let Self::Http(client) = self else { return Ok(Checked::New) };
        // Without a version, it is compared with all that the subject's mode says.
        let path = format!("/compatibility/subjects/{}/versions", escaped(subject));
        let answer = client.ask(&format!("{path}?verbose=true"), Some(&question(schema)))?;
        match (answer.status, answer.body.get("is_compatible").and_then(Value::as_bool)) {
            (200, Some(true)) if self.is_new(subject)? => Ok(Checked::New),
            (200, Some(true)) => Ok(Checked::Compatible),
            (200, Some(false)) => Err(incompatible(subject, &why(&answer.body))),
            (404, _) => Ok(Checked::New),
            (422, _) => Err(no_schema(&answer)),
            _ => Err(unexpected(&path, &answer)),
        }
    }

    /// The versions of a subject, the oldest first.
    pub(crate) fn versions(&self, subject: &str) -> Result<Vec<i32>, RegistryError> {
        let client = match self {
            Self::Http(client) => client,
            Self::Memory(memory) => return Ok(memory.versions(subject)),
        };
        let path = format!("/subjects/{}/versions", escaped(subject));
        let answer = client.ask(&path, None)?;
        match (answer.status, answer.body.as_array()) {
            (200, Some(versions)) => {
                let mut versions: Vec<_> = versions.iter().filter_map(as_i32).collect();
                versions.sort_unstable();
                Ok(versions)
            }
            (404, _) => Err(RegistryError::new(RegistryErrorKind::NotRegistered, answer.words())),
            _ => Err(unexpected(&path, &answer)),
        }
    }

    fn is_new(&self, subject: &str) -> Result<bool, RegistryError> {
        match self.versions(subject) {
            Ok(versions) => Ok(versions.is_empty()),
            Err(error) if error.kind() == RegistryErrorKind::NotRegistered => Ok(true),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn version(&self, subject: &str, version: i32) -> Result<Registered, RegistryError> {
        let path = format!("/subjects/{}/versions/{version}", escaped(subject));
        match self {
            Self::Http(client) => known(client, &path, None),
            Self::Memory(memory) => memory.version(subject, version).ok_or_else(not_there),
        }
    }

    pub(crate) fn by_id(&self, id: SchemaId) -> Result<Registered, RegistryError> {
        match (self, id) {
            (Self::Http(client), SchemaId::Number(number)) => {
                known(client, &format!("/schemas/ids/{number}"), Some(number))
            }
            (Self::Http(client), SchemaId::Guid(_)) => {
                known(client, &format!("/schemas/guids/{id}"), Some(UNKNOWN))
            }
            (Self::Memory(memory), SchemaId::Number(number)) => {
                memory.by_id(number).ok_or_else(not_there)
            }
            (Self::Memory(_), SchemaId::Guid(_)) => Err(not_there()),
        }
    }

    /// The schemas that a schema refers to, and those that these refer to.
    pub(crate) fn referred(&self, of: &Registered) -> Result<Vec<String>, RegistryError> {
        let Self::Http(client) = self else { return Ok(Vec::new()) };
        let deadline = client.deadline();
        references::fetched(of, &mut |SchemaReference { subject, version, .. }| {
            // A version that was deleted since is still what events were written by.
            let path = format!("/subjects/{}/versions/{version}?deleted=true", escaped(subject));
            known_until(deadline, client, &path, None)
        })
    }
}

fn question(schema: &Schema) -> Value {
    let mut body = json!({ "schema": schema.text });
    // Registries from before there was another type do not know the fields.
    if schema.format != SchemaFormat::Avro {
        body["schemaType"] = schema.format.as_str().into();
    }
    if !schema.references.is_empty() {
        body["references"] = schema.references.iter().map(SchemaReference::json).collect();
    }
    body
}

/// Why a version is not compatible: Apicurio has other words for it than Confluent.
fn why(body: &Value) -> String {
    let messages = body.get("messages").or_else(|| body.get("reason"));
    messages.map_or_else(|| "it does not say why".to_owned(), Value::to_string)
}

fn incompatible(subject: &str, why: &str) -> RegistryError {
    let why: String = why.chars().take(LONGEST_REASON).collect();
    RegistryError::new(
        RegistryErrorKind::Incompatible,
        format!(
            "the registry refuses it as a new version of {subject} ({why}): its consumers could not read the new \
             events. Change it so that they can, or give the event a new version with a subject of its own"
        ),
    )
}

fn no_schema(answer: &Answer) -> RegistryError {
    let text = format!("the registry takes it for no schema ({})", answer.words());
    RegistryError::new(RegistryErrorKind::Schema, text)
}

/// `id`: that of the answer, which then does not say it.
fn known(client: &Client, path: &str, id: Option<i32>) -> Result<Registered, RegistryError> {
    known_until(client.deadline(), client, path, id)
}

fn known_until(
    deadline: Instant,
    client: &Client,
    path: &str,
    id: Option<i32>,
) -> Result<Registered, RegistryError> {
    let answer = client.ask_until(deadline, path, None)?;
    match answer.status {
        200 => registered(&answer.body, id).ok_or_else(|| unexpected(path, &answer)),
        404 => Err(RegistryError::new(RegistryErrorKind::NotRegistered, answer.words())),
        _ => Err(unexpected(path, &answer)),
    }
}

fn registered(body: &Value, id: Option<i32>) -> Option<Registered> {
    Some(Registered {
        id: id.or_else(|| as_i32(body.get("id")?))?,
        format: body.get("schemaType").and_then(Value::as_str).map(str::to_owned),
        text: body.get("schema")?.as_str()?.to_owned(),
        references: match body.get("references") {
            None | Some(Value::Null) => Vec::new(),
            Some(references) => references::read(references)?,
        },
    })
}

fn as_i32(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|value| i32::try_from(value).ok()).filter(|value| *value >= 0)
}

fn not_there() -> RegistryError {
    RegistryError::new(RegistryErrorKind::NotRegistered, "it is not there")
}

fn unexpected(path: &str, answer: &Answer) -> RegistryError {
    RegistryError::new(
        RegistryErrorKind::Answer,
        format!(
            "the registry answers {} to {path} ({}), which is no answer of a schema registry: check that the URL is \
             that of its REST API",
            answer.status,
            answer.words()
        ),
    )
}
