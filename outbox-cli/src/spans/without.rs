//! Of a command that was built without the feature `otlp`.

use outbox::{OutboxBuilder, OutboxDatabase};

use super::SpanLayer;
use crate::failure::Failure;
use crate::settings::Settings;

/// Nothing is sent.
pub struct Spans;

impl Spans {
    /// # Errors
    /// If spans should be sent.
    pub fn start(settings: &Settings) -> Result<Self, Failure> {
        match settings.collector {
            None => Ok(Self),
            Some(_) => Err(Failure::configuration(
                "`--otlp`: this command was built without the feature `otlp`, and can send no spans. Nothing was started. Build it \
                 by `cargo install outbox-cli --features otlp`, or leave the option out",
            )),
        }
    }

    pub fn layer(&self) -> SpanLayer {
        None
    }

    pub async fn finish(self) {
        std::future::ready(()).await;
    }
}

/// Without spans there is nothing to propagate.
pub fn propagating<DB: OutboxDatabase>(
    builder: OutboxBuilder<DB>,
    _: &Settings,
) -> OutboxBuilder<DB> {
    builder
}
