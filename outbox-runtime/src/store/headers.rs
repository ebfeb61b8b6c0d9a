//! The headers of an event, as its row has them: a JSON object of strings.

use std::collections::BTreeMap;

use outbox_event::Headers;

use crate::error::{ErrorKind, OutboxError};

pub(super) fn to_json(headers: &Headers) -> String {
    // A map of strings always serializes.
    serde_json::to_string(headers).unwrap_or_default()
}

/// Reads what [`to_json`] wrote.
pub(super) fn from_json(json: &str) -> Result<Headers, OutboxError> {
    let headers: BTreeMap<String, String> = serde_json::from_str(json).map_err(|error| {
        OutboxError::new(
            ErrorKind::Database,
            "the `headers` of an event in the outbox are not a JSON object of strings: they were not written by an outbox",
        )
        .with_source(error)
    })?;
    Ok(headers.into_iter().collect())
}
