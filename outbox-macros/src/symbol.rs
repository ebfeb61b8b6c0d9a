//! The words of all grammars, each written once.

/// The attribute which `#[derive(DomainEvent)]` reads.
pub(crate) const EVENT: &str = "event";

pub(crate) const TOPIC: &str = "topic";
pub(crate) const NAME: &str = "name";
pub(crate) const VERSION: &str = "version";
pub(crate) const CODEC: &str = "codec";
pub(crate) const KEYLESS: &str = "keyless";
pub(crate) const DUPLICATE: &str = "duplicate";
pub(crate) const UPCAST_FROM: &str = "upcast_from";
pub(crate) const READ_ONLY: &str = "read_only";
pub(crate) const UNLOCKED: &str = "unlocked";
pub(crate) const EMITTED_BY: &str = "emitted_by";
pub(crate) const CRATE: &str = "crate";
pub(crate) const RENAME: &str = "rename";
pub(crate) const RENAME_ALL: &str = "rename_all";
/// Of serde's, beside those that we have as well.
pub(crate) const RENAME_ALL_FIELDS: &str = "rename_all_fields";

pub(crate) const KEY: &str = "key";
pub(crate) const HEADER: &str = "header";
pub(crate) const ID: &str = "id";
pub(crate) const OCCURRED_AT: &str = "occurred_at";

pub(crate) const ISOLATION: &str = "isolation";
pub(crate) const RETRY: &str = "retry";

pub(crate) const TRANSACTIONAL_OUTBOX: &str = "transactional_outbox";
pub(crate) const EVENT_HANDLER: &str = "event_handler";

pub(crate) const GROUP: &str = "group";
pub(crate) const ATTEMPTS: &str = "attempts";
pub(crate) const PAUSE: &str = "pause";
pub(crate) const LONGEST_PAUSE: &str = "longest_pause";
pub(crate) const RETRY_TOPICS: &str = "retry_topics";
pub(crate) const LATER_EVENTS: &str = "later_events";
pub(crate) const TIMEOUT: &str = "timeout";
pub(crate) const FOREIGN: &str = "foreign";
pub(crate) const ONLY: &str = "only";
pub(crate) const SHARED_TRANSACTION: &str = "shared_transaction";

/// The attribute which `#[derive(Classify)]` reads.
pub(crate) const CLASSIFY: &str = "classify";
pub(crate) const PERMANENT: &str = "permanent";
pub(crate) const TRANSIENT: &str = "transient";

/// Of events and of errors: what the only field of a variant says.
pub(crate) const TRANSPARENT: &str = "transparent";
