//! What becomes of an event whose handling failed. Retry topics and dead letters belong here.

use crate::consume::handler::BoxError;
use crate::error::OutboxError;

/// Why an event was not handled.
pub(super) enum Failure {
    /// Worth another attempt: the handler's error, or a database that is away. The partition waits meanwhile, so its
    /// order is kept.
    Retry(BoxError),
    /// No attempt would succeed: the consumer stops there, and skips nothing.
    Stop(OutboxError),
}
