//! CloudEvents of other producers on all ways that a message can take.

use super::*;
use crate::consume::ForeignId;
use crate::record::{CE_ID, CE_SOURCE, CE_TYPE, CONTENT_TYPE};

fn with_headers(n: i64, headers: &[(&str, &str)]) -> Message {
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| ((*name).to_owned(), Some((*value).into())));
    Message { headers: headers.collect(), ..event(n) }
}

fn binary(n: i64) -> Message {
    let id = format!("e-{n}");
    with_headers(n, &[(CE_ID, &*id), (CE_SOURCE, "/shop"), (CE_TYPE, "order.created")])
}

/// The same event.
fn structured(n: i64) -> Message {
    let envelope = format!(
        r#"{{"specversion":"1.0","id":"e-{n}","source":"/shop","type":"order.created","data":{{"n":{n}}}}}"#
    );
    let headers = [(CONTENT_TYPE, "application/cloudevents+json; charset=UTF-8")];
    Message { payload: Some(envelope.into_bytes()), ..with_headers(n, &headers) }
}

#[tokio::test]
async fn it_is_known_again_by_its_source_and_id_in_both_modes() {
    let scene = Scene::new(QUICK, []).await;
    assert_eq!(scene.settle(&binary(1)).await, Settled::Handled);
    for again in [binary(1), structured(1)] {
        let elsewhere = Message { partition: 2, offset: 77, ..again };
        assert_eq!(scene.settle(&elsewhere).await, Settled::Duplicate);
    }
    assert_eq!(scene.settle(&structured(2)).await, Settled::Handled);
    assert_eq!(scene.attempts(), [(1, 1), (2, 1)]);
}

#[tokio::test]
async fn it_stays_itself_in_a_retry_topic_in_the_queue_of_its_key_and_as_it_comes_again() {
    for of in [binary, structured] {
        let scene = Scene::new(IN_ORDER, [TRANSIENT]).await;
        assert_eq!(scene.settle(&of(1)).await, Settled::InRetryTopic);
        assert_eq!(scene.settle(&of(2)).await, Settled::Queued);
        assert_eq!(scene.settle(&of(1)).await, Settled::InRetryTopic, "its copy is there");
        let copy = scene.topics.take();
        assert_eq!((&copy.topic[..], &copy.payload), (RETRY, &of(1).payload));
        assert_eq!(scene.settle(&copy).await, Settled::Handled);
        assert_eq!(scene.attempts(), [(1, 1), (1, 2), (2, 1)]);
        assert_eq!(scene.queued().await, 0);
        for n in [1, 2] {
            assert_eq!(scene.settle(&of(n)).await, Settled::Duplicate);
        }
    }
}

#[tokio::test]
async fn its_dead_letter_is_as_it_came_and_the_same_event_when_it_is_replayed() {
    for of in [binary, structured] {
        let scene = Scene::new(QUICK, [PERMANENT]).await;
        assert_eq!(scene.settle(&of(1)).await, Settled::DeadLetter);
        let letter = scene.topics.take();
        assert_eq!((&letter.topic[..], &letter.payload), (DEAD_LETTERS, &of(1).payload));
        assert_eq!(letter.headers[..of(1).headers.len()], of(1).headers);
        let replayed = Message { topic: RETRY.to_owned(), partition: 9, offset: 9, ..letter };
        assert_eq!(scene.settle(&replayed).await, Settled::Handled);
        assert_eq!(scene.settle(&of(1)).await, Settled::Duplicate);
    }
}

#[tokio::test]
async fn a_dead_letter_without_its_envelope_says_which_event_it_was() {
    let scene = Scene::new(QUICK, [PERMANENT]).await;
    scene.topics.refuse(&[(DEAD_LETTERS, Refusal::TooLarge)]);
    assert_eq!(scene.settle(&structured(1)).await, Settled::DeadLetter);
    let letter = scene.topics.take();
    assert_eq!((letter.payload(), letter.name()), (None, Some(("order.created", 1))));
    assert_eq!((letter.header(CE_ID), letter.header(CE_SOURCE)), (Some("e-1"), Some("/shop")));
}

/// A handler with `foreign` takes messages that say nothing of their event. This one says something
/// that cannot be read.
#[tokio::test]
async fn a_malformed_envelope_is_a_dead_letter_that_says_why_whatever_its_handler_takes() {
    for options in [QUICK, QUICK.foreign(ForeignId::Place)] {
        let scene = Scene::new(options, []).await;
        let payload = br#"{"n":1,"specversion":"1.0","source":"/shop","type":"order.created"}"#;
        let malformed = Message { payload: Some(payload.to_vec()), ..structured(1) };
        assert_eq!(scene.settle(&malformed).await, Settled::DeadLetter);
        let letter = scene.topics.take();
        assert_eq!(letter.payload.as_deref(), Some(&payload[..]));
        assert_eq!(letter.header(ERROR_CLASS), Some("undecodable"));
        let error = letter.header(ERROR).unwrap_or_default();
        assert!(error.contains("structured mode") && error.contains("`id` is missing"), "{error}");
        assert_eq!(scene.attempts(), []);
    }
}
