//! What librdkafka tells of transactions in its log, and in no other way.
//!
//! It repeats a request to end a transaction when the connection breaks or no answer comes in time,
//! and then reports success. The first request may still be on its way, and would end a *later*
//! transaction of the same producer (KAFKA-17754). Neither its errors nor its events tell of that:
//! a connection that breaks with one request under way is logged only, and not even that twice in
//! 30 s. With `debug=eos`, it logs each answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::Notify;

/// Longest time for which a line is late, beside other work of the machine.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Most answers and topics that are kept. One more than one is as good as many.
const MOST: usize = 100;

/// Answers of the coordinator by which it has done nothing and never will: librdkafka asks again.
const NOT_DONE: [&str; 4] = [
    "CONCURRENT_TRANSACTIONS",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
];

/// What was told of the open transaction of a producer.
///
/// Lines arrive some time after what they tell of, in their order.
#[derive(Default)]
pub(in crate::publish::kafka) struct Told {
    inner: Mutex<Inner>,
    /// Notified when a transaction is told to have ended.
    ended: Notify,
}

#[derive(Default)]
struct Inner {
    ends: Vec<End>,
    /// Topics that the coordinator did not let into the transaction.
    refused: BTreeSet<String>,
    failed: bool,
}

/// What became of a request to end the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    /// None was sent: the transaction has nothing in it.
    Needless,
    /// Refused, or not answered.
    Other,
}

impl Told {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction can only be aborted: an event of it was refused.
    pub(in crate::publish::kafka) fn fail(&self) {
        self.inner().failed = true;
    }

    pub(in crate::publish::kafka) fn has_failed(&self) -> bool {
        self.inner().failed
    }

    /// Takes in a line of librdkafka's log. Its facility says what it is about.
    pub(in crate::publish::kafka) fn take_in(&self, facility: &str, line: &str) {
        match facility {
            "ENDTXN" | "TXNABORT" | "TXNCOMMIT" => {
                let Some(end) = End::told(line) else { return };
                let mut inner = self.inner();
                if inner.ends.len() < MOST {
                    inner.ends.push(end);
                }
                drop(inner);
                self.ended.notify_one();
            }
            "ADDPARTS" => {
                let Some(topic) = refused_topic(line) else { return };
                let mut inner = self.inner();
                if inner.refused.len() < MOST {
                    inner.refused.insert(topic.to_owned());
                }
            }
            "TXNERR" => self.fail(),
            _ => {}
        }
    }

    /// Forgets the last transaction.
    pub(super) fn forget(&self) {
        *self.inner() = Inner::default();
    }

    /// What was told of a transaction that has ended: its last answer is that it has. Without one,
    /// for it is waited for no longer than some time.
    pub(super) async fn ends(&self) -> Vec<End> {
        let _ = tokio::time::timeout(TOLD_WITHIN, async {
            while !self.inner().ends.iter().any(|end| *end != End::Other) {
                self.ended.notified().await;
            }
        })
        .await;
        self.inner().ends.clone()
    }

    /// Why a topic's partitions are not part of the transaction. `None`: they were not refused.
    pub(in crate::publish::kafka) fn refusal(&self, topic: &str) -> Option<Code> {
        self.inner().refused.contains(topic).then_some(Code::TopicAuthorizationFailed)
    }
}

impl End {
    /// `None`: the line tells of something else, or librdkafka asks again and no harm is done.
    fn told(line: &str) -> Option<Self> {
        if line.contains("not sending EndTxn") {
            return Some(Self::Needless);
        }
        let (_, answer) = line.split_once("EndTxn returned ")?;
        let answer = answer.split(' ').next().unwrap_or_default();
        match answer {
            "NO_ERROR" => Some(Self::Done),
            _ if NOT_DONE.contains(&answer) => None,
            _ => Some(Self::Other),
        }
    }
}

/// The topic that this user may not write to, if the line names one.
fn refused_topic(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("Failed to add partition \"")?;
    let (topic, rest) = rest.split_once('"')?;
    rest.contains("Topic authorization failed").then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(lines: &[(&str, &str)]) -> Vec<End> {
        let told = Told::default();
        lines.iter().for_each(|(facility, line)| told.take_in(facility, line));
        told.inner().ends.clone()
    }

    // In the words of librdkafka 2.12.1. Those of the version that is built are met wherever a
    // transaction is committed.
    #[test]
    fn a_request_that_was_repeated_is_told_from_one_that_was_answered() {
        let answer = |of: &str| {
            format!(
                "[thrd:main]: EndTxn returned {of} in state CommittingTransaction (may_retry=true)"
            )
        };
        let done = answer("NO_ERROR");
        assert_eq!(ends(&[("ENDTXN", &done)]), [End::Done]);
        assert_eq!(ends(&[("ENDTXN", &answer("NOT_COORDINATOR")), ("ENDTXN", &done)]), [End::Done]);
        for repeated in ["_TRANSPORT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_OUTDATED", "UNKNOWN"] {
            let ends = ends(&[("ENDTXN", &answer(repeated)), ("ENDTXN", &done)]);
            assert_eq!(ends, [End::Other, End::Done], "{repeated}");
        }
        let needless = "[thrd:main]: No partitions registered: not sending EndTxn";
        assert_eq!(ends(&[("TXNABORT", needless)]), [End::Needless]);
        assert_eq!(ends(&[("TXNCOMPLETE", "Transaction successfully committed")]), []);
    }

    #[test]
    fn a_transaction_that_can_only_be_aborted_is_known_until_the_next_one_begins() {
        let told = Told::default();
        told.take_in("TXNCOMMIT", "[thrd:main]: not about an error");
        assert!(!told.has_failed());
        told.take_in("TXNERR", "[thrd:main]: Current transaction failed in state InTransaction");
        assert!(told.has_failed());
        told.forget();
        assert!(!told.has_failed());
    }

    #[test]
    fn a_topic_that_may_not_be_written_to_is_known_by_name() {
        let told = Told::default();
        let line = "[thrd:main]: 127.0.0.1:9092/1: Failed to add partition \"staging-orders\" [3] to transaction: Broker: ";
        told.take_in("ADDPARTS", &format!("{line}Topic authorization failed"));
        told.take_in(
            "ADDPARTS",
            &format!("{}Operation not attempted", line.replace("orders", "bills")),
        );
        assert_eq!(told.refusal("staging-orders"), Some(Code::TopicAuthorizationFailed));
        assert_eq!(told.refusal("staging-bills"), None);
        told.forget();
        assert_eq!(told.refusal("staging-orders"), None);
    }
}
