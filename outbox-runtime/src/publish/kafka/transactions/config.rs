//! The settings of a group's producers.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::error::OutboxError;
use crate::kafka::Properties;
use crate::publish::kafka::config::{self, EVERY_SECOND, STATISTICS};

const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";
const SOCKET_TIMEOUT: &str = "socket.timeout.ms";

/// Ours, where they are others than those of a publisher without transactions.
const DEFAULTS: &[(&str, &str)] = &[
    // Time after which a transaction is aborted that nobody ends. Until then it holds up all
    // consumers of its partitions. It is enough to find out which topic takes nothing (15 s), and
    // for a broker to be replaced.
    (TRANSACTION_TIMEOUT, "30000"),
    // Time after which a request without an answer is repeated. A transaction whose end was asked
    // for twice is not used any more, so nothing is gained by a longer one.
    (SOCKET_TIMEOUT, "5000"),
    // Pause before a refused request is sent again, doubled each time. A broker refuses the first
    // records of a transaction for as long as its check of it is under way
    // (`transaction.partition.verification.enable`): with librdkafka's 100 ms, each transaction to
    // which that happens takes as long.
    ("retry.backoff.ms", "2"),
    // A transaction waits for its events, and then for the record with the progress. In a backlog,
    // batches are full without a pause.
    ("linger.ms", "0"),
];

/// What has no meaning in transactions: events wait until the transaction's end, and all of a
/// transaction fails together.
const NOT_IN_TRANSACTIONS: [&str; 2] = ["message.timeout.ms", "enable.gapless.guarantee"];

/// librdkafka asks for such a difference, so that a request can be repeated in a transaction.
const DIFFERENCE_MS: u64 = 100;

/// Checked settings for the producers of groups.
pub(super) struct TransactionalConfig {
    client: ClientConfig,
    /// Time after which librdkafka repeats a request.
    pub(super) repeats_after: Duration,
}

impl TransactionalConfig {
    /// # Errors
    /// If a property that the user has set would break the promise: the error says which.
    pub(super) fn checked(set_by_user: &Properties) -> Result<Self, OutboxError> {
        let properties = set_by_user.or(DEFAULTS).or(config::DEFAULTS);
        let properties = properties.without(&NOT_IN_TRANSACTIONS);
        let mut client = properties.client(config::refusal)?;
        let millis = |name| {
            let value: Option<u64> = properties.get(name).and_then(|set| set.trim().parse().ok());
            value.ok_or_else(|| {
                OutboxError::config(format!(
                    "the Kafka property `{name}` is no number of milliseconds: nothing was published. Correct it, or leave \
                     it out"
                ))
            })
        };
        let (transaction, socket) = (millis(TRANSACTION_TIMEOUT)?, millis(SOCKET_TIMEOUT)?);
        if socket.saturating_add(DIFFERENCE_MS) > transaction {
            return Err(OutboxError::config(format!(
                "the Kafka property `{SOCKET_TIMEOUT}={socket}` is refused: no request could be repeated within \
                 `{TRANSACTION_TIMEOUT}={transaction}`, which must be at least {DIFFERENCE_MS} ms more. Nothing was published. \
                 Leave both out, or correct one"
            )));
        }
        client
            .set(STATISTICS, EVERY_SECOND)
            // See `told`.
            .set("debug", "eos")
            .set_log_level(RDKafkaLogLevel::Debug);
        Ok(Self { client, repeats_after: Duration::from_millis(socket) })
    }

    /// For the producer of this id.
    pub(super) fn of(&self, transactional_id: &str) -> ClientConfig {
        let mut client = self.client.clone();
        client.set("transactional.id", transactional_id);
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::KafkaConfig;

    fn checked(set: &[(&str, &str)]) -> Result<TransactionalConfig, OutboxError> {
        let kafka = KafkaConfig::new("localhost:9092").properties(set.iter().copied());
        TransactionalConfig::checked(kafka.set_by_user())
    }

    #[test]
    fn librdkafka_takes_our_settings_and_those_that_a_user_may_set() {
        for set in [
            &[][..],
            &[("message.timeout.ms", "0"), ("enable.gapless.guarantee", "true")],
            &[("transaction.timeout.ms", "60000"), ("socket.timeout.ms", "59900")],
            &[("linger.ms", "7"), ("debug", "all"), ("log_level", "0")],
        ] {
            let client = checked(set).unwrap().of("x");
            client.create_native_config().unwrap();
            assert_eq!(client.get("debug"), Some("eos"));
            let linger = set.iter().find(|(name, _)| *name == "linger.ms").map_or("0", |set| set.1);
            assert_eq!(client.get("linger.ms"), Some(linger));
        }
    }

    #[test]
    fn what_would_break_the_promise_is_refused_with_the_reason() {
        for (set, name) in [
            (&[("socket.timeout.ms", "30000")][..], "socket.timeout.ms"),
            (&[("transaction.timeout.ms", "5000")], "transaction.timeout.ms"),
            (&[("socket.timeout.ms", "soon")], "socket.timeout.ms"),
            (&[("transactional.id", "mine")], "transactional.id"),
            (&[("acks", "1")], "acks"),
            (&[("partitioner", "random")], "partitioner"),
        ] {
            let error = checked(set).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}")), "{error}");
        }
    }
}
