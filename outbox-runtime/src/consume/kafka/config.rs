//! The settings of the consumer: our defaults, and what is refused because a guarantee depends on
//! it.

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::error::OutboxError;
use crate::kafka::reading::QUEUE_BACKOFF;
use crate::kafka::{Client, KafkaConfig, Properties, connection};

const METADATA_INTERVAL: &str = "topic.metadata.refresh.interval.ms";

const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "outbox"),
    // A new group begins with the first event.
    ("auto.offset.reset", "earliest"),
    ("isolation.level", "read_committed"),
    // A topic or a partition that is created later is found soon: librdkafka's own 5 minutes are
    // long to wait for a first event.
    (METADATA_INTERVAL, "10000"),
    // Of each topic, every member has its part. The sticky one shares out the sum of all
    // partitions: a member that comes later gets those of the retry topics, which are idle.
    ("partition.assignment.strategy", "range"),
    // The partitions of a process that was killed are idle for as long. librdkafka's own is 45 s.
    ("session.timeout.ms", "10000"),
    // A topic whose name is mistyped would be created, with the broker's default of partitions.
    ("allow.auto.create.topics", "false"),
    // Offsets are stored by us, after the commit, and committed to Kafka in the background.
    ("enable.auto.offset.store", "false"),
    ("enable.auto.commit", "true"),
    // What is fetched ahead of a partition is thrown away when it is paused.
    ("queued.min.messages", "1000"),
    ("queued.max.messages.kbytes", "16384"),
    QUEUE_BACKOFF,
    // Of each broker, one such answer may come on top.
    ("fetch.max.bytes", "16777216"),
    // For the metrics of lag.
    #[cfg(feature = "metrics")]
    ("statistics.interval.ms", "5000"),
];

/// Said by the brokers where they assign the partitions (`group.protocol=consumer`).
const OF_THE_CLASSIC_PROTOCOL: [&str; 2] = ["partition.assignment.strategy", "session.timeout.ms"];

/// How the producer of retry topics and dead letters is, besides what it has in common with the
/// consumer.
const PRODUCER: &[(&str, &str)] = &[
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    // Time after which a failure is reported to us, and tried again.
    ("message.timeout.ms", "30000"),
    ("linger.ms", "0"),
    // A message that is too large is refused alone, and not those that would be in its batch.
    ("batch.num.messages", "1"),
    // What came compressed fits compressed.
    ("compression.type", "lz4"),
    // It is the topic that says what is too large.
    ("message.max.bytes", "1000000000"),
    (METADATA_INTERVAL, "10000"),
];

/// What the user has set, and our defaults.
pub(super) fn with_defaults(kafka: &KafkaConfig) -> Properties {
    let set = kafka.set_by_user();
    let by_brokers =
        set.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"));
    let is_ours =
        |(name, _): &&(&str, &str)| !by_brokers || !OF_THE_CLASSIC_PROTOCOL.contains(name);
    set.or(DEFAULTS.iter().filter(is_ours))
}

pub(super) fn checked(properties: &Properties, group: &str) -> Result<ClientConfig, OutboxError> {
    let mut client = properties.client(|name, value| refusal(name, value.trim(), group))?;
    client.set("group.id", group);
    Ok(client)
}

/// Has librdkafka check the settings. It finds some mistakes, such as a certificate that cannot be
/// read, only when a client starts: this one is closed at once.
pub(super) fn try_out(client: &ClientConfig, properties: &Properties) -> Result<(), OutboxError> {
    let tried: BaseConsumer<Silent> =
        client.create_with_context(Silent).map_err(|error| properties.no_client(error))?;
    drop(Client::new(tried));
    Ok(())
}

/// A client with this does not live long enough for its log to mean anything.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

/// Why a guarantee would not hold.
fn refusal(name: &str, value: &str, group: &str) -> Option<&'static str> {
    let is = |this: &str| value.eq_ignore_ascii_case(this);
    let is_true = is("true") || is("t") || is("1");
    let is_false = is("false") || is("f") || is("0");
    match name {
        "enable.auto.offset.store" if !is_false => {
            Some("an offset stored before the handler's commit skips the event after a crash")
        }
        "enable.auto.commit" | "auto.commit.enable" if !is_true => Some(
            "the stored offsets would never reach Kafka, and every restart would begin at the beginning",
        ),
        "auto.commit.interval.ms" if value.parse() == Ok(0) => Some(
            "the stored offsets would reach Kafka at a shutdown only: all since the start would come again after a crash",
        ),
        "group.id" if value != group => Some("the inbox remembers by the consumer's own group"),
        "auto.offset.reset" if ["latest", "largest", "end"].into_iter().any(is) => Some(
            "an event that came before the first commit of its partition's offset, or in place of one that the log has lost, would \
             be passed over. To begin at the end, once: `kafka-consumer-groups.sh --reset-offsets --to-latest` before the first \
             start",
        ),
        "isolation.level" if !is("read_committed") => {
            Some("events of transactions that their producer has aborted would be handled")
        }
        "check.crcs" if !is_false => Some("librdkafka passes over a batch whose checksum is wrong"),
        "offset.store.method" if !is("broker") => {
            Some("offsets in a file are unknown to the other members of the group")
        }
        "topic.blacklist" if !value.is_empty() => {
            Some("a consumer would not receive hidden topics, without an error")
        }
        "api.version.request" if !is_true => Some(
            "librdkafka would take the brokers for ones without headers, and the headers say what an event is",
        ),
        _ => None,
    }
}

/// Has a topic that is not there yet found within a second, unless the user has said how often to
/// ask.
pub(super) fn refresh_metadata_often(client: &mut ClientConfig, kafka: &KafkaConfig) {
    if kafka.set_by_user().get(METADATA_INTERVAL).is_none() {
        client.set(METADATA_INTERVAL, "1000");
    }
}

pub(super) fn producer(properties: &Properties) -> ClientConfig {
    let mut client = connection(properties);
    for (name, value) in PRODUCER {
        client.set(*name, *value);
    }
    client
}

/// The same, with many messages in a request. A batch of several is smaller than what almost every
/// topic takes; a message that is larger is alone in its batch.
pub(super) fn producer_of_batches(properties: &Properties) -> ClientConfig {
    let mut client = producer(properties);
    client.set("batch.num.messages", "500").set("batch.size", "32768");
    // What comes while these are under way is the next batch: it waits for no time.
    client.set("max.in.flight.requests.per.connection", "5");
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)]) -> KafkaConfig {
        KafkaConfig::new("localhost:9092").properties(settings.iter().copied())
    }

    fn checked_with(settings: &[(&str, &str)]) -> Result<ClientConfig, OutboxError> {
        checked(&with_defaults(&with(settings)), "group")
    }

    #[test]
    fn what_a_guarantee_rests_on_is_refused_with_the_reason() {
        for (name, value) in [
            ("enable.auto.offset.store", "true"),
            ("enable.auto.commit", "false"),
            ("auto.commit.interval.ms", "0"),
            ("group.id", "another"),
            ("auto.offset.reset", "Latest"),
            ("isolation.level", "read_uncommitted"),
            ("check.crcs", "true"),
            ("offset.store.method", "file"),
            ("topic.blacklist", "orders"),
            ("api.version.request", "false"),
        ] {
            let error = checked_with(&[(name, value)]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{name}")) && error.contains("` is refused: "),
                "{error}"
            );
        }
        for (name, value) in [
            ("auto.offset.reset", "error"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("auto.commit.interval.ms", "200"),
            ("session.timeout.ms", "6000"),
            ("allow.auto.create.topics", "true"),
            ("sasl.password", "secret"),
        ] {
            assert_eq!(checked_with(&[(name, value)]).unwrap().get(name), Some(value));
        }
    }

    #[test]
    fn librdkafka_takes_our_settings() {
        for protocol in ["classic", "consumer"] {
            checked_with(&[("group.protocol", protocol)]).unwrap().create_native_config().unwrap();
        }
        let said = [("group.protocol", "consumer"), ("session.timeout.ms", "7000")];
        assert_eq!(
            checked_with(&said).unwrap().get("session.timeout.ms"),
            Some("7000"),
            "never silently"
        );
        producer(&with_defaults(&with(&[]))).create_native_config().unwrap();
        producer_of_batches(&with_defaults(&with(&[]))).create_native_config().unwrap();
    }

    #[test]
    fn a_topic_that_is_missing_is_looked_for_more_often_unless_the_user_says_otherwise() {
        let interval = |settings: &[(&str, &str)]| {
            let mut client = checked_with(settings).unwrap();
            refresh_metadata_often(&mut client, &with(settings));
            client.get(METADATA_INTERVAL).map(str::to_owned)
        };
        assert_eq!(interval(&[]).as_deref(), Some("1000"));
        assert_eq!(interval(&[(METADATA_INTERVAL, "60000")]).as_deref(), Some("60000"));
    }
}
