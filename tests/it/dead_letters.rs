//! Many dead letters, on a real Kafka: found, read, replayed and discarded. That a replay continues
//! after its process was killed is in `outbox-cli/tests/dead_letters_killed.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use outbox::consume::{
    BulkOptions, DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetters, Progress, Selection,
};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use uuid::Uuid;

use crate::support::consumers::{dead_letters, header};
use crate::support::kafka;
use crate::support::topics::{create_topic, read_topic};

const GROUP: &str = "many";

/// A dead letter, as a consumer writes it.
struct Letter {
    partition: i32,
    n: u64,
    class: &'static str,
    name: &'static str,
    key: String,
}

impl Letter {
    /// The `n`th of a number that have every combination of what filters distinguish.
    fn new(n: u64, partitions: u64) -> Self {
        Self {
            partition: (n % partitions) as i32,
            n,
            class: ["transient", "permanent", "undecodable"][(n / 3 % 3) as usize],
            name: ["order.placed", "order.paid"][(n / 9 % 2) as usize],
            key: format!("key-{}", n % 10),
        }
    }

    fn headers(&self) -> OwnedHeaders {
        let id = Uuid::from_u128(self.n.into()).to_string();
        let (n, failed) = (self.n.to_string(), (self.n * 1_000).to_string());
        let error = format!("attempt at {n} failed\nin the warehouse");
        let headers = [
            ("ce_id", &*id),
            ("ce_type", self.name),
            ("outbox-original-topic", "orders"),
            ("outbox-original-partition", "4"),
            ("outbox-original-offset", &n),
            ("outbox-error-class", self.class),
            ("outbox-error", &error),
            ("outbox-last-failure", &failed),
        ];
        headers.iter().fold(OwnedHeaders::new(), |with, (key, value)| {
            with.insert(Header { key, value: Some(*value) })
        })
    }
}

fn producer() -> FutureProducer {
    ClientConfig::new().set("bootstrap.servers", kafka()).create().unwrap()
}

/// Writes dead letters, in this order in each partition.
async fn give_up(topic: &str, letters: impl IntoIterator<Item = Letter>) {
    let producer = producer();
    let dlt = format!("{topic}.{GROUP}.dlt");
    let mut sent = Vec::new();
    for letter in letters {
        let payload = format!("{{\"n\":{}}}", letter.n);
        let record = FutureRecord::to(&dlt)
            .partition(letter.partition)
            .key(&letter.key)
            .payload(&payload)
            .headers(letter.headers());
        sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
}

async fn create_topics(topic: &'static str, partitions: i32) -> DeadLetters {
    create_topics_with(topic, partitions, &[]).await
}

/// With settings of the topic by which they are replayed.
async fn create_topics_with(
    topic: &'static str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> DeadLetters {
    create_topic(topic, 1, &[]).await;
    create_topic(&format!("{topic}.{GROUP}.dlt"), partitions, &[]).await;
    create_topic(&format!("{topic}.{GROUP}.retry.0"), 2, settings).await;
    dead_letters(topic, GROUP)
}

async fn all_of(dead_letters: &DeadLetters, found: &Selection) -> Vec<DeadLetter> {
    let (mut stream, mut letters) = (dead_letters.read(found), Vec::new());
    while let Some(letter) = stream.next().await.unwrap() {
        letters.push(letter);
    }
    letters
}

/// The numbers of the dead letters that were found, in their order.
fn numbers(letters: &[DeadLetter]) -> Vec<u64> {
    letters.iter().map(|letter| letter.original_offset as u64).collect()
}

/// Those of `count` numbers that are meant, in the order of partitions.
fn expected(count: u64, partitions: u64, is_meant: impl Fn(&Letter) -> bool) -> Vec<u64> {
    let of_partition = |partition| (0..count).filter(move |n| n % partitions == partition);
    let all = (0..partitions).flat_map(of_partition);
    all.filter(|n| is_meant(&Letter::new(*n, partitions))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_found_by_class_error_name_key_and_time_and_read_in_order() {
    const COUNT: u64 = 1_800;
    let dead_letters = create_topics("letters-found", 3).await;
    give_up("letters-found", (0..COUNT).map(|n| Letter::new(n, 3))).await;
    let at = |n: u64| UNIX_EPOCH + Duration::from_secs(n);
    let all = DeadLetterFilter::all;
    let of = |is_meant: &dyn Fn(&Letter) -> bool| expected(COUNT, 3, is_meant);
    for (filter, meant) in [
        (all(), of(&|_| true)),
        (all().class("permanent"), of(&|l| l.class == "permanent")),
        (all().name("*.paid").key("key-7"), of(&|l| l.name == "order.paid" && l.key == "key-7")),
        (all().error("attempt at 1?? *warehouse"), of(&|l| (100..200).contains(&l.n))),
        (all().failed_from(at(5)).failed_before(at(8)), of(&|l| (5..8).contains(&l.n))),
        (all().event_id(Uuid::from_u128(1_000)), vec![1_000]),
        (all().error("nothing like it"), vec![]),
    ] {
        let found = dead_letters.select(filter.clone()).await.unwrap();
        assert_eq!(found.len(), meant.len() as u64, "{filter:?}");
        assert_eq!(numbers(&all_of(&dead_letters, &found).await), meant, "{filter:?}");
    }
    let first = dead_letters.select(all()).await.unwrap().first(10);
    assert_eq!(
        numbers(&all_of(&dead_letters, &first).await),
        (0..10).map(|n| n * 3).collect::<Vec<_>>()
    );
    // Far from each other: what is between them is not read.
    let ids = [(0, 599), (0, 0), (2, 300), (7, 0), (1, 1_000_000)];
    let ids = ids.map(|(partition, offset)| DeadLetterId { partition, offset });
    assert_eq!(numbers(&dead_letters.get(ids).await.unwrap()), [0, 1_797, 902]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_resolved_is_found_no_more_and_only_what_was_meant_is_replayed() {
    const COUNT: u64 = 1_260;
    let dead_letters = create_topics("letters-resolved", 2).await;
    give_up("letters-resolved", (0..COUNT).map(|n| Letter::new(n, 2))).await;
    let all = DeadLetterFilter::all;

    let permanent = dead_letters.select(all().class("permanent")).await.unwrap();
    let progress = Progress::new();
    let options = BulkOptions::new().progress(&progress);
    let discarded = dead_letters.discard_selected(&permanent, options).await.unwrap();
    assert_eq!((discarded.done, discarded.left_out), (420, 0));
    assert_eq!((progress.done(), progress.total()), (420, 420));
    assert!(dead_letters.select(all().class("permanent")).await.unwrap().is_empty());

    let transient = dead_letters.select(all().class("transient")).await.unwrap();
    let rate = BulkOptions::new().rate(1e6);
    let replayed = dead_letters.replay_selected(&transient, rate).await.unwrap();
    assert_eq!(replayed.done, 420);
    let left = dead_letters.select(all()).await.unwrap();
    let undecodable = expected(COUNT, 2, |letter| letter.class == "undecodable");
    assert_eq!(numbers(&all_of(&dead_letters, &left).await), undecodable);

    // Of each key they are in the order in which they were given up.
    let mut by_key = BTreeMap::<Vec<u8>, Vec<u64>>::new();
    for message in read_topic("letters-resolved.many.retry.0").await {
        let n = header(&message, "outbox-original-offset").unwrap().parse().unwrap();
        assert_eq!(message.payload().unwrap(), format!("{{\"n\":{n}}}").as_bytes());
        assert_eq!(header(&message, "outbox-attempts"), Some("0"));
        assert_eq!(header(&message, "outbox-error"), None);
        by_key.entry(message.key().unwrap().to_vec()).or_default().push(n);
    }
    assert_eq!(by_key.len(), 10);
    for (key, numbers) in by_key {
        let meant = |letter: &Letter| letter.class == "transient" && letter.key.as_bytes() == key;
        assert_eq!(numbers, expected(COUNT, 2, meant), "each once, and in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_replayed_is_left_out_and_named_and_the_others_are_replayed() {
    let dead_letters = create_topics("letters-left-out", 1).await;
    let dlt = "letters-left-out.many.dlt";
    for n in 0..3 {
        let mut headers = Letter::new(n, 1).headers();
        if n == 1 {
            headers = headers.insert(Header { key: "outbox-payload-left-out", value: Some("99") });
        }
        let record = FutureRecord::<str, str>::to(dlt).partition(0).headers(headers).key("a");
        producer().send(record, Duration::from_secs(30)).await.unwrap();
    }
    let found = dead_letters.select(DeadLetterFilter::all()).await.unwrap();
    let replayed = dead_letters.replay_selected(&found, BulkOptions::new()).await.unwrap();
    let place = DeadLetterId { partition: 0, offset: 1 };
    assert_eq!((replayed.done, replayed.left_out), (2, 1));
    assert_eq!(replayed.places_left_out, [place]);
    let left = dead_letters.select(DeadLetterFilter::all()).await.unwrap();
    assert_eq!(left.ids().collect::<Vec<_>>(), [place]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_takes_no_batches_takes_its_letters_and_what_it_refuses_stays_open() {
    let narrow = [("max.message.bytes", "700")];
    let dead_letters = create_topics_with("letters-narrow", 1, &narrow).await;
    give_up("letters-narrow", (0..200).map(|n| Letter::new(n, 1))).await;
    let found = dead_letters.select(DeadLetterFilter::all()).await.unwrap();
    let replayed = dead_letters.replay_selected(&found, BulkOptions::new()).await.unwrap();
    assert_eq!(replayed.done, 200);

    let mut large = Letter::new(200, 1);
    // What cannot be compressed.
    let part = |n: u8| Uuid::new_v5(&Uuid::nil(), &[n]).to_string();
    large.key = (0..100).map(part).collect();
    give_up("letters-narrow", [large, Letter::new(201, 1)]).await;
    let found = dead_letters.select(DeadLetterFilter::all()).await.unwrap();
    let refused = dead_letters.replay_selected(&found, BulkOptions::new()).await.unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("of 2 dead letters were replayed") && said.contains("continues"),
        "{said}"
    );
    let left = dead_letters.select(DeadLetterFilter::all()).await.unwrap();
    assert!(left.contains(DeadLetterId { partition: 0, offset: 400 }), "{left:?}");
}
