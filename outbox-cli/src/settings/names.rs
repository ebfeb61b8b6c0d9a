//! The variables of the settings that all commands have.

/// All of them. In the file, they are the keys outside of tables.
pub const GLOBAL: [&str; 9] = [
    DATABASE_URL,
    SCHEMA,
    TABLE_PREFIX,
    BROKERS,
    TOPIC_PREFIX,
    OUTPUT,
    COLOR,
    STATEMENT_TIMEOUT,
    LOG_FORMAT,
];

pub(super) const DATABASE_URL: &str = "OUTBOX_DATABASE_URL";
pub(super) const SCHEMA: &str = "OUTBOX_SCHEMA";
pub(super) const TABLE_PREFIX: &str = "OUTBOX_TABLE_PREFIX";
pub(super) const BROKERS: &str = "OUTBOX_BROKERS";
pub(super) const TOPIC_PREFIX: &str = "OUTBOX_TOPIC_PREFIX";
pub(super) const OUTPUT: &str = "OUTBOX_OUTPUT";
pub(super) const COLOR: &str = "OUTBOX_COLOR";
pub(super) const STATEMENT_TIMEOUT: &str = "OUTBOX_STATEMENT_TIMEOUT";
pub(super) const LOG_FORMAT: &str = "OUTBOX_LOG_FORMAT";
