//! Dead letters by the hundred thousand: found, read and replayed, next to a consumer that only
//! counts them.

use std::time::Instant;

use outbox::consume::{BulkOptions, DeadLetterFilter, DeadLetters};
use outbox_bench_report::{Handled, LettersBy};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use uuid::Uuid;

use crate::{Failure, OrderCreated, brokers, peak_mib, topic};

const TOPIC: &str = "letters";
const GROUP: &str = "inventory";
const ERROR: &str =
    "cannot reserve: the warehouse is closed: error returned from the database: deadlock detected";

/// Writes dead letters as consumers do, with all their headers.
pub(crate) async fn fill(letters: u64) -> Result<(), Failure> {
    let dlt = format!("{TOPIC}.{GROUP}.dlt");
    topic::create(&dlt, &[]).await?;
    topic::create(&format!("{TOPIC}.{GROUP}.retry.0"), &[]).await?;
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", brokers()?).set("linger.ms", "5").create()?;
    let mut sent = std::collections::VecDeque::new();
    for n in 0..letters {
        let event = OrderCreated::new(n % 10_000, n);
        let (key, payload) = (event.customer.to_string(), serde_json::to_vec(&event)?);
        let (id, offset) = (Uuid::now_v7().to_string(), n.to_string());
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", &*id),
            ("ce_source", "/orders"),
            ("ce_type", "order.created"),
            ("ce_time", "2026-11-24T21:55:39.25Z"),
            ("ce_dataversion", "1"),
            ("content-type", "application/json"),
            ("outbox-original-topic", TOPIC),
            ("outbox-original-partition", "3"),
            ("outbox-original-offset", &offset),
            ("outbox-group", GROUP),
            ("outbox-attempts", "10"),
            ("outbox-retry", "0"),
            ("outbox-original-timestamp", "1764021330000"),
            ("outbox-first-failure", "1764021338000"),
            ("outbox-error-class", "transient"),
            ("outbox-error", ERROR),
            ("outbox-last-failure", "1764021339250"),
        ];
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let record = FutureRecord::to(&dlt).key(&key).payload(&payload).headers(headers);
        sent.push_back(producer.send_result(record).map_err(|(error, _)| error)?);
        if sent.len() > 50_000
            && let Some(first) = sent.pop_front()
        {
            first.await?.map_err(|(error, _)| error)?;
        }
    }
    for delivery in sent {
        delivery.await?.map_err(|(error, _)| error)?;
    }
    Ok(())
}

/// Goes through all of them in one way.
pub(crate) async fn measure(by: LettersBy, letters: u64) -> Result<Handled, Failure> {
    let begin = Instant::now();
    let done = match by {
        LettersBy::PlainConsumer => count_by_consumer(letters)?,
        LettersBy::Select | LettersBy::Read | LettersBy::Replay => by_outbox(by).await?,
    };
    if done != letters {
        return Err(format!("{done} dead letters instead of {letters}").into());
    }
    Ok(Handled { rate: letters as f64 / begin.elapsed().as_secs_f64(), peak_mib: peak_mib() })
}

async fn by_outbox(by: LettersBy) -> Result<u64, Failure> {
    let dead_letters = DeadLetters::builder(brokers()?).topic(TOPIC).group(GROUP).build()?;
    let filter = DeadLetterFilter::all().class("transient").error("*warehouse is closed*");
    let found = dead_letters.select(filter).await?;
    Ok(match by {
        LettersBy::Read => {
            let (mut letters, mut count) = (dead_letters.read(&found), 0);
            while letters.next().await?.is_some() {
                count += 1;
            }
            count
        }
        LettersBy::Replay => dead_letters.replay_selected(&found, BulkOptions::new()).await?.done,
        LettersBy::Select | LettersBy::PlainConsumer => found.len(),
    })
}

fn count_by_consumer(letters: u64) -> Result<u64, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers()?)
        .set("group.id", Uuid::now_v7().to_string())
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut assignment = rdkafka::TopicPartitionList::new();
    for partition in 0..6 {
        let dlt = format!("{TOPIC}.{GROUP}.dlt");
        assignment.add_partition_offset(&dlt, partition, rdkafka::Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let (mut count, mut bytes) = (0, 0);
    while count < letters {
        let message = consumer.poll(std::time::Duration::from_secs(30)).ok_or("no message")??;
        bytes += message.payload_len();
        count += 1;
    }
    if bytes == 0 { Err("they had no payload".into()) } else { Ok(count) }
}
