//! How long an operator waits for an answer.

use std::time::Duration;

use crate::error::OutboxError;
use crate::store::error::StoreError;

/// Time within which the state of an outbox is told. A pool may have its callers wait for longer,
/// 30 s by default.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The answer, or an error if it does not come in time. `asked`: what was asked for.
pub(super) async fn in_time<T>(
    asked: &str,
    within: Duration,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, OutboxError> {
    match tokio::time::timeout(within, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(OutboxError::no_answer(asked, within)),
    }
}
