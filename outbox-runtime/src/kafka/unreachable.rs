//! Whether an error of Kafka means that no broker answers.

use std::error::Error;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Whether it is one of librdkafka's that says so: the same may succeed later.
pub(crate) fn is_no_answer(error: &(dyn Error + 'static)) -> bool {
    let code = error.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
    matches!(
        code,
        Some(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::MessageTimedOut
                | Code::NetworkException
                | Code::OperationTimedOut
                | Code::Resolve
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_answer() {
        let is = |code| is_no_answer(&KafkaError::MetadataFetch(code));
        assert!(is(Code::BrokerTransportFailure) && is(Code::OperationTimedOut));
        assert!(!is(Code::TopicAuthorizationFailed) && !is(Code::UnknownTopicOrPartition));
        assert!(!is_no_answer(&std::fmt::Error));
    }
}
