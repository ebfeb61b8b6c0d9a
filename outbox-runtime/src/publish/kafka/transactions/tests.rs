//! On a real Kafka, judged by independent consumers that read what is committed.

mod scene;

use self::scene::{Scene, event};
use super::*;
use crate::error::ErrorKind;
use crate::publish::DeliveryReport;
use crate::publish::transactions::{Closed, GroupSession as _};
use crate::record::StoredEvent;

fn all_delivered(reports: &[DeliveryReport]) -> bool {
    reports.iter().all(DeliveryReport::is_delivered)
}

#[tokio::test]
async fn events_and_progress_of_a_committed_wave_appear_together_and_those_of_an_aborted_one_never()
{
    let scene = Scene::begin(4).await;
    let (session, progress) = scene.open(0).await;
    assert_eq!(progress, None, "nothing was ever published");

    let mut expected = Vec::new();
    for wave in 0..6 {
        let is_committed = wave % 3 != 1;
        session.begin().await.unwrap();
        let batches = [0, 1, 2].map(|batch| {
            [0, 1].map(|of| event(&format!("key-{batch}"), &format!("{wave}.{batch}.{of}")))
        });
        let [a, b, c] = &batches;
        let sent =
            tokio::join!(scene.send(&session, a), scene.send(&session, b), scene.send(&session, c));
        assert!(all_delivered(&sent.0) && all_delivered(&sent.1) && all_delivered(&sent.2));
        assert_eq!(scene.events(), expected, "before the end of wave {wave}");
        if is_committed {
            session.commit(vec![wave]).await.unwrap();
            let sent = batches.iter().flatten().map(|event| event.record.payload.clone().unwrap());
            expected.extend(sent.map(|payload| String::from_utf8(payload.to_vec()).unwrap()));
            expected.sort();
        } else {
            session.abort().await.unwrap();
        }
        assert_eq!(scene.events(), expected, "after the end of wave {wave}");
    }
    let progress: Vec<_> = scene.progress().into_iter().collect();
    assert_eq!(progress, [(0, vec![vec![0], vec![2], vec![3], vec![5]])]);
    let (_, progress) = scene.open(0).await;
    assert_eq!(progress, Some(vec![5]));
}

#[tokio::test]
async fn a_second_session_fences_the_first_one_and_reads_what_that_has_committed() {
    let scene = Scene::begin(2).await;
    let (first, _) = scene.open(0).await;
    first.begin().await.unwrap();
    assert!(all_delivered(&scene.send(&first, &[event("a", "kept")]).await));
    first.commit(b"kept".to_vec()).await.unwrap();
    first.begin().await.unwrap();
    assert!(all_delivered(&scene.send(&first, &[event("a", "fenced")]).await));

    let (second, progress) = scene.open(0).await;
    assert_eq!(progress.as_deref(), Some(&b"kept"[..]));
    let Closed(error) = first.commit(b"fenced".to_vec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kafka);
    let said = error.to_string();
    assert!(said.contains("Nothing is lost"), "{said}");
    first.begin().await.unwrap_err();
    first.abort().await.unwrap_err();
    assert!(matches!(*scene.send(&first, &[event("a", "late")]).await, [DeliveryReport::NotSent]));

    second.begin().await.unwrap();
    assert!(all_delivered(&scene.send(&second, &[event("a", "second")]).await));
    second.commit(b"second".to_vec()).await.unwrap();
    drop(first);
    assert_eq!(scene.events(), ["kept", "second"]);
    assert_eq!(scene.progress()[&0], [b"kept".to_vec(), b"second".to_vec()]);
}

/// Between its waves it has nothing open that could be ended: it learns of its successor when it
/// writes.
#[tokio::test]
async fn a_session_that_slept_between_two_waves_publishes_nothing_more() {
    let scene = Scene::begin(1).await;
    let (first, _) = scene.open(0).await;
    for wave in 0..6 {
        first.begin().await.unwrap();
        assert!(all_delivered(&scene.send(&first, &[event("a", &format!("{wave}"))]).await));
        first.commit(vec![wave]).await.unwrap();
    }
    let (_second, progress) = scene.open(0).await;
    assert_eq!(progress, Some(vec![5]));
    first.begin().await.unwrap();
    let reports = scene.send(&first, &[event("a", "late")]).await;
    assert!(matches!(*reports, [DeliveryReport::NotSent]), "no fault of the event: {reports:?}");
    first.abort().await.unwrap_err();
    assert_eq!(scene.events().len(), 6);
}

/// The brokers refuse what was sent behind it as out of order, and librdkafka would send that again
/// in a transaction that can only be aborted.
#[tokio::test]
async fn what_was_sent_behind_a_refused_event_is_not_taken_for_a_topic_that_takes_nothing() {
    let scene =
        Scene::begin_with(1, &[("batch.num.messages", "1"), ("compression.type", "none")]).await;
    scene.create("small", 1, &[("max.message.bytes", "2000")]).await;
    let (session, _) = scene.open(0).await;
    let of = |payload: &str| {
        let mut event = event("a", payload);
        event.record.topic = "small".into();
        event
    };
    for _ in 0..20 {
        session.begin().await.unwrap();
        let mut events: Vec<_> = (0..50).map(|n| of(&format!("{n}"))).collect();
        events[3] = of(&"x".repeat(5_000));
        let reports = scene.send(&session, &events).await;
        assert!(matches!(reports[3], DeliveryReport::EventRefused(_)), "{:?}", reports[3]);
        session.abort().await.unwrap();
        let stalls = &scene.publisher.producers.stalls;
        assert!(!stalls.are_any(std::time::Instant::now()), "the topic is refused");
    }
}

#[tokio::test]
async fn a_refused_event_is_named_its_wave_is_aborted_and_the_session_goes_on() {
    let scene = Scene::begin(2).await;
    let (session, _) = scene.open(0).await;
    let mut unknown = event("a", "unknown");
    unknown.record.topic = "no-such-topic".into();
    let large = event("b", &"x".repeat(1_100_000));
    for (refused, name) in [(large, "too large"), (unknown, "unknown topic")] {
        session.begin().await.unwrap();
        let (bad, good) =
            ([event("c", "before"), refused.clone()], [event("d", "beside"), event("d", "it")]);
        let (bad, good) = tokio::join!(scene.send(&session, &bad), scene.send(&session, &good));
        let culprits = bad.iter().chain(&good).filter(|report| report.is_refusal()).count();
        assert_eq!(culprits, 1, "{name}: {bad:?} {good:?}");
        match &bad[1] {
            DeliveryReport::EventRefused(error) | DeliveryReport::TopicRefused(error) => {
                assert!(error.to_string().contains("stays in the outbox"), "{error}");
            }
            other => panic!("{name}: {other:?}"),
        }
        session.abort().await.unwrap();

        session.begin().await.unwrap();
        assert!(all_delivered(&scene.send(&session, &[event("c", name)]).await));
        session.commit(name.into()).await.unwrap();
    }
    assert_eq!(scene.events(), ["too large", "unknown topic"]);
}

/// By the broker, which knows only the whole request.
#[tokio::test]
async fn a_wave_that_the_broker_refuses_is_aborted_and_the_session_goes_on() {
    let scene = Scene::begin(1).await;
    let (session, _) = scene.open(0).await;
    session.begin().await.unwrap();
    let mut keyless = event("", "keyless");
    keyless.record.key = None;
    keyless.record.topic = "compacted".into();
    let reports = scene.send(&session, &[keyless]).await;
    assert!(reports[0].is_refusal(), "{reports:?}");
    session.abort().await.unwrap();
    session.begin().await.unwrap();
    assert!(all_delivered(&scene.send(&session, &[event("a", "after")]).await));
    session.commit(vec![1]).await.unwrap();
    assert_eq!(scene.events(), ["after"]);
}

#[tokio::test]
async fn a_wave_with_an_event_that_was_not_delivered_is_never_committed() {
    let scene = Scene::begin(1).await;
    let (session, _) = scene.open(0).await;
    session.begin().await.unwrap();
    assert!(all_delivered(&scene.send(&session, &[event("a", "good")]).await));
    let large = event("b", &"x".repeat(1_100_000));
    assert!(scene.send(&session, &[large]).await[0].is_refusal());
    session.commit(vec![1]).await.unwrap_err();
    drop(session);
    let (session, progress) = scene.open(0).await;
    assert_eq!((scene.events(), progress), (vec![], None));

    // A batch whose future is dropped may have been sent in part.
    session.begin().await.unwrap();
    let batch: Vec<StoredEvent> =
        (0..2_000).map(|number| event("a", &number.to_string())).collect();
    let sent = tokio::select! {
        biased;
        _ = scene.send(&session, &batch) => true,
        () = tokio::task::yield_now() => false,
    };
    assert!(!sent);
    session.commit(vec![1]).await.unwrap_err();
}

#[tokio::test]
async fn two_hundred_waves_in_a_row_are_committed_in_their_order() {
    let scene = Scene::begin(1).await;
    let (session, _) = scene.open(0).await;
    for wave in 0..200 {
        session.begin().await.unwrap();
        let events = [0, 1, 2].map(|of| event("a", &format!("{wave:03}.{of}")));
        assert!(all_delivered(&scene.send(&session, &events).await));
        session.commit(vec![wave]).await.unwrap();
    }
    let events = scene.events_in_order();
    assert_eq!(events.len(), 600);
    assert!(events.is_sorted(), "{events:?}");
    assert_eq!(scene.progress()[&0].len(), 200);
    // More than what is read first from the end.
    assert_eq!(scene.open(0).await.1, Some(vec![199]));
}

#[tokio::test]
async fn groups_are_independent_of_each_other() {
    let scene = Scene::begin(4).await;
    let mut sessions = Vec::new();
    for group in 0..3 {
        sessions.push(scene.open(group).await.0);
    }
    for session in &sessions {
        session.begin().await.unwrap();
    }
    for (group, session) in sessions.iter().enumerate() {
        let events = [event("a", &format!("of {group}"))];
        assert!(all_delivered(&scene.send(session, &events).await));
    }
    sessions[1].abort().await.unwrap();
    sessions[2].commit(b"two".to_vec()).await.unwrap();
    sessions[0].commit(b"zero".to_vec()).await.unwrap();
    assert_eq!(scene.events(), ["of 0", "of 2"]);
    for (group, progress) in [(0, Some("zero")), (1, None), (2, Some("two"))] {
        let read = scene.open(group).await.1;
        assert_eq!(read.as_deref(), progress.map(str::as_bytes), "group {group}");
    }
}

#[tokio::test]
async fn progress_is_found_behind_any_number_of_aborted_waves() {
    let scene = Scene::begin(1).await;
    let (session, _) = scene.open(0).await;
    session.begin().await.unwrap();
    session.commit(b"the one".to_vec()).await.unwrap();
    drop(session);
    // As a relay leaves them that dies before each commit.
    scene.abort_progress(0, 2_500);
    assert_eq!(scene.open(0).await.1.as_deref(), Some(&b"the one"[..]));
}

#[tokio::test]
async fn a_topic_that_would_lose_progress_is_refused() {
    let scene = Scene::begin(1).await;
    scene.create("outbox-shop-progress", 3, &[("cleanup.policy", "compact,delete")]).await;
    let error = scene.publisher.open(&scene.group(0)).await.map(|_| ()).unwrap_err();
    let said = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(said.contains("compact,delete") && said.contains("Set it to `compact`"), "{said}");

    let scene = Scene::begin(1).await;
    scene.create("outbox-shop-progress", 2, &[("cleanup.policy", "compact")]).await;
    let error = scene.publisher.open(&scene.group(0)).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("2 partitions") && error.contains("3 groups"), "{error}");
}

#[tokio::test]
async fn how_many_replicas_a_topic_asks_for_is_read_from_the_brokers() {
    let scene = Scene::begin(1).await;
    scene.create("strict", 1, &[("min.insync.replicas", "3")]).await;
    for (topic, least) in [("orders", Some(1)), ("strict", Some(3)), ("nowhere", None)] {
        let topic = scene.publisher.deployment.prefix.on_brokers(topic);
        assert_eq!(scene.publisher.producers.least_in_sync(&topic).await, least, "{topic}");
    }
}
