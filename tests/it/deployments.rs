//! What a deployment sets at run time: the prefix of its topics, the group, a handler's options.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::consumers::{RunningConsumer, new_consumer, pairs, until_handled};
use crate::support::relays::{RunningRelay, drain_to, quick, until_parked};
use crate::support::topics::{admin, create_topic};
use crate::support::{self, POSTGRES, eventually_some, kafka, migrated, postgres};
use outbox::consume::{
    DeadLetter, DeadLetters, ErrorClass, EventContext, EventHandler, ForeignId, HandlerOptions,
    LaterEvents,
};
use outbox::publish::kafka::KafkaPublisher;
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{ErrorKind, Outbox, OutboxError, OutboxTx, event_handler};
use sqlx::Postgres;
use uuid::Uuid;

event_on_topic!(Created, "deployments");

const GROUP: &str = "inventory";

/// Inserts each event into the table `handled`, with the topic that its context names as the
/// consumer.
#[derive(Default)]
struct Reserve {
    /// Whether the warehouse is open: until then, it refuses the customer `dead`.
    open: AtomicBool,
}

impl EventHandler<Postgres> for Reserve {
    type Event = Created;
    type Error = OutboxError;

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new().group("of-the-code").attempts(1_000).timeout(Duration::from_secs(60))
    }

    fn classify(&self, error: &OutboxError) -> ErrorClass {
        match error.kind() {
            ErrorKind::Config => ErrorClass::Permanent,
            _ => ErrorClass::Transient,
        }
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Postgres>,
        event: Created,
        context: &EventContext,
    ) -> Result<(), OutboxError> {
        sqlx::query("insert into handled (consumer, customer, n) values ($1, $2, $3)")
            .bind(&context.topic)
            .bind(&event.customer)
            .bind(event.n)
            .execute(&mut *tx)
            .await?;
        match &*event.customer {
            "dead" if !self.open.load(Ordering::SeqCst) => Err(refused("closed")),
            "late" if context.attempt == 1 && event.n < 100 => Err(refused("not now")),
            _ => Ok(()),
        }
    }
}

fn refused(why: &str) -> OutboxError {
    OutboxError::from(sqlx::Error::Protocol(why.to_owned()))
}

/// A service, a relay and a consumer with their own database, on the Kafka that all tests share.
struct Deployment {
    prefix: String,
    outbox: Outbox<Postgres>,
    handler: Arc<Reserve>,
}

impl Deployment {
    async fn new(prefix: String) -> Self {
        let outbox = migrated(Outbox::new(postgres(POSTGRES, 16).await)).await;
        let outbox = support::consumers::with_handled(outbox).await;
        create_topic(&format!("{prefix}{}", Created::TOPIC), 1, &[]).await;
        Self { prefix, outbox, handler: Arc::default() }
    }

    async fn publish(&self, events: impl IntoIterator<Item = (&str, i64)>) {
        let mut tx = self.outbox.begin().await.unwrap();
        for (customer, n) in events {
            tx.emit(Created::new(customer, n)).unwrap();
        }
        tx.commit().await.unwrap();
        let publisher = KafkaPublisher::builder(kafka()).topic_prefix(&self.prefix);
        drain_to(&self.outbox, publisher.build().unwrap()).await;
    }

    fn consume(&self) -> RunningConsumer {
        let delays = vec![Duration::from_millis(200)];
        let handler = Arc::clone(&self.handler)
            .with_options(|options| options.attempts(1).retry_topics(&delays, LaterEvents::Wait));
        let consumer = new_consumer(&self.outbox).group(GROUP).topic_prefix(&self.prefix);
        let most = usize::MAX;
        let consumer = consumer.concurrency(most).max_in_flight(most).max_bytes_in_flight(most);
        RunningConsumer::start(consumer.handler(handler))
    }

    fn dead_letters(&self) -> DeadLetters {
        let letters = DeadLetters::builder(kafka()).topic(Created::TOPIC).group(GROUP);
        letters.topic_prefix(&self.prefix).build().unwrap()
    }

    async fn until_dead_letter(&self) -> DeadLetter {
        let letters = self.dead_letters();
        let first = async || letters.list(10).await.unwrap().pop();
        eventually_some("there is a dead letter", first).await
    }

    /// All that was handled, in order.
    async fn until_handled(&self, count: usize) -> Vec<(String, i64)> {
        until_handled(&self.outbox, Created::TOPIC, count).await
    }
}

fn unique_prefix() -> String {
    format!("e2e-{}.", Uuid::now_v7().simple())
}

fn topics_with(prefix: &str) -> BTreeSet<String> {
    let metadata = admin().inner().fetch_metadata(None, Duration::from_secs(30)).unwrap();
    let names = metadata.topics().iter().filter_map(|topic| topic.name().strip_prefix(prefix));
    names.map(str::to_owned).collect()
}

/// Both have the same code, the same group and the same keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_with_different_prefixes_do_not_see_each_others_events() {
    let run = unique_prefix();
    let (one, two) =
        (Deployment::new(format!("{run}1-")).await, Deployment::new(format!("{run}2-")).await);
    let mut consumers = Vec::new();
    for (deployment, n) in [(&one, 1), (&two, 2)] {
        consumers.push(deployment.consume());
        deployment.publish([("well", n), ("late", n), ("late", 100 + n), ("dead", n)]).await;
    }
    for (deployment, n) in [(&one, 1), (&two, 2)] {
        let letter = deployment.until_dead_letter().await;
        let own = format!("{}{}", deployment.prefix, Created::TOPIC);
        assert_eq!((&*letter.original_topic, letter.attempts), (&*own, 2), "{letter:?}");
        let payload = String::from_utf8(letter.payload.clone().unwrap()).unwrap();
        assert!(payload.contains(&format!(r#""n":{n}"#)), "{payload}");
        deployment.until_handled(3).await;

        deployment.handler.open.store(true, Ordering::SeqCst);
        deployment.dead_letters().replay(&letter).await.unwrap();
        let handled = deployment.until_handled(4).await;
        let late: Vec<_> = handled.iter().filter(|(customer, _)| customer == "late").collect();
        assert_eq!(late, pairs("late", [n, 100 + n]).iter().collect::<Vec<_>>(), "in order");
        assert_eq!(handled[3], ("dead".to_owned(), n));
        assert_eq!(deployment.dead_letters().list(10).await.unwrap(), []);
    }
    for (consumer, deployment) in consumers.into_iter().zip([&one, &two]) {
        let consumed = consumer.stop().await;
        assert_eq!((consumed.handled, consumed.dead_letters, consumed.duplicates), (4, 1, 0));
        assert_eq!(deployment.until_handled(4).await.len(), 4, "and none of the other's");
        let names = ["", ".inventory.dlt", ".inventory.retry.0", ".inventory.retry.200ms"];
        let names = names.map(|name| format!("{}{name}", Created::TOPIC));
        assert_eq!(topics_with(&deployment.prefix), BTreeSet::from(names));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_topic_is_too_long_with_the_prefix_is_parked_under_the_topic_it_declares() {
    let outbox = migrated(Outbox::new(postgres(POSTGRES, 4).await)).await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(Created::new("alice", 1)).unwrap();
    tx.commit().await.unwrap();
    let prefix = "x".repeat(240);
    let publisher = KafkaPublisher::builder(kafka()).topic_prefix(&prefix).build().unwrap();
    let relay = RunningRelay::start(quick(&outbox, publisher));
    let parked = until_parked(&outbox, 1).await.remove(0);
    relay.stop().await;
    assert_eq!(parked.event.topic, Created::TOPIC);
    let reason = parked.reason.unwrap();
    let on_brokers = format!("`{prefix}{}`, which has 251 characters", Created::TOPIC);
    assert!(reason.contains(&on_brokers) && reason.contains("`topic_prefix`"), "{reason}");
}

#[tokio::test]
async fn a_prefix_that_makes_a_name_that_kafka_refuses_is_refused_when_it_is_built() {
    let (pool, _directory) = support::sqlite(1).await;
    let outbox = Outbox::new(pool);
    let dead_letters = |prefix: &str| {
        DeadLetters::builder("localhost:1")
            .topic("orders")
            .group("shop")
            .topic_prefix(prefix)
            .build()
    };
    let consumer = |prefix: &str| {
        let handler = outbox::consume::handler_fn(ignore);
        let consumer = new_consumer_without_kafka(&outbox).group("shop").handler(handler);
        consumer.topic_prefix(prefix).build()
    };
    for prefix in ["e2e/", " ", &"x".repeat(249)] {
        let publisher = KafkaPublisher::builder("localhost:1").topic_prefix(prefix).build();
        let errors =
            [publisher.map(drop), dead_letters(prefix).map(drop), consumer(prefix).map(drop)];
        for error in errors.map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("topic prefix `"), "{error}");
        }
    }
    // `deployments.shop.retry.0` has 24 characters, and `orders.shop.retry.0` has 19.
    consumer(&"x".repeat(225)).unwrap();
    dead_letters(&"x".repeat(230)).unwrap();
    for error in [consumer(&"x".repeat(226)).map(drop), dead_letters(&"x".repeat(231)).map(drop)] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("250 characters") && error.contains("`topic_prefix`"), "{error}");
    }
}

fn new_consumer_without_kafka(
    outbox: &Outbox<sqlx::Sqlite>,
) -> outbox::consume::ConsumerBuilder<sqlx::Sqlite> {
    support::consumers::new_consumer_of(outbox, "localhost:1")
}

async fn ignore(
    _: &mut OutboxTx<'_, sqlx::Sqlite>,
    _: Created,
    _: &EventContext,
) -> Result<(), OutboxError> {
    Ok(())
}

#[tokio::test]
async fn the_options_of_a_handler_are_changed_at_run_time_and_what_makes_no_sense_is_refused() {
    let (pool, _directory) = support::sqlite(2).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let handler = || outbox::consume::handler_fn(ignore);
    let by_key = handler().with_options(|options| options.foreign(ForeignId::Key));
    let by_key = HandlerTest::new(outbox.clone(), by_key).unwrap();
    let foreign =
        TestMessage::foreign(Created::TOPIC, Some(b"a"), r#"{"customer":"a","tenant":"t","n":1}"#);
    assert_eq!(by_key.deliver(&foreign).await.unwrap(), Delivery::Handled);
    assert_eq!(by_key.deliver(&foreign).await.unwrap(), Delivery::Duplicate);

    let absurd = handler().with_options(|options| options.attempts(0));
    let consumer = new_consumer_without_kafka(&outbox).group("shop").handler(absurd);
    let error = consumer.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let error = error.to_string();
    assert!(error.contains("0 attempts") && error.contains("Nothing was consumed"), "{error}");
    assert!(
        error.contains("ignore") && !error.contains("WithOptions"),
        "names the handler: {error}"
    );
    let absurd = handler().with_options(|options| options.timeout(Duration::ZERO));
    HandlerTest::new(outbox, absurd).unwrap_err();
}

#[event_handler(group = "inventory", attempts = 3, timeout = "30s")]
async fn reserve(
    _tx: &mut OutboxTx<'_, Postgres>,
    _event: Created,
    _stock: &String,
) -> Result<(), OutboxError> {
    Ok(())
}

#[derive(Clone)]
struct Mails;

impl Mails {
    #[event_handler]
    async fn send(
        &self,
        _tx: &mut OutboxTx<'_, Postgres>,
        _event: Created,
    ) -> Result<(), OutboxError> {
        Ok(())
    }
}

#[test]
fn the_options_of_an_attribute_are_changed_where_its_handler_is_added() {
    fn expect(handler: &impl EventHandler<Postgres>, name: &str, options: HandlerOptions) {
        assert!(handler.name().ends_with(name), "{}", handler.name());
        assert_eq!(format!("{:?}", handler.options()), format!("{options:?}"));
    }
    // As from the environment: not known when this is compiled.
    let delays: Vec<Duration> =
        ["10", "60"].map(|s| Duration::from_secs(s.parse().unwrap())).into();
    let changed = reserve("apples".to_owned())
        .with_options(|options| options.attempts(2).retry_topics(&delays, LaterEvents::Wait));
    let of_the_attribute =
        HandlerOptions::new().group("inventory").timeout(Duration::from_secs(30));
    let expected = of_the_attribute.attempts(2).retry_topics(&delays, LaterEvents::Wait);
    expect(&changed, "::reserve", expected);
    let changed = Mails.send().with_options(HandlerOptions::retry_forever);
    expect(&changed, "Mails::send", HandlerOptions::new().retry_forever());
    // Of two changes, the last one counts.
    let changed = changed.with_options(|options| options.attempts(1));
    expect(&changed, "Mails::send", HandlerOptions::new().attempts(1));
}

#[tokio::test]
async fn a_test_chooses_the_group_of_its_handler() {
    let (pool, _directory) = support::sqlite(2).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let of = |group: &str| {
        let handler =
            outbox::consume::handler_fn(ignore).options(HandlerOptions::new().group("own"));
        HandlerTest::new(outbox.clone(), handler).unwrap().group(group)
    };
    let message = TestMessage::of(&Created::new("alice", 1)).unwrap();
    for (group, delivery) in [
        ("one", Delivery::Handled),
        ("two", Delivery::Handled),
        ("one", Delivery::Duplicate),
        ("own", Delivery::Handled),
    ] {
        assert_eq!(of(group).unwrap().deliver(&message).await.unwrap(), delivery, "{group}");
    }
    of(" ").unwrap_err();
}
