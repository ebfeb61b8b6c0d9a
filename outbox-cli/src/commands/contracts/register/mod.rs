//! `outbox contracts register`.

mod locked;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use outbox_registry::{
    Checked, Registry, RegistryConfig, RegistryError, RegistryErrorKind, Schema, SchemaFormat,
};

use crate::context::Context;
use crate::failure::Failure;
use crate::file::read_bounded;
use crate::settings::secret;
use crate::text::one_line;
use crate::values;

/// Register schemas of events at a schema registry, before what emits them is deployed
///
/// A service that emits by a codec with a registry finds the id of its schema at start, and does not
/// start without it. The password is read from the variable OUTBOX_REGISTRY_PASSWORD, or a file that
/// OUTBOX_REGISTRY_PASSWORD_FILE names; a token from OUTBOX_REGISTRY_TOKEN, or a file that
/// OUTBOX_REGISTRY_TOKEN_FILE names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    outbox contracts register --registry http://registry:8081 orders-value=schemas/order_placed.avsc\n  \
    outbox contracts register --dry-run orders-shop.OrderPlaced=schemas/shop.proto\n  \
    outbox contracts register --lock events.lock --subject-strategy topic-record\n  \
    outbox contracts register orders-value=order.avsc --reference shop.Item=items-value:3")]
pub struct RegisterArgs {
    /// Subjects, and the files of their schemas: Avro in .avsc, Protobuf in .proto, JSON Schema in
    /// .json
    #[arg(required_unless_present = "lock", value_name = "SUBJECT=FILE", value_parser = InFile::parse)]
    schemas: Vec<InFile>,
    /// What the one schema of SUBJECT=FILE names that is in another schema of the registry: a type of
    /// Avro by its full name, a file that Protobuf imports, or a $ref of JSON Schema. Can be repeated
    #[arg(long = "reference", value_name = "NAME=SUBJECT:VERSION", value_parser = Reference::parse)]
    references: Vec<Reference>,
    #[command(flatten)]
    locked: locked::LockedArgs,
    /// URL of the registry, or several of one deployment, separated by commas
    #[arg(long, env = "OUTBOX_REGISTRY", hide_env_values = true, value_name = "URL")]
    registry: String,
    /// User, or key, at the registry
    #[arg(long, env = "OUTBOX_REGISTRY_USER", hide_env_values = true, value_name = "USER")]
    registry_user: Option<String>,
    /// File with certificates in PEM of the authorities that are trusted instead of Mozilla's
    #[cfg(feature = "tls")]
    #[arg(long, env = "OUTBOX_REGISTRY_CA", hide_env_values = true, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// Longest time for an answer of the registry
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::positive_duration)]
    registry_timeout: Duration,
    /// Only say what would be registered, and what the registry would refuse
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone)]
struct InFile {
    subject: String,
    file: PathBuf,
    format: SchemaFormat,
}

impl InFile {
    fn parse(text: &str) -> Result<Self, String> {
        let pair =
            text.split_once('=').filter(|(subject, file)| !subject.is_empty() && !file.is_empty());
        let (subject, file) =
            pair.ok_or("expected SUBJECT=FILE, such as orders-value=schemas/order_placed.avsc")?;
        let file = PathBuf::from(file);
        let format = match file.extension().and_then(|extension| extension.to_str()) {
            Some("avsc") => SchemaFormat::Avro,
            Some("proto") => SchemaFormat::Protobuf,
            Some("json") => SchemaFormat::Json,
            _ => return Err("expected a file that ends with .avsc, .proto or .json".to_owned()),
        };
        Ok(Self { subject: subject.to_owned(), file, format })
    }
}

/// A schema that is registered, with its text.
struct Read {
    subject: String,
    schema: Schema,
}

#[derive(Debug, Clone)]
struct Reference {
    name: String,
    subject: String,
    version: i32,
}

impl Reference {
    /// A subject may have a colon in it, and a `$ref` an `=`.
    fn parse(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (rest, version) = text.rsplit_once(':')?;
            let (name, subject) = rest.rsplit_once('=')?;
            let version = version.parse().ok().filter(|version| *version > 0)?;
            let is_named = !name.is_empty() && !subject.is_empty();
            is_named.then(|| Self { name: name.to_owned(), subject: subject.to_owned(), version })
        };
        parsed().ok_or_else(|| {
            "expected NAME=SUBJECT:VERSION, such as shop.Item=items-value:3".to_owned()
        })
    }
}

/// Adds the references to the schema that has them.
fn refer(args: &RegisterArgs, schemas: &mut [Read]) -> Result<(), Failure> {
    if args.references.is_empty() {
        return Ok(());
    }
    let [Read { schema, .. }] = schemas else {
        return Err(Failure::usage(
            "which schema has the references of --reference is not said, and nothing was registered: give it one \
             SUBJECT=FILE in a command of its own",
        ));
    };
    for Reference { name, subject, version } in &args.references {
        *schema = schema.clone().reference(name, subject, *version);
    }
    Ok(())
}

pub fn register(args: &RegisterArgs, context: &Context) -> Result<(), Failure> {
    let config = args.config()?.topic_prefix(context.topic_prefix());
    let registry = Registry::connect(args.locked.subjects(config)).map_err(failure)?;
    // All of them first: nothing is registered if one cannot be read.
    let mut schemas = Vec::new();
    for InFile { subject, file, format } in &args.schemas {
        let schema = Schema::new(*format, read(file)?);
        schemas.push(Read { subject: subject.clone(), schema });
    }
    refer(args, &mut schemas)?;
    let notes = args.locked.read(&registry, &mut schemas)?;
    let mut done = Vec::new();
    for (at, schema) in schemas.iter().enumerate() {
        let said = if args.dry_run { check(&registry, schema) } else { send(&registry, schema) };
        let said = said.map_err(|error| {
            let end = if args.dry_run { String::new() } else { end(&done, &schemas[at..]) };
            failure_with(&error, &end)
        })?;
        done.push(&*schema.subject);
        // A title may have any text in it.
        context.output.say(one_line(&said));
    }
    for note in notes {
        context.output.say(note);
    }
    Ok(())
}

fn check(registry: &Registry, schema: &Read) -> Result<String, RegistryError> {
    let Read { subject, schema } = schema;
    Ok(match registry.check_schema(subject, schema)? {
        Checked::Registered(id) => format!("{subject}: registered already, with the id {id}"),
        Checked::New => format!("{subject}: would be the first version"),
        Checked::Compatible => format!("{subject}: would be a new version"),
    })
}

fn send(registry: &Registry, schema: &Read) -> Result<String, RegistryError> {
    let Read { subject, schema } = schema;
    let id = registry.register_schema(subject, schema)?;
    Ok(format!("{subject}: registered, with the id {id}"))
}

/// How far it came, where it failed at the first of `left`.
fn end(done: &[&str], left: &[Read]) -> String {
    let left: Vec<_> = left.iter().map(|schema| &*schema.subject).collect();
    let done = match done {
        [] => "nothing was registered".to_owned(),
        done => format!("{} registered before", was(done)),
    };
    format!(". Of this run, {done}; {} not. The same command can be run again", was(&left))
}

fn was(subjects: &[&str]) -> String {
    let verb = if subjects.len() == 1 { "was" } else { "were" };
    format!("{} {verb}", subjects.join(", "))
}

impl RegisterArgs {
    fn config(&self) -> Result<RegistryConfig, Failure> {
        let config = RegistryConfig::new(&self.registry).timeout(self.registry_timeout);
        #[cfg(feature = "tls")]
        let config = match &self.registry_ca {
            Some(file) => config.certificates(read(file)?),
            None => config,
        };
        let password = secret("OUTBOX_REGISTRY_PASSWORD")?;
        let token = secret("OUTBOX_REGISTRY_TOKEN")?;
        match (&self.registry_user, password, token) {
            (Some(user), Some(password), None) => Ok(config.basic_auth(user, password)),
            (None, None, Some(token)) => Ok(config.bearer_token(token)),
            (None, None, None) => Ok(config),
            _ => Err(Failure::configuration(
                "the registry takes a user and a password, or a token: give --registry-user and \
                 OUTBOX_REGISTRY_PASSWORD, or OUTBOX_REGISTRY_TOKEN alone. Nothing was registered",
            )),
        }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    read_bounded(file).map_err(|error| {
        Failure::configuration(format!(
            "{} cannot be read ({error}). Nothing was registered",
            file.display()
        ))
    })
}

fn failure(error: RegistryError) -> Failure {
    failure_with(&error, "")
}

fn failure_with(error: &RegistryError, end: &str) -> Failure {
    let said = format!("{error}{end}");
    match error.kind() {
        RegistryErrorKind::Incompatible => Failure::contract(said),
        RegistryErrorKind::Unreachable => Failure::unreachable(said),
        RegistryErrorKind::Config | RegistryErrorKind::Denied => Failure::configuration(said),
        _ => Failure::failed(said),
    }
}
