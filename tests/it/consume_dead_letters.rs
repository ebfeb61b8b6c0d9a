//! Dead letters, on a real Kafka and a real Postgres: what is known of them, and how they are
//! replayed.

use crate::support::consumers::{
    PERMANENT, QUICK, Scripted, TRANSIENT, consume, consumer_outbox, dead_letters, header, pairs,
    produce, publish, until_dead_letters, until_handled,
};
use crate::support::topics::{admin, committed, create_topic, read_topic};
use rdkafka::Message as _;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_a_dead_letter_with_all_that_is_known_of_it() {
    event_on_topic!(Created, "consume-dead");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("hopeless", 1)]).await;
    publish(&outbox, [Created::new("unlucky", 1)]).await;
    produce(
        Created::TOPIC,
        "garbage",
        "{",
        &[
            ("ce_id", "018f0000-0000-7000-8000-000000000000"),
            ("ce_type", "order.created"),
            ("ce_dataversion", "3"),
        ],
    )
    .await;
    produce(
        Created::TOPIC,
        "newer",
        "{}",
        &[
            ("ce_id", "018f0000-0000-7000-8000-000000000001"),
            ("ce_type", "order.created"),
            ("ce_dataversion", "9"),
        ],
    )
    .await;
    produce(Created::TOPIC, "foreign", "hello", &[]).await;
    produce(
        Created::TOPIC,
        "other",
        "{}",
        &[("ce_type", "order.cancelled"), ("ce_dataversion", "1")],
    )
    .await;
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler =
        Scripted::<Created>::new("dead", QUICK.attempts(3), |customer, _, _| async move {
            match &*customer {
                "hopeless" => PERMANENT,
                "unlucky" => TRANSIENT,
                _ => Ok(()),
            }
        });

    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(Created::TOPIC, "dead", 5).await;
    assert_eq!(until_handled(&outbox, "dead", 1).await, pairs("well", [1]), "no key is blocked");
    let consumed = consumer.stop().await;
    assert_eq!((consumed.dead_letters, consumed.passed_over), (5, 1));
    assert_eq!(committed(Created::TOPIC, "dead"), 7);

    let of = |key: &str| {
        letters.iter().find(|letter| letter.key.as_deref() == Some(key.as_bytes())).unwrap()
    };
    let (hopeless, unlucky) = (of("hopeless"), of("unlucky"));
    assert_eq!(
        (&*hopeless.error_class, hopeless.attempts, &*hopeless.error),
        ("permanent", 1, "never")
    );
    assert_eq!(
        (&*unlucky.error_class, unlucky.attempts, &*unlucky.error),
        ("transient", 3, "not now")
    );
    assert_eq!(
        (&*unlucky.original_topic, unlucky.original_partition, unlucky.original_offset),
        (Created::TOPIC, 0, 1)
    );
    assert!(unlucky.first_failure.unwrap() <= unlucky.last_failure.unwrap());
    assert_eq!((unlucky.name.as_deref(), unlucky.version), (Some("order.created"), Some(3)));
    for (key, hint) in
        [("garbage", "cannot be decoded"), ("newer", "version 9"), ("foreign", "no outbox wrote")]
    {
        assert_eq!((&*of(key).error_class, of(key).attempts), ("undecodable", 0));
        assert!(of(key).error.contains(hint), "{}", of(key).error);
    }
    assert_eq!(of("garbage").payload.as_deref(), Some(&b"{"[..]));

    // By an independent reading: the bytes, key and headers are what they were.
    let on_topic = read_topic("consume-dead.dead.dlt").await;
    let message = on_topic.iter().find(|message| message.key() == Some(b"unlucky")).unwrap();
    let original = read_topic(Created::TOPIC).await;
    let original = original.iter().find(|message| message.key() == Some(b"unlucky")).unwrap();
    assert_eq!(message.payload(), original.payload());
    for name in ["ce_id", "ce_type", "ce_source", "ce_dataversion", "content-type", "x-tenant"] {
        assert_eq!(header(message, name), header(original, name), "{name}");
        assert!(header(message, name).is_some(), "{name}");
    }
    assert_eq!(header(message, "outbox-group"), Some("dead"));
    assert_eq!(
        header(message, "outbox-original-timestamp").unwrap(),
        original.timestamp().to_millis().unwrap().to_string()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_dead_letter_is_handled_once_and_by_its_own_group_only() {
    event_on_topic!(Created, "consume-replayed");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=3).map(|n| Created::new("a", n))).await;
    let broken = Scripted::<Created>::new("replayed", QUICK, |_, n, _| async move {
        if n < 3 { PERMANENT } else { Ok(()) }
    });
    let other = Scripted::<Created>::new("not-replayed", QUICK, |_, _, _| async { Ok(()) });
    let other_consumer = consume(&outbox, &other);
    let consumer = consume(&outbox, &broken);
    let letters = until_dead_letters(Created::TOPIC, "replayed", 2).await;
    until_handled(&outbox, "replayed", 1).await;
    consumer.stop().await;

    // The cause is fixed; the first is replayed twice by mistake, the second is discarded.
    let fixed = Scripted::<Created>::new("replayed", QUICK, |_, _, _| async { Ok(()) });
    let dead_letters = dead_letters(Created::TOPIC, "replayed");
    dead_letters.replay(&letters[0]).await.unwrap();
    dead_letters.replay(&letters[0]).await.unwrap();
    dead_letters.discard(&letters[1]).await.unwrap();
    assert_eq!(dead_letters.list(10).await.unwrap(), []);
    let consumer = consume(&outbox, &fixed);
    until_handled(&outbox, "replayed", 2).await;
    publish(&outbox, [Created::new("a", 4)]).await;
    assert_eq!(until_handled(&outbox, "replayed", 3).await, pairs("a", [3, 1, 4]));
    until_handled(&outbox, "not-replayed", 4).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.duplicates), (2, 1));
    assert_eq!(other_consumer.stop().await.handled, 4);
    assert_eq!(other.attempts_of("a", 1), [1], "the other group saw it once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_cannot_be_written_stops_its_partition_and_nothing_is_dropped() {
    event_on_topic!(Created, "consume-unwritable");
    create_topic(Created::TOPIC, 1, &[]).await;
    // It takes nothing: that would be larger than this.
    create_topic("consume-unwritable.unwritable.dlt", 1, &[("max.message.bytes", "10")]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("hopeless", 1)]).await;
    publish(&outbox, [Created::new("well", 1)]).await;
    let handler = Scripted::<Created>::new("unwritable", QUICK, |customer, _, _| async move {
        if customer == "hopeless" { PERMANENT } else { Ok(()) }
    });
    let consumer = consume(&outbox, &handler);
    until_handled(&outbox, "unwritable", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.dead_letters), (1, 0));
    assert!(committed(Created::TOPIC, "unwritable") <= 0, "the event is not passed over");

    let resource = ResourceSpecifier::Topic("consume-unwritable.unwritable.dlt");
    let larger = AlterConfig::new(resource).set("max.message.bytes", "1000000");
    for altered in admin().alter_configs([&larger], &AdminOptions::new()).await.unwrap() {
        altered.unwrap();
    }
    let consumer = consume(&outbox, &handler);
    let letters = until_dead_letters(Created::TOPIC, "unwritable", 1).await;
    consumer.stop().await;
    assert_eq!(letters[0].key.as_deref(), Some(&b"hopeless"[..]));
    assert_eq!(committed(Created::TOPIC, "unwritable"), 2);
}
