//! What a process knows of the schema of one event.

use std::fmt;
use std::sync::{Arc, OnceLock};

use outbox_event::{CodecError, EventDescriptor};

use crate::backend::{Backend, Registered};
use crate::error::{RegistryError, RegistryErrorKind};
use crate::format::Format;
use crate::frame::SchemaId;
use crate::readers::Readers;
use crate::registry::Shared;
use crate::schema::Schema;

/// Newest versions of a subject that are fetched at start. Any other is fetched when it is met.
const VERSIONS_AT_START: usize = 10;

/// The schema of one event, its id, and what reads the payloads of others.
pub struct Slot<F: Format> {
    event: &'static EventDescriptor,
    /// Name of the message in the file, for formats whose schemas have several.
    message: &'static str,
    text: fn() -> Result<String, String>,
    writer: OnceLock<(i32, F::Writer)>,
    readers: Readers<F>,
}

impl<F: Format> Slot<F> {
    /// The place of the one event with these descriptors.
    ///
    /// # Panics
    /// If they are several. It is called in a constant: there it is an error of the compiler.
    #[must_use]
    #[allow(clippy::panic)] // evaluated by the compiler: the panic is the compile error
    pub const fn new(
        descriptors: &'static [EventDescriptor],
        message: &'static str,
        text: fn() -> Result<String, String>,
    ) -> Self {
        let [event] = descriptors else {
            panic!(
                "each event has a schema of its own, and this enum is several events: make a struct of each variant, \
                 say its schema, and join them by `#[event(transparent)]`"
            );
        };
        Self { event, message, text, writer: OnceLock::new(), readers: Readers::new() }
    }

    /// The id and the writer, once the id is resolved.
    pub(crate) fn writer(&self) -> Result<(i32, &F::Writer), CodecError> {
        let (id, writer) = self.writer.get().ok_or_else(|| {
            CodecError::new(format!(
                "the schema id of {} is not resolved, and nothing of the event is written: call \
                 `registry.emits::<…>()` with its type at start, before the first event",
                self.name()
            ))
        })?;
        Ok((*id, writer))
    }

    /// What reads the payloads of this schema id. It asks the registry if the id is new.
    pub(crate) fn reader(&self, id: SchemaId) -> Result<Arc<F::Reader>, CodecError> {
        match self.readers.known(id) {
            Some(known) => known,
            None => self.readers.fetch(id, &self.name(), |found| self.reader_of(found)),
        }
        .map_err(|error| error.into_codec_error())
    }

    pub(crate) fn emits(&self, registry: &Shared) -> Result<(), RegistryError> {
        let about =
            |error: RegistryError| error.about(format_args!("{} cannot be emitted", self.name()));
        let own = self.own().map_err(about)?;
        let subject = self.subject(registry, &own).map_err(about)?;
        let schema = Schema::new(F::TYPE, &*own);
        let found = registry.backend.lookup(&subject, &schema).map_err(|error| {
            about(match error.kind() {
                RegistryErrorKind::NotRegistered => not_registered::<F>(&subject, &error),
                _ => error.about(format_args!("subject {subject}")),
            })
        })?;
        let found = whole::<F>(&registry.backend, found)
            .map_err(|error| about(error.about(format_args!("subject {subject}"))))?;
        if self.writer.get().is_none() {
            let writer = self.usable(&found).and_then(|text| F::writer(&own, self.message, text));
            let writer = writer.map_err(|why| {
                about(schema_error(format_args!("subject {subject}, schema {}: {why}", found.id)))
            })?;
            // Another thread may have been faster: the ids are compared below.
            let _ = self.writer.set((found.id, writer));
        }
        let Some((id, _)) = self.writer.get().filter(|(id, _)| *id != found.id) else {
            return Ok(());
        };
        Err(about(RegistryError::new(
            RegistryErrorKind::Config,
            format!(
                "its schema has the id {} at this registry, and this process already writes {id}, which another \
                 registry gave. A process has one registry for an event",
                found.id
            ),
        )))
    }

    pub(crate) fn register(&self, registry: &Shared) -> Result<i32, RegistryError> {
        let about =
            |error: RegistryError| error.about(format_args!("{} is not registered", self.name()));
        let own = self.own().map_err(about)?;
        let subject = self.subject(registry, &own).map_err(about)?;
        registry.backend.register(&subject, &Schema::new(F::TYPE, own)).map_err(about)
    }

    pub(crate) fn reads(&self, registry: &Arc<Shared>) -> Result<(), RegistryError> {
        let about =
            |error: RegistryError| error.about(format_args!("{} cannot be read", self.name()));
        let own = self.own().map_err(about)?;
        let subject = self.subject(registry, &own).map_err(about)?;
        let of_subject = |error: RegistryError| {
            about(match error.kind() {
                RegistryErrorKind::NotRegistered => no_versions(&subject, &error),
                _ => error.about(format_args!("subject {subject}")),
            })
        };
        if let Backend::Memory(memory) = &registry.backend {
            memory.lookup(&subject, &Schema::new(F::TYPE, own));
        }
        let versions = registry.backend.versions(&subject).map_err(of_subject)?;
        for version in versions.iter().rev().take(VERSIONS_AT_START) {
            let found = registry.backend.version(&subject, *version).map_err(of_subject)?;
            let id = SchemaId::Number(found.id);
            if self.readers.known(id).is_none() {
                // One that cannot be read is an error when a payload has it: it may be an old one.
                let reader = match whole::<F>(&registry.backend, found) {
                    Ok(found) => self.reader_of(&found),
                    Err(error) if error.kind() == RegistryErrorKind::Schema => {
                        Err(error.to_string())
                    }
                    Err(error) => return Err(of_subject(error)),
                };
                let _ = self.readers.add(id, reader);
            }
        }
        self.readers.ask(registry);
        Ok(())
    }

    fn reader_of(&self, written: &Registered) -> Result<F::Reader, String> {
        let own = (self.text)()?;
        F::reader(&own, self.message, self.usable(written)?)
    }

    fn usable<'r>(&self, registered: &'r Registered) -> Result<&'r str, String> {
        let expected = F::TYPE.as_str();
        if let Some(format) = registered.format.as_deref().filter(|format| *format != expected) {
            return Err(format!("it is {format} and not {expected}"));
        }
        Ok(&registered.text)
    }

    fn own(&self) -> Result<String, RegistryError> {
        let text = (self.text)().map_err(schema_error)?;
        F::check(&text).map_err(schema_error)?;
        Ok(text)
    }

    fn subject(&self, registry: &Shared, own: &str) -> Result<String, RegistryError> {
        registry.subject(self.event.topic, || F::record(own, self.message))
    }

    fn name(&self) -> String {
        format!("event `{}` version {}", self.event.name, self.event.version)
    }
}

/// A schema of the registry, with those that it refers to if it cannot be used without them.
pub(crate) fn whole<F: Format>(
    backend: &Backend,
    mut found: Registered,
) -> Result<Registered, RegistryError> {
    let is_of_format = found.format.as_deref().is_none_or(|format| format == F::TYPE.as_str());
    if let (Some(join), [_, ..], true) = (F::JOIN, &*found.references, is_of_format) {
        let others = backend.referred(&found)?;
        found.text = join(&found.text, &others)
            .map_err(|why| RegistryError::new(RegistryErrorKind::Schema, why))?;
    }
    Ok(found)
}

pub(crate) fn schema_error(why: impl fmt::Display) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Schema, format!("its schema: {why}"))
}

fn not_registered<F: Format>(subject: &str, error: &RegistryError) -> RegistryError {
    RegistryError::new(
        RegistryErrorKind::NotRegistered,
        format!(
            "the registry does not have its {} schema under the subject {subject} ({error}). Register exactly this \
             schema before the deployment; with several events on the topic, all of them use \
             `SubjectStrategy::TopicRecordName`",
            F::TYPE.as_str()
        ),
    )
}

fn no_versions(subject: &str, error: &RegistryError) -> RegistryError {
    RegistryError::new(
        RegistryErrorKind::NotRegistered,
        format!(
            "the registry has no schema under the subject {subject} ({error}). Register the event's schema before the \
             deployment of its consumers, and use the `SubjectStrategy` of those who write it"
        ),
    )
}
