//! The retry machine on an SQLite in memory, with topics in memory: without a broker.

mod cloud_events;
mod scene;
mod shared;

use scene::{
    AWAY, DEAD_LETTERS, IN_ORDER, OWN, PERMANENT, QUICK, RETRY, Refusal, Scene, TRANSIENT, event,
    history,
};

use super::*;
use crate::consume::forward::{ERROR, ERROR_CLASS, PAYLOAD_LEFT_OUT};
use crate::consume::policy::{Undecodable, UnknownEvents};
use crate::consume::worker::Consumed;
use crate::consume::{HandlerOptions, LaterEvents};

#[tokio::test]
async fn an_event_is_handled_once_and_known_when_it_comes_again() {
    let scene = Scene::new(QUICK, []).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::Handled);
    assert_eq!(scene.settle(&event(1)).await, Settled::Duplicate);
    assert_eq!(scene.attempts(), [(1, 1)]);
    assert!(scene.topics.is_empty());
}

#[tokio::test]
async fn an_event_that_fails_is_tried_in_place_and_then_a_dead_letter_that_says_why() {
    let scene = Scene::new(QUICK.attempts(2), [TRANSIENT, TRANSIENT]).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::DeadLetter);
    assert_eq!(scene.attempts(), [(1, 1), (1, 2)]);
    let letter = scene.topics.take();
    assert_eq!(letter.topic, DEAD_LETTERS);
    assert_eq!((letter.key, letter.payload), (event(1).key, event(1).payload));
    let letter = Message { headers: letter.headers, ..Message::default() };
    assert_eq!(letter.header(ERROR_CLASS), Some("transient"));
    assert_eq!(letter.header(ERROR), Some("refused"));
    assert_eq!(letter.header(ORIGINAL_TOPIC), Some(OWN), "where it is on the brokers");
    let History { attempts, retry, offset, first_failure, .. } = letter.resumed();
    assert_eq!((attempts, retry, offset, first_failure.is_some()), (2, 0, 1, true));
}

#[tokio::test]
async fn a_permanent_failure_is_a_dead_letter_at_once() {
    let scene = Scene::new(IN_ORDER, [PERMANENT]).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::DeadLetter);
    assert_eq!(scene.topics.take().header(ERROR_CLASS), Some("permanent"));
    assert_eq!(scene.queued().await, 0);
}

#[tokio::test]
async fn later_events_of_a_key_wait_behind_one_in_a_retry_topic_and_follow_it_in_order() {
    let scene = Scene::new(IN_ORDER, [TRANSIENT]).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::InRetryTopic);
    assert_eq!(scene.settle(&event(2)).await, Settled::Queued);
    assert_eq!(scene.settle(&event(3)).await, Settled::Queued);
    assert_eq!(scene.queued().await, 3);

    let copy = scene.topics.take();
    assert_eq!(copy.topic, RETRY);
    assert_eq!(scene.settle(&copy).await, Settled::Handled);
    assert_eq!(scene.attempts(), [(1, 1), (1, 2), (2, 1), (3, 1)]);
    assert_eq!(scene.queued().await, 0);
    let Consumed { handled, .. } = scene.worker.consumed();
    assert_eq!(handled, 2, "those that were queued are counted where they are handled");
}

#[tokio::test]
async fn a_dead_letter_lets_the_queued_events_of_its_key_follow() {
    let scene = Scene::new(IN_ORDER, [TRANSIENT, TRANSIENT]).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::InRetryTopic);
    assert_eq!(scene.settle(&event(2)).await, Settled::Queued);
    assert_eq!(scene.settle(&scene.topics.take()).await, Settled::DeadLetter);
    assert_eq!(scene.attempts(), [(1, 1), (1, 2), (2, 1)]);
    assert_eq!(scene.queued().await, 0);
}

#[tokio::test]
async fn a_queued_event_that_fails_goes_to_a_retry_topic_itself_and_those_behind_it_stay() {
    let scene = Scene::new(IN_ORDER, [TRANSIENT, Ok(()), TRANSIENT]).await;
    scene.settle(&event(1)).await;
    scene.settle(&event(2)).await;
    scene.settle(&event(3)).await;
    assert_eq!(scene.settle(&scene.topics.take()).await, Settled::Handled);
    assert_eq!(scene.attempts(), [(1, 1), (1, 2), (2, 1)]);
    assert_eq!(scene.queued().await, 2);
    assert_eq!(scene.settle(&scene.topics.take()).await, Settled::Handled);
    assert_eq!(scene.attempts()[3..], [(2, 2), (3, 1)]);
}

#[tokio::test]
async fn an_event_that_comes_again_while_it_is_in_a_retry_topic_is_left_to_its_copy() {
    let scene = Scene::new(IN_ORDER, [TRANSIENT]).await;
    scene.settle(&event(1)).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::InRetryTopic);
    assert_eq!(scene.attempts(), [(1, 1)]);
    assert_eq!(scene.settle(&scene.topics.take()).await, Settled::Handled);
    assert!(scene.topics.is_empty(), "one copy");
}

#[tokio::test]
async fn with_overtake_later_events_of_the_key_are_handled_at_once() {
    const OVERTAKE: HandlerOptions =
        QUICK.retry_topics(&[Duration::from_millis(1)], LaterEvents::Overtake);
    let scene = Scene::new(OVERTAKE, [TRANSIENT]).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::InRetryTopic);
    assert_eq!(scene.settle(&event(2)).await, Settled::Handled);
    assert_eq!(scene.settle(&scene.topics.take()).await, Settled::Handled);
    assert_eq!(scene.queued().await, 0);
}

#[tokio::test]
async fn what_cannot_be_decoded_is_a_dead_letter_or_is_skipped() {
    let garbage = Message { payload: Some(b"garbage".to_vec()), ..event(1) };
    let scene = Scene::new(IN_ORDER, []).await;
    assert_eq!(scene.settle(&garbage).await, Settled::DeadLetter);
    let letter = scene.topics.take();
    assert_eq!(letter.header(ERROR_CLASS), Some("undecodable"));
    assert_eq!(letter.resumed().attempts, 0);

    let skip = (Undecodable::Skip, UnknownEvents::Skip);
    let scene = Scene::with(IN_ORDER, [], skip.0, skip.1).await;
    assert_eq!(scene.settle(&garbage).await, Settled::Skipped);
    assert!(scene.topics.is_empty() && scene.attempts().is_empty());
}

#[tokio::test]
async fn an_event_that_cannot_be_read_now_is_tried_again_and_those_of_its_key_wait() {
    let unread = Message { payload: Some(AWAY.to_vec()), ..event(1) };
    let scene = Scene::new(IN_ORDER, []).await;
    assert_eq!(scene.settle(&unread).await, Settled::InRetryTopic);
    assert_eq!(scene.settle(&event(2)).await, Settled::Queued);
    let mut copy = scene.topics.take();
    assert_eq!(copy.header(ERROR_CLASS), Some("transient"));
    assert_eq!(copy.header(ERROR), Some("the registry is away"));
    // It is there again, and the payload is what it always was.
    copy.payload = event(1).payload;
    assert_eq!(scene.settle(&copy).await, Settled::Handled);
    assert_eq!(scene.attempts(), [(1, 2), (2, 1)]);
}

#[tokio::test]
async fn an_event_of_an_unknown_name_is_skipped_or_a_dead_letter() {
    let mut unknown = event(1);
    unknown.headers[1].1 = Some(b"order.lost".to_vec());
    let scene = Scene::new(QUICK, []).await;
    assert_eq!(scene.settle(&unknown).await, Settled::PassedOver);
    assert!(scene.topics.is_empty());

    let keep = (Undecodable::DeadLetter, UnknownEvents::DeadLetter);
    let scene = Scene::with(QUICK, [], keep.0, keep.1).await;
    assert_eq!(scene.settle(&unknown).await, Settled::DeadLetter);
    let error = scene.topics.take().header(ERROR).unwrap().to_owned();
    assert!(error.contains("no handler of this group takes event `order.lost`"), "{error}");
}

#[tokio::test]
async fn an_event_too_large_for_its_retry_topic_is_a_dead_letter_without_its_payload_if_need_be() {
    let scene = Scene::new(IN_ORDER, [TRANSIENT]).await;
    scene.topics.refuse(&[(RETRY, Refusal::TooLarge), (DEAD_LETTERS, Refusal::TooLarge)]);
    assert_eq!(scene.settle(&event(1)).await, Settled::DeadLetter);
    let letter = scene.topics.take();
    assert_eq!(letter.payload, None);
    let bytes = event(1).payload.unwrap().len().to_string();
    assert_eq!(letter.header(PAYLOAD_LEFT_OUT), Some(&*bytes));
    assert_eq!(scene.queued().await, 0, "its key is free");
}

#[tokio::test]
async fn a_message_is_settled_once_its_topic_can_be_written_to_and_after_a_panic() {
    let scene = Scene::new(QUICK, [PERMANENT, PERMANENT]).await;
    scene.topics.refuse(&[(DEAD_LETTERS, Refusal::Away), (DEAD_LETTERS, Refusal::Panic)]);
    assert_eq!(scene.settle(&event(1)).await, Settled::DeadLetter);
    assert_eq!(scene.attempts(), [(1, 1), (1, 1)], "tried again after the panic");
    assert_eq!(scene.topics.take().topic, DEAD_LETTERS);
}

#[tokio::test]
async fn a_consumer_that_stops_leaves_what_it_cannot_send_unsettled() {
    let scene = Scene::new(QUICK, [PERMANENT]).await;
    scene.topics.refuse(&[(DEAD_LETTERS, Refusal::Away); 100]);
    scene.stop.send_replace(true);
    let message = event(1);
    let settled = scene.worker.settle(&message, &history(&message), None).await;
    assert!(matches!(settled, Err(Unsettled::Stopped)), "{settled:?}");
    assert!(scene.topics.is_empty());
}

#[tokio::test]
async fn a_consumer_without_its_tables_ends() {
    let scene = Scene::new(QUICK, []).await;
    let drop = sqlx::query("drop table outbox_inbox").execute(scene.worker.group.outbox.pool());
    drop.await.unwrap();
    let message = event(1);
    let settled = scene.worker.settle(&message, &history(&message), None).await;
    assert!(matches!(settled, Err(Unsettled::Fatal(_))), "{settled:?}");
}
