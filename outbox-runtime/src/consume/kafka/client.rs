//! librdkafka's callbacks.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::{Partition, Topic};
use rdkafka::{Statistics, TopicPartitionList};
use tokio::sync::Notify;

use crate::kafka::Brokers;
use crate::observe::{Meter, is_connected, target};

/// A topic and a partition of it.
pub(super) type TopicPartition = (String, i32);

/// Time after which a lasting error is logged again. librdkafka repeats it every second, and does
/// not name the partition.
const LOGGED_AGAIN_AFTER: Duration = Duration::from_secs(300);

pub(super) struct Context {
    brokers: Brokers,
    meter: Meter,
    /// Number of messages of each topic, by its name on the brokers, that are not done.
    lags: Mutex<HashMap<String, u64>>,
    /// When each error was last logged.
    logged: Mutex<HashMap<Option<i32>, Instant>>,
    /// Partitions that went to another member and were not yet seen by the loop. Rebalances happen
    /// while it receives.
    revoked: Mutex<Vec<TopicPartition>>,
    rebalanced: Notify,
    /// Whether the group has said which partitions this member has, which may be none.
    assigned: AtomicBool,
}

impl Context {
    pub(super) fn new(brokers: Brokers, meter: Meter) -> Self {
        let (lags, logged, revoked, rebalanced, assigned) = Default::default();
        Self { brokers, meter, lags, logged, revoked, rebalanced, assigned }
    }

    /// Number of messages of a topic that are not done, of the partitions of this member.
    pub(super) fn lag(&self, topic: &str) -> u64 {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.get(topic).copied().unwrap_or_default()
    }

    pub(super) fn take_revoked(&self) -> Vec<TopicPartition> {
        std::mem::take(&mut *self.revoked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Relaxed)
    }

    /// Waits until partitions were assigned or revoked.
    pub(super) async fn rebalanced(&self) {
        self.rebalanced.notified().await;
    }

    pub(super) fn received(&self) {
        self.brokers.answered();
    }

    pub(super) fn receive_failed(&self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        match code {
            // `error` has logged them, with their reason.
            Some(Code::AllBrokersDown | Code::Authentication | Code::SSL) => return,
            // An event for users who set `enable.partition.eof`, not an error.
            Some(Code::PartitionEOF) => return,
            _ if !self.is_news(code) => return,
            _ => {}
        }
        match code {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                tracing::warn!(target: target::CONSUMER, %error, "a topic does not exist (yet): the consumer waits for it");
            }
            _ => match remedy(code) {
                Some(remedy) => {
                    tracing::error!(target: target::CONSUMER, %error, "could not receive from Kafka: nothing is passed over, and the consumer waits. {remedy}");
                }
                None => {
                    tracing::warn!(target: target::CONSUMER, %error, "could not receive from Kafka: the consumer tries again")
                }
            },
        }
    }

    fn is_news(&self, code: Option<RDKafkaErrorCode>) -> bool {
        let code = code.map(|code| code as i32);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = logged.get(&code).is_none_or(|when| when.elapsed() >= LOGGED_AGAIN_AFTER);
        if is_news {
            logged.insert(code, Instant::now());
        }
        is_news
    }
}

/// What is wrong and what to do, if waiting does not help.
fn remedy(code: Option<RDKafkaErrorCode>) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    Some(match code? {
        Code::NotImplemented => {
            "A batch is compressed in a way that this program's librdkafka was built without. If that is zstd: turn \
             on the feature `zstd` of the crate `outbox` in its Cargo.toml"
        }
        Code::TopicAuthorizationFailed => {
            "This user may not read a topic: `kafka-acls.sh --add --operation Read --operation Describe --topic …`, of the topics for \
             retries too"
        }
        Code::GroupAuthorizationFailed => {
            "This user may not join the group: `kafka-acls.sh --add --operation Read --group …`"
        }
        Code::AutoOffsetReset | Code::NoOffset => {
            "A partition has no committed offset, or one that the log does not have any more, and `auto.offset.reset=error` says not \
             to choose another: set one (`kafka-consumer-groups.sh --reset-offsets`)"
        }
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage => {
            "A batch is damaged: compare the replicas of its partition, or pass over it (`kafka-consumer-groups.sh --reset-offsets`)"
        }
        Code::MessageSizeTooLarge => {
            "A batch is larger than `receive.message.max.bytes`: raise that"
        }
        Code::InconsistentGroupProtocol => {
            "The other members of the group have another `partition.assignment.strategy`: stop them all, or set the same"
        }
        _ => return None,
    })
}

/// Number of messages of a partition that are not done, if it is this member's.
fn lag(partition: &Partition) -> u64 {
    if matches!(&*partition.fetch_state, "none" | "stopping" | "stopped") {
        return 0;
    }
    // Up to the first open transaction: what comes after it is not delivered.
    let known = |offsets: [i64; 2]| offsets.into_iter().find(|offset| *offset >= 0);
    let end = known([partition.ls_offset, partition.hi_offset]).unwrap_or(0);
    // A group without a committed offset begins with the first message.
    let done = known([partition.stored_offset, partition.committed_offset]);
    let done = done.unwrap_or(0).max(partition.lo_offset);
    u64::try_from(end.saturating_sub(done)).unwrap_or(0)
}

impl ClientContext for Context {
    /// As of [`Brokers`].
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn stats(&self, statistics: Statistics) {
        self.meter.consumer_broker_up(is_connected(&statistics));
        let lag = |topic: &Topic| topic.partitions.values().map(lag).sum();
        let lags = statistics.topics.values().map(|topic| (topic.topic.clone(), lag(topic)));
        *self.lags.lock().unwrap_or_else(PoisonError::into_inner) = lags.collect();
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.brokers.logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.brokers.failed(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.brokers.token()
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.resume(partitions)
        {
            // librdkafka remembers that they were paused when they were ours before; we do not.
            tracing::debug!(target: target::CONSUMER, %error, "partitions not resumed");
        }
        if let Rebalance::Revoke(partitions) = rebalance {
            let places = partitions
                .elements()
                .iter()
                .map(|of| (of.topic().to_owned(), of.partition()))
                .collect::<Vec<_>>();
            tracing::debug!(target: target::CONSUMER, partitions = ?places, "partitions revoked");
            self.revoked.lock().unwrap_or_else(PoisonError::into_inner).extend(places);
            self.rebalanced.notify_one();
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.assigned.store(true, Ordering::Relaxed);
            self.rebalanced.notify_one();
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        use RDKafkaErrorCode as Code;
        let Err(error) = result else { return };
        match error.rdkafka_error_code() {
            // There was nothing to commit, or a rebalance: the next commit includes it.
            Some(
                Code::NoOffset
                | Code::RebalanceInProgress
                | Code::IllegalGeneration
                | Code::UnknownMemberId
                | Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::WaitingForCoordinator,
            ) => tracing::debug!(target: target::CONSUMER, %error, "offsets not committed"),
            code if self.is_news(code) => {
                tracing::warn!(target: target::CONSUMER, %error, "offsets could not be committed: events that were handled come again after a restart");
            }
            _ => {}
        }
    }
}
