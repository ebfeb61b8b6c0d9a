//! Relay, consumer and dead letters on a cluster with TLS and SASL: every way to log in works, and
//! what is refused is told with its cause and its remedy.

use crate::support::consumers::{
    PERMANENT, RunningConsumer, Scripted, consumer_outbox, new_consumer_of, pairs, run_error,
    until_handled,
};
use crate::support::log::Log;
use crate::support::relays::{RunningRelay, drain_to, kafka_publisher_of, new_relay};
use crate::support::secured::{
    secured, secured_kafka, trusting, with_certificate, with_password, with_token,
};
use crate::support::topics::create_topic_of;
use crate::support::{eventually_some, within_a_minute};
use outbox::ErrorKind;
use outbox::consume::{DeadLetters, HandlerOptions};
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;

event_on_topic!(Created, "orders");

const GROUP: &str = "inventory";

/// Publishes two events over TLS, compressed by zstd, and has them handled, the second one in vain.
/// `way` is in the names of the topics and of the group.
async fn goes_all_the_way(way: &str, kafka: KafkaConfig) {
    let (prefix, group) = (format!("{way}-"), format!("{GROUP}-{way}"));
    let topic = format!("{prefix}{}", Created::TOPIC);
    for name in [topic.clone(), format!("{topic}.{group}.retry.0"), format!("{topic}.{group}.dlt")]
    {
        create_topic_of(secured_kafka().brokers(), &name, 1, &[]).await;
    }
    let kafka = kafka.property("compression.type", "zstd");
    let outbox = consumer_outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit_all([Created::new("a", 0), Created::new("a", 1)]).unwrap();
    tx.commit().await.unwrap();

    let publisher = KafkaPublisher::builder(&kafka).topic_prefix(&prefix).build().unwrap();
    assert_eq!(drain_to(&outbox, publisher).await, 2);

    let decide = async |_, n, _| if n == 1 { PERMANENT } else { Ok(()) };
    let handler = Scripted::<Created>::new(GROUP, HandlerOptions::new(), decide);
    let consumer = new_consumer_of(&outbox, &kafka).handler(handler);
    let consumer = RunningConsumer::start(consumer.topic_prefix(&prefix).group(&group));
    assert_eq!(until_handled(&outbox, GROUP, 1).await, pairs("a", [0]));
    let letters = DeadLetters::builder(&kafka).topic(Created::TOPIC).topic_prefix(&prefix);
    let letters = letters.group(&group).build().unwrap();
    let given_up = async || letters.list(10).await.unwrap().pop();
    let letter = eventually_some("a dead letter", given_up).await;
    letters.discard(&letter).await.unwrap();
    assert!(letters.list(10).await.unwrap().is_empty());
    consumer.stop().await;
}

#[tokio::test]
async fn events_go_all_the_way_with_a_password_by_plain() {
    goes_all_the_way("plain", with_password("PLAIN", secured().password())).await;
}

#[tokio::test]
async fn events_go_all_the_way_with_a_password_by_scram_sha_256() {
    goes_all_the_way("scram-256", with_password("SCRAM-SHA-256", secured().password())).await;
}

#[tokio::test]
async fn events_go_all_the_way_with_a_password_by_scram_sha_512() {
    goes_all_the_way("scram-512", with_password("SCRAM-SHA-512", secured().password())).await;
}

#[tokio::test]
async fn events_go_all_the_way_with_tokens_of_a_callback() {
    goes_all_the_way("token", with_token("admin")).await;
}

#[tokio::test]
async fn events_go_all_the_way_with_a_certificate_of_the_client() {
    let identity = secured().certificates().client("admin").unwrap();
    goes_all_the_way("certificate", with_certificate(&identity)).await;
}

fn letters(kafka: &KafkaConfig) -> DeadLetters {
    DeadLetters::builder(kafka).topic(Created::TOPIC).group(GROUP).build().unwrap()
}

/// A way to connect that is refused, and what the error says: the cause, then the remedy.
async fn is_refused(kafka: KafkaConfig, cause: &str, remedy: &str) {
    let error = within_a_minute(letters(&kafka).list(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kafka);
    let said = error.to_string();
    assert!(said.contains(cause) && said.contains(remedy), "{cause}, {remedy}: {said}");
    assert!(said.contains("nothing of them is lost"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn what_tls_refuses_is_told_with_cause_and_remedy() {
    let certificates = secured().certificates();
    let client = certificates.client("nobody").unwrap();
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let other = path(certificates.other_authority());
    let by_name = secured().tls().replace("127.0.0.1", "localhost");
    let expired = certificates.expired_client("late").unwrap();
    let (plain, nothing) =
        (secured_kafka().brokers().to_owned(), KafkaConfig::new(secured().tls()));
    tokio::join!(
        is_refused(
            with_certificate(&client).property("ssl.ca.location", other),
            "signed by an authority that this client does not trust: `CN=outbox test authority`",
            "ssl.ca.location=FILE",
        ),
        is_refused(
            trusting(secured().expired(), "ssl"),
            "certificate `CN=expired-server` has expired (Jan  1 00:00:00 2021 GMT)",
            "Renew it on the broker",
        ),
        is_refused(
            with_certificate(&client).property("bootstrap.servers", by_name),
            "is not for `localhost`",
            "Connect to a name that is in the certificate",
        ),
        is_refused(
            trusting(secured().tls(), "ssl"),
            "the broker refuses this client's certificate: there is none",
            "`ssl.certificate.location`",
        ),
        is_refused(
            with_certificate(&expired),
            "the broker refuses this client's certificate",
            "that is valid now",
        ),
        is_refused(
            trusting(plain, "ssl"),
            "this client speaks TLS, and the port does not, perhaps",
            "Connect to the port of a listener with TLS",
        ),
        is_refused(nothing, "its port expects TLS or SASL", "Set `security.protocol`"),
    );
}

#[tokio::test]
async fn what_sasl_refuses_is_told_with_cause_and_remedy() {
    let failing = trusting(secured().sasl(), "sasl_ssl")
        .access_token(|| Err("the login server is away".into()));
    let (user, password) = ("refuse this user or its password", "`sasl.password`");
    tokio::join!(
        is_refused(with_password("PLAIN", "hunter2"), user, password),
        is_refused(with_password("SCRAM-SHA-256", "hunter2"), user, password),
        is_refused(with_password("SCRAM-SHA-512", "hunter2"), user, password),
        is_refused(failing, "the login server is away", "`KafkaConfig::access_token`"),
    );
}

#[tokio::test]
async fn a_relay_logs_why_it_is_refused_and_its_events_stay() {
    let outbox = consumer_outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(Created::new("a", 0)).unwrap();
    tx.commit().await.unwrap();
    let kafka = with_password("SCRAM-SHA-512", "hunter2");
    let relay = RunningRelay::start(new_relay(&outbox, kafka_publisher_of(&kafka)));
    let log = Log::of_this_program();
    let words =
        ["refuse this user or its password", "events stay in the outbox", "`sasl.username`"];
    log.until_it_says(&words).await;
    assert_eq!(log.lines(&words).len(), 1, "librdkafka tries again and again");
    assert_eq!(log.lines(&["hunter2"]), [""; 0]);
    relay.stop().await;
    assert_eq!(outbox.status().await.unwrap().backlog, 1);
}

#[tokio::test]
async fn a_consumer_that_is_refused_at_its_start_ends_with_cause_and_remedy() {
    let outbox = consumer_outbox().await;
    let handler = Scripted::<Created>::new(GROUP, HandlerOptions::new(), async |_, _, _| Ok(()));
    let kafka = with_password("SCRAM-SHA-512", "hunter2");
    let error = run_error(new_consumer_of(&outbox, &kafka).handler(handler)).await;
    assert_eq!(error.kind(), ErrorKind::Kafka);
    for words in ["refuse this user or its password", "`sasl.password`", "Nothing was consumed"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}
