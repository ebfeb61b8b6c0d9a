//! What an operator learns of consumer groups, on a real Kafka and a real Postgres: how far they
//! are, which keys wait, and which topics they need.

use std::time::{Duration, SystemTime};

use crate::support::consumers::{
    QUICK, Scripted, TRANSIENT, consume, consumer_outbox, publish, until_handled,
};
use crate::support::topics::create_topic;
use crate::support::{eventually, kafka};
use outbox::consume::{ConsumerGroups, GroupLag, GroupTopics, LaterEvents};

async fn lag_of(topic: &str) -> Vec<GroupLag> {
    ConsumerGroups::new(kafka()).topic(topic).lag().await.unwrap()
}

/// Longer than a test.
const HOUR: &[Duration] = &[Duration::from_secs(3_600)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_of_a_group_its_oldest_event_and_its_waiting_keys_are_known() {
    event_on_topic!(Created, "groups-lag");
    create_topic(Created::TOPIC, 3, &[]).await;
    let outbox = consumer_outbox().await;
    let before = SystemTime::now() - Duration::from_secs(60);
    publish(&outbox, ["stuck", "stuck", "well"].map(|key| Created::new(key, 1))).await;
    let options = QUICK.attempts(1).retry_topics(HOUR, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("lagging", options, |customer, _, _| async move {
        if customer == "stuck" { TRANSIENT } else { Ok(()) }
    });
    let consumer = consume(&outbox, &handler);
    until_handled(&outbox, "lagging", 1).await;
    let waits = async || {
        let waiting = outbox.waiting_keys().await.unwrap();
        waiting.first().is_some_and(|of| of.kept == 1)
    };
    eventually("the second event waits behind the first", waits).await;
    let waiting = outbox.waiting_keys().await.unwrap();
    let [waiting] = &*waiting else { panic!("{waiting:?}") };
    assert_eq!((&*waiting.group, &*waiting.topic, waiting.keys), ("lagging", "groups-lag", 1));
    assert!(before < waiting.since, "{waiting:?}");

    let with_member = async || lag_of(Created::TOPIC).await[0].members == Some(1);
    eventually("the group has a member", with_member).await;
    consumer.stop().await;
    let lag = lag_of(Created::TOPIC).await;
    let [lag] = &*lag else { panic!("{lag:?}") };
    assert_eq!((&*lag.group, &*lag.topic), ("lagging", "groups-lag"));
    assert_eq!((lag.lag, lag.oldest), (0, None), "all are handled, or kept");
    assert_eq!(lag.in_retry_topics, 1);

    publish(&outbox, (0..20).map(|n| Created::new(format!("c{n}"), n))).await;
    let lag = lag_of(Created::TOPIC).await.remove(0);
    assert_eq!((lag.lag, lag.members), (20, Some(0)));
    let oldest = lag.oldest.unwrap();
    assert!(before < oldest && oldest < SystemTime::now() + Duration::from_secs(60), "{lag:?}");
    let none = ConsumerGroups::new(kafka()).group("another").topic(Created::TOPIC).lag().await;
    assert_eq!(none.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_needs_is_planned_created_and_compared() {
    create_topic("groups-planned", 4, &[("max.message.bytes", "300000")]).await;
    let topics = GroupTopics::builder(kafka()).topic("groups-planned").group("planned");
    let topics = topics.retry_delay(Duration::from_secs(10)).build().unwrap();
    let plan = topics.plan().await.unwrap();
    assert_eq!((plan.source_partitions, &*plan.existing), (Some(4), &[][..]));
    let names: Vec<&str> = plan.missing.iter().map(|missing| &*missing.name).collect();
    let all = ["planned.dlt", "planned.retry.0", "planned.retry.10s"];
    assert_eq!(names, all.map(|name| format!("groups-planned.{name}")));
    assert!(plan.missing.iter().all(|missing| missing.partitions == Some(4)));

    topics.create(&plan).await.unwrap();
    topics.create(&plan).await.unwrap(); // by somebody else, meanwhile
    let created = async || topics.plan().await.unwrap().missing.is_empty();
    eventually("they are created", created).await;
    let plan = topics.plan().await.unwrap();
    assert_eq!((plan.existing.len(), &*plan.faults, &*plan.unreadable), (3, &[][..], &[][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_would_lose_events_is_found_with_what_it_needs() {
    create_topic("groups-wrong", 1, &[("max.message.bytes", "2000000")]).await;
    create_topic("groups-wrong.wrong.dlt", 1, &[("cleanup.policy", "compact")]).await;
    let topics = GroupTopics::builder(kafka()).topic("groups-wrong").group("wrong");
    let plan = topics.build().unwrap().plan().await.unwrap();
    let wrong: Vec<_> = plan.faults.iter().map(|fault| (fault.setting, &*fault.needs)).collect();
    assert_eq!(wrong, [("cleanup.policy", "delete"), ("max.message.bytes", "2065536")]);
    assert!(plan.faults[0].loses && plan.faults[0].said.contains("deletes all events of a key"));
}
