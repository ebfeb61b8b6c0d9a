//! The proxy of the tests does as it says: a test that relies on it would otherwise prove nothing.

use std::collections::BTreeMap;
use std::slice;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, Producer as _};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinHandle;
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions};

use crate::support::oracle::assert_exactly_once;
use crate::support::proxy::{Moment, Proxy, Way};
use crate::support::requests::{END_TXN, Passed, Requests};
use crate::support::topics::{
    create_topic_of, has_no_open_transaction, produce_numbered, read_committed,
};
use crate::support::{POSTGRES, server, within_a_minute};

/// Whether a statement is not answered. Only on a slow machine can this be wrong: true for a
/// connection that does answer.
async fn is_silent(connection: &mut PgConnection, statement: &'static str) -> bool {
    tokio::time::timeout(Duration::from_millis(300), connection.execute(statement)).await.is_err()
}

#[tokio::test]
async fn a_connection_goes_silent_at_the_statement_and_others_pass() {
    let (proxy, url) = Proxy::of_postgres(&server(POSTGRES)).await;
    for (moment, is_done) in [(Moment::Before("'before'"), false), (Moment::After("'after'"), true)]
    {
        let mut other = within_a_minute(PgConnection::connect(&url)).await.unwrap();
        let mut one = within_a_minute(PgConnection::connect(&url)).await.unwrap();
        let pid: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut one).await.unwrap();
        let text = if is_done {
            "select set_config('application_name', 'after', false)"
        } else {
            "select 'before'"
        };
        let silenced = proxy.silence_one(moment);
        assert!(is_silent(&mut one, text).await);
        within_a_minute(silenced).await;
        within_a_minute(other.execute("select 1")).await.unwrap();
        let name =
            sqlx::query_scalar("select application_name from pg_stat_activity where pid = $1");
        let got: String = within_a_minute(name.bind(pid).fetch_one(&mut other)).await.unwrap();
        assert_eq!(got == "after", is_done);
    }
}

#[tokio::test]
async fn silence_lasts_until_it_is_healed_for_new_connections() {
    let (proxy, url) = Proxy::of_postgres(&server(POSTGRES)).await;
    let mut old = within_a_minute(PgConnection::connect(&url)).await.unwrap();
    proxy.silence(Way::ToClient);
    assert!(is_silent(&mut old, "select 1").await);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), PgConnection::connect(&url))
            .await
            .is_err()
    );
    proxy.heal();
    let mut new = within_a_minute(PgConnection::connect(&url)).await.unwrap();
    within_a_minute(new.execute("select 1")).await.unwrap();
    assert!(is_silent(&mut old, "select 1").await, "an old one does not come back");
    proxy.cut();
    assert!(within_a_minute(new.execute("select 1")).await.is_err());
}

#[test]
fn requests_are_found_however_the_stream_is_cut() {
    let request = |kind: i16, rest: usize| {
        let length = u32::try_from(2 + rest).unwrap().to_be_bytes();
        // What follows looks like a kind and a length, and is none.
        [&length[..], &kind.to_be_bytes(), &[0, END_TXN as u8].repeat(rest / 2)].concat()
    };
    let stream = [request(0, 400), request(END_TXN, 60), request(3, 0)].concat();
    let all = [0, END_TXN, 3].map(|kind| [Passed::Begin(kind), Passed::End(kind)]).concat();
    for length in 1..stream.len() {
        let mut requests = Requests::default();
        let passed: Vec<Passed> =
            stream.chunks(length).flat_map(|piece| requests.read(piece)).collect();
        assert_eq!(passed, all, "in pieces of {length}");
    }
    let mut requests = Requests::default();
    requests.read(&stream[..406]);
    assert_eq!(requests.read(&stream[406..412]), [Passed::Begin(END_TXN)]);
}

const TOPIC: &str = "proxied-transactions";

/// A producer behind the proxy, with a transaction in which this event is.
async fn begun(proxy: &Proxy, n: i64) -> FutureProducer {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", proxy.addresses())
        .set("transactional.id", Uuid::now_v7().to_string())
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(60)).unwrap();
    producer.begin_transaction().unwrap();
    produce_numbered(&producer, TOPIC, "a", n).await;
    producer
}

fn commit(producer: FutureProducer) -> JoinHandle<KafkaResult<()>> {
    tokio::task::spawn_blocking(move || producer.commit_transaction(Duration::from_secs(60)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_while_its_request_or_its_answer_is_held_and_others_pass() {
    let scratch = ScratchDir::new("proxied").unwrap();
    let options = KafkaOptions { proxied: true, ..KafkaOptions::default() };
    let kafka = Kafka::start(scratch.path(), options).unwrap();
    let brokers = kafka.brokers();
    create_topic_of(brokers, TOPIC, 1, &[]).await;
    let proxy = Proxy::of_kafka(slice::from_ref(&kafka)).await;
    let committed = async |count: i64| {
        let arrivals = within_a_minute(read_committed(brokers, &[TOPIC])).await;
        assert_exactly_once(&arrivals, &BTreeMap::from([("a".to_owned(), count)]));
    };

    // The server does it, and the answer does not come.
    let producer = begun(&proxy, 1).await;
    let held = proxy.silence_one(Moment::AfterRequest(END_TXN));
    let commit_of_1 = commit(producer);
    within_a_minute(held).await;
    within_a_minute(commit(begun(&proxy, 2).await)).await.unwrap().unwrap();
    committed(2).await;
    assert!(!commit_of_1.is_finished());
    proxy.thaw();
    within_a_minute(commit_of_1).await.unwrap().unwrap();

    // The server does not know of it.
    let producer = begun(&proxy, 3).await;
    let held = proxy.silence_one(Moment::BeforeRequest(END_TXN));
    let commit_of_3 = commit(producer);
    within_a_minute(held).await;
    assert!(!has_no_open_transaction(brokers.to_owned(), TOPIC).await);
    assert!(!commit_of_3.is_finished());
    proxy.thaw();
    within_a_minute(commit_of_3).await.unwrap().unwrap();
    committed(3).await;

    // Each answer is held, and lost with its connection: the client asks again, and again.
    let producer = begun(&proxy, 4).await;
    let mut held = proxy.silence_each(Moment::AfterRequest(END_TXN));
    let commit_of_4 = commit(producer);
    within_a_minute(held.wait_for(|count| *count == 1)).await.unwrap();
    committed(4).await;
    proxy.cut_silent();
    within_a_minute(held.wait_for(|count| *count == 2)).await.unwrap();
    assert!(!commit_of_4.is_finished());
    proxy.thaw();
    within_a_minute(commit_of_4).await.unwrap().unwrap();
    committed(4).await;
}
