//! The words of the two grammars, each written once.

/// The attribute which `#[derive(DomainEvent)]` reads.
pub(crate) const EVENT: &str = "event";

pub(crate) const TOPIC: &str = "topic";
pub(crate) const NAME: &str = "name";
pub(crate) const VERSION: &str = "version";
pub(crate) const CODEC: &str = "codec";
pub(crate) const KEYLESS: &str = "keyless";
pub(crate) const DUPLICATE: &str = "duplicate";
pub(crate) const CRATE: &str = "crate";

pub(crate) const KEY: &str = "key";
pub(crate) const HEADER: &str = "header";
pub(crate) const ID: &str = "id";
pub(crate) const OCCURRED_AT: &str = "occurred_at";

pub(crate) const ISOLATION: &str = "isolation";
pub(crate) const RETRY: &str = "retry";

pub(crate) const TRANSACTIONAL_OUTBOX: &str = "transactional_outbox";
