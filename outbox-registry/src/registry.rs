//! The registry of a process.

use std::fmt;
use std::sync::Arc;

use outbox_event::DomainEvent;

use crate::backend::Backend;
use crate::client::Client;
use crate::config::RegistryConfig;
use crate::error::{RegistryError, RegistryErrorKind};
use crate::format::{Format, RegisteredEvent};
use crate::memory::Memory;
use crate::schema::Schema;
use crate::slot::schema_error;
use crate::subject::SubjectStrategy;

/// A schema registry with Confluent's REST API, which others have as well: Karapace, Redpanda,
/// Apicurio (at `/apis/ccompat/v7`).
///
/// Its calls block. They are for the start of a program, before it serves: there, that is no harm in
/// an async function, and each ends within the time-out.
///
/// ```no_run
/// # #[cfg(feature = "json-schema")] fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use outbox::DomainEvent;
/// # use outbox_registry::JsonSchema;
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "orders", name = "order.placed", codec = JsonSchema)]
/// # struct OrderPlaced { #[event(key)] order: String }
/// # outbox_registry::json_schema!(OrderPlaced, r#"{"title": "OrderPlaced"}"#);
/// # #[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "payments", name = "payment.taken", codec = JsonSchema)]
/// # struct PaymentTaken { #[event(key)] order: String }
/// # outbox_registry::json_schema!(PaymentTaken, r#"{"title": "PaymentTaken"}"#);
/// use outbox_registry::{Registry, RegistryConfig, SubjectStrategy};
///
/// let password = std::env::var("REGISTRY_PASSWORD")?;
/// let config = RegistryConfig::new("http://registry-1:8081,http://registry-2:8081")
///     .basic_auth("orders", password)
///     .subjects(SubjectStrategy::TopicRecordName);
/// Registry::connect(config)?
///     .emits::<OrderPlaced>()?
///     .reads::<PaymentTaken>()?;
/// # Ok(()) }
/// # #[cfg(not(feature = "json-schema"))] fn main() {}
/// ```
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

/// What a registry makes of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It has this id already.
    Registered(i32),
    /// The subject has no version yet.
    New,
    /// It can be the newest version.
    Compatible,
}

pub(crate) struct Shared {
    pub(crate) backend: Backend,
    pub(crate) strategy: SubjectStrategy,
    pub(crate) topic_prefix: String,
}

impl Shared {
    /// The one place where an event's schema gets its name. `record` is asked only if the name has it
    /// in it.
    pub(crate) fn subject(
        &self,
        topic: &str,
        record: impl FnOnce() -> Result<String, String>,
    ) -> Result<String, RegistryError> {
        self.strategy.subject(&self.topic_prefix, topic, record).map_err(schema_error)
    }
}

impl Registry {
    /// The registry that the configuration describes. It is asked for the first time by
    /// [`emits`](Self::emits) or [`reads`](Self::reads).
    ///
    /// # Errors
    /// If a setting is not what it should be.
    pub fn connect(config: RegistryConfig) -> Result<Self, RegistryError> {
        let backend = Backend::Http(Client::new(&config)?);
        let RegistryConfig { strategy, topic_prefix, .. } = config;
        Ok(Self(Arc::new(Shared { backend, strategy, topic_prefix })))
    }

    /// For tests: a registry in the process, which takes each schema that it is asked for. Its ids
    /// are the same for the same schema, in each test, and mean nothing elsewhere. It compares no
    /// versions with each other.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Arc::new(Shared {
            backend: Backend::Memory(Memory::default()),
            strategy: SubjectStrategy::default(),
            topic_prefix: String::new(),
        }))
    }

    /// Looks up the id of the schema of an event that this process emits. Until then, the event
    /// cannot be emitted.
    ///
    /// # Errors
    /// If the registry does not have exactly this schema under the event's subject, or does not
    /// answer.
    pub fn emits<E>(&self) -> Result<&Self, RegistryError>
    where
        E: DomainEvent<Codec: Format> + RegisteredEvent<<E as DomainEvent>::Codec>,
    {
        E::slot().emits(&self.0)?;
        Ok(self)
    }

    /// Registers the schema of an event under its subject, if it is not there. Returns its id.
    ///
    /// It is for the pipeline that deploys a service, before the service starts: a program of a few
    /// lines in the crate of the events. A service that registers what it writes finds out that the
    /// registry refuses it when it runs.
    ///
    /// # Errors
    /// If the registry refuses it, as one that readers of the older versions could not read, or does
    /// not answer.
    pub fn register<E>(&self) -> Result<i32, RegistryError>
    where
        E: DomainEvent<Codec: Format> + RegisteredEvent<<E as DomainEvent>::Codec>,
    {
        E::slot().register(&self.0)
    }

    /// Registers a schema by its text, as [`register`](Self::register) does with that of a type.
    /// Returns its id.
    ///
    /// # Errors
    /// As of [`register`](Self::register).
    pub fn register_schema(&self, subject: &str, schema: &Schema) -> Result<i32, RegistryError> {
        self.0.backend.register(subject, schema)
    }

    /// Says what [`register_schema`](Self::register_schema) would do, and registers nothing.
    ///
    /// # Errors
    /// If the registry would refuse it, or does not answer.
    pub fn check_schema(&self, subject: &str, schema: &Schema) -> Result<Checked, RegistryError> {
        match self.0.backend.lookup(subject, schema) {
            Ok(found) => Ok(Checked::Registered(found.id)),
            Err(error) if error.kind() == RegistryErrorKind::NotRegistered => {
                self.0.backend.check(subject, schema)
            }
            Err(error) => Err(error),
        }
    }

    /// The subject under which [`emits`](Self::emits) and [`reads`](Self::reads) look for an event with
    /// the codec [`JsonSchema`](crate::JsonSchema), by its topic and its schema.
    ///
    /// # Errors
    /// If the strategy has the name of the record in it, and the schema has no `title`.
    #[cfg(feature = "json-schema")]
    pub fn subject_of_json_schema(&self, topic: &str, text: &str) -> Result<String, RegistryError> {
        self.0.subject(topic, || crate::json_schema::title(text))
    }

    /// Fetches the newest schemas of an event that this process handles. Until then, the event
    /// cannot be read. Its own schema need not be among them: one that leaves out fields, for
    /// instance, is the consumer's business.
    ///
    /// A schema that is registered later is fetched by the codec when it meets the first payload of
    /// it. That blocks the consumer's thread, for at most the time-out. If it cannot be fetched, the
    /// event is tried again as one whose handler failed.
    ///
    /// # Errors
    /// If the registry has no schema under the event's subject, or does not answer.
    pub fn reads<E>(&self) -> Result<&Self, RegistryError>
    where
        E: DomainEvent<Codec: Format> + RegisteredEvent<<E as DomainEvent>::Codec>,
    {
        E::slot().reads(&self.0)?;
        Ok(self)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("strategy", &self.0.strategy)
            .field("topic_prefix", &self.0.topic_prefix)
            .finish_non_exhaustive()
    }
}
