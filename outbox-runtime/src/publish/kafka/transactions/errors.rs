//! The words of what goes wrong with transactions.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::producer::Unclear;
use crate::error::{ErrorKind, OutboxError};

/// What it means for the events.
pub(super) const NOTHING_IS_LOST: &str =
    "Nothing is lost: the events stay in the outbox, and the relay takes the group over again";

/// A call out of turn, which is a mistake of the relay's.
pub(super) fn misused(what: &'static str) -> OutboxError {
    OutboxError::new(
        ErrorKind::Kafka,
        format!(
            "the relay asked to {what} while that was not possible: the session is over, an event was not delivered, or \
             another call is under way. {NOTHING_IS_LOST}"
        ),
    )
}

/// A transaction could not be begun.
pub(super) fn not_begun(id: &str, error: KafkaError) -> OutboxError {
    let why = why(id, code_of(&error)).unwrap_or_default();
    OutboxError::new(
        ErrorKind::Kafka,
        format!("no transaction of the producer `{id}` could be begun{why}. {NOTHING_IS_LOST}"),
    )
    .with_source(error)
}

/// Whether a transaction was ended is not known.
pub(super) fn unclear(done: &str, id: &str, error: Unclear) -> OutboxError {
    match error {
        Unclear::Failed(error) => {
            let why = why(id, code_of(&error)).unwrap_or_default();
            OutboxError::new(
                ErrorKind::Kafka,
                format!(
                    "whether a transaction of the producer `{id}` was {done} is not known{why}. {NOTHING_IS_LOST}, which tells"
                ),
            )
            .with_source(error)
        }
        Unclear::Repeated => OutboxError::new(
            ErrorKind::Kafka,
            format!(
                "a transaction of the producer `{id}` was {done}, but the connection broke or the answer was late meanwhile: the \
                 request may arrive again, and must not meet another transaction. {NOTHING_IS_LOST}"
            ),
        ),
        Unclear::Untold => OutboxError::new(
            ErrorKind::Kafka,
            format!(
                "a transaction of the producer `{id}` was {done}, but this build of librdkafka did not say how, in its log for \
                 `debug=eos`. {NOTHING_IS_LOST}, at each transaction: use the version of the crate rdkafka-sys that this \
                 version of outbox was tested with (4.10)"
            ),
        ),
    }
}

/// A producer could not fence the one before it.
pub(super) fn not_opened(id: &str, error: KafkaError) -> OutboxError {
    let why = why(id, code_of(&error)).unwrap_or_else(|| {
        ". Do the brokers answer, and has the coordinator of transactions a leader (`kafka-topics.sh --describe --topic \
         __transaction_state`)?"
            .to_owned()
    });
    OutboxError::new(
        ErrorKind::Kafka,
        format!(
            "the producer `{id}` could not be made ready for transactions{why}. Nothing is lost: the events stay in the outbox, and \
             the relay tries again"
        ),
    )
    .with_source(error)
}

pub(super) fn code_of(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        KafkaError::Transaction(error) => Some(error.code()),
        error => error.rdkafka_error_code(),
    }
}

/// The cause, and what to do about it, to be appended.
fn why(id: &str, code: Option<Code>) -> Option<String> {
    Some(match code? {
        Code::TransactionalIdAuthorizationFailed => format!(
            ": this user may not use this id. Grant it (`kafka-acls.sh --add --operation Write --operation Describe --transactional-id \
             '{}' --resource-pattern-type prefixed --allow-principal User:NAME`), and the relay continues without help",
            prefix(id)
        ),
        Code::ClusterAuthorizationFailed => {
            ": this user may not use an idempotent producer (it needs WRITE on a topic, and before Kafka 3.0 \
             IDEMPOTENT_WRITE on the cluster)"
                .to_owned()
        }
        Code::InvalidTransactionTimeout => {
            ": the brokers allow no such `transaction.timeout.ms` (`transaction.max.timeout.ms`). Lower the one, or raise the \
             other"
                .to_owned()
        }
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
            ": another process has taken over, or the transaction took longer than `transaction.timeout.ms`".to_owned()
        }
        _ => return None,
    })
}

/// What the ids of all groups of the outbox begin with.
fn prefix(id: &str) -> String {
    let outbox = id.rsplitn(3, '-').nth(2).unwrap_or(id);
    format!("{outbox}-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_that_is_missing_is_named_for_all_groups_at_once() {
        let error = KafkaError::Global(Code::TransactionalIdAuthorizationFailed);
        let said = not_opened("staging-outbox-shop-1-0", error).to_string();
        assert!(said.contains("--transactional-id 'staging-outbox-shop-' --resource"), "{said}");
    }
}
