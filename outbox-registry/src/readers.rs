//! What reads the payloads of each schema id, and fetches the schemas that were registered later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use outbox_event::CodecError;

use crate::backend::Registered;
use crate::error::RegistryErrorKind;
use crate::format::Format;
use crate::frame::SchemaId;
use crate::registry::Shared;
use crate::slot::whole;

/// Schemas of one event that are kept. They are kept as long as the process.
const MOST_SCHEMAS: usize = 1_000;
/// Ids that the registry does not have which are remembered.
const MOST_UNKNOWN: usize = 1_000;
/// How long an id that the registry does not have is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// How long a registry that does not answer is not asked again: each call blocks a thread.
const AWAY_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Readers<F: Format> {
    known: RwLock<BTreeMap<SchemaId, Known<F>>>,
    /// Who is asked for schemas that are not known.
    registry: RwLock<Option<Arc<Shared>>>,
    /// Held while the registry is asked: one thread asks for an event's schemas at a time.
    failed: Mutex<Failed>,
}

/// What reads the payloads of a schema, or why none can.
type Known<F> = Result<Arc<<F as Format>::Reader>, Arc<str>>;

/// Questions that failed a moment ago.
struct Failed {
    away: Option<(Instant, String)>,
    unknown: BTreeMap<SchemaId, Instant>,
}

/// Why a payload cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Its schema is there, and is no use.
    Schema(SchemaId, Arc<str>),
    /// Its schema could not be had, which may change.
    NotNow(String),
    /// `reads` was not called.
    NotResolved(String),
}

impl Unreadable {
    pub(crate) fn into_codec_error(self) -> CodecError {
        match self {
            Self::Schema(id, why) => CodecError::new(format!(
                "the payload has the schema {id}, by which it cannot be read: {why}"
            )),
            Self::NotNow(why) => CodecError::transient(why),
            Self::NotResolved(event) => CodecError::new(format!(
                "no registry is known for {event}, so its payloads cannot be read: call `registry.reads::<…>()` with \
                 its type at start, before the consumer runs"
            )),
        }
    }
}

impl<F: Format> Readers<F> {
    pub(crate) const fn new() -> Self {
        Self {
            known: RwLock::new(BTreeMap::new()),
            registry: RwLock::new(None),
            failed: Mutex::new(Failed { away: None, unknown: BTreeMap::new() }),
        }
    }

    pub(crate) fn ask(&self, registry: &Arc<Shared>) {
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Some(registry.clone());
    }

    pub(crate) fn add(&self, id: SchemaId, reader: Result<F::Reader, String>) -> Known<F> {
        let reader = reader.map(Arc::new).map_err(Arc::from);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_SCHEMAS {
            known.insert(id, reader.clone());
        }
        reader
    }

    pub(crate) fn known(&self, id: SchemaId) -> Option<Result<Arc<F::Reader>, Unreadable>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&id)?.clone();
        Some(known.map_err(|why| Unreadable::Schema(id, why)))
    }

    /// Asks the registry for a schema that was registered after the start. It blocks for at most the
    /// registry's time-out, as long again if the schema refers to others, and for as long again for each
    /// thread that came before and asks for another one.
    pub(crate) fn fetch(
        &self,
        id: SchemaId,
        event: &str,
        reader_of: impl FnOnce(&Registered) -> Result<F::Reader, String>,
    ) -> Result<Arc<F::Reader>, Unreadable> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner).clone();
        let registry = registry.ok_or_else(|| Unreadable::NotResolved(event.to_owned()))?;
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have asked for it meanwhile.
        if let Some(known) = self.known(id) {
            return known;
        }
        failed.again(id, Instant::now())?;
        let found =
            registry.backend.by_id(id).and_then(|found| whole::<F>(&registry.backend, found));
        let reader = match found {
            Ok(found) => Ok(reader_of(&found)),
            // Another question would have the same answer.
            Err(error) if error.kind() == RegistryErrorKind::Schema => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        };
        match reader {
            Ok(reader) => self.add(id, reader).map_err(|why| Unreadable::Schema(id, why)),
            Err(error) => {
                let now = Instant::now();
                if error.kind() == RegistryErrorKind::NotRegistered {
                    failed.is_unknown(id, now);
                    return Err(unknown(id));
                }
                let why = format!("the schema {id} of the payload cannot be fetched now: {error}");
                failed.away = Some((now, why.clone()));
                Err(Unreadable::NotNow(why))
            }
        }
    }
}

impl Failed {
    /// Whether to ask again, so soon after it failed.
    fn again(&mut self, id: SchemaId, now: Instant) -> Result<(), Unreadable> {
        if let Some((at, why)) = &self.away {
            if now.saturating_duration_since(*at) < AWAY_FOR {
                return Err(Unreadable::NotNow(why.clone()));
            }
            self.away = None;
        }
        match self.unknown.get(&id) {
            Some(at) if now.saturating_duration_since(*at) < UNKNOWN_FOR => Err(unknown(id)),
            _ => Ok(()),
        }
    }

    fn is_unknown(&mut self, id: SchemaId, now: Instant) {
        self.unknown.retain(|_, at| now.saturating_duration_since(*at) < UNKNOWN_FOR);
        if self.unknown.len() < MOST_UNKNOWN {
            self.unknown.insert(id, now);
        }
    }
}

fn unknown(id: SchemaId) -> Unreadable {
    let or = match id {
        SchemaId::Number(_) => "",
        SchemaId::Guid(_) => {
            ", or knows no GUIDs: have the writer put the number of the schema before its payloads instead of a GUID into \
             the header `__value_schema_id`"
        }
    };
    Unreadable::NotNow(format!(
        "the registry has no schema {id}, which the payload names: its writer uses another registry, or this one is \
         behind{or}. It is asked again in some seconds"
    ))
}
