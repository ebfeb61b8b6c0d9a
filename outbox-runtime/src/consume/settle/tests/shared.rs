//! Transactions that events share.

use super::*;

const SHARED: HandlerOptions = QUICK.shared_transaction(10);
const SHARED_IN_ORDER: HandlerOptions = IN_ORDER.shared_transaction(10);

impl Scene {
    async fn settle_shared(&self, numbers: impl IntoIterator<Item = i64>) -> Option<Vec<Settled>> {
        let messages: Vec<_> = numbers.into_iter().map(event).collect();
        self.settle_all(&messages).await
    }

    async fn settle_all(&self, messages: &[Message]) -> Option<Vec<Settled>> {
        let histories: Vec<_> = messages.iter().map(history).collect();
        let messages: Vec<_> = messages.iter().zip(&histories).collect();
        self.worker.settle_shared(&messages).await
    }

    async fn in_inbox(&self) -> i64 {
        sqlx::query_scalar("select count(*) from outbox_inbox")
            .fetch_one(self.worker.group.outbox.pool())
            .await
            .unwrap()
    }

    fn shares(&self, message: &Message) -> Option<u32> {
        self.worker.shares(message, &history(message))
    }
}

#[tokio::test]
async fn events_share_a_transaction_and_each_is_in_the_inbox_and_known_when_it_comes_again() {
    let scene = Scene::new(SHARED, []).await;
    assert_eq!(scene.settle_shared([1, 2, 3]).await, Some(vec![Settled::Handled; 3]));
    assert_eq!(scene.in_inbox().await, 3);
    assert_eq!(scene.settle_shared([3, 2]).await, Some(vec![Settled::Duplicate; 2]));
    let (new, known) = (Settled::Handled, Settled::Duplicate);
    assert_eq!(scene.settle_shared([3, 4, 4, 5]).await, Some(vec![known, new, known, new]));
    assert_eq!(scene.settle(&event(5)).await, Settled::Duplicate);
    assert_eq!(scene.attempts(), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    assert_eq!(scene.in_inbox().await, 5);
}

#[tokio::test]
async fn of_a_transaction_in_which_an_event_fails_nothing_is_left_and_no_attempt_counts() {
    for fails in [TRANSIENT, PERMANENT] {
        let scene = Scene::new(SHARED.attempts(2), [Ok(()), fails]).await;
        assert_eq!(scene.settle_shared([1, 2, 3]).await, None);
        assert_eq!((scene.in_inbox().await, scene.topics.is_empty()), (0, true));
        for n in 1..=3 {
            assert_eq!(scene.settle(&event(n)).await, Settled::Handled);
        }
        assert_eq!(scene.attempts(), [(1, 1), (2, 1), (1, 1), (2, 1), (3, 1)]);
    }
}

#[tokio::test]
async fn nothing_is_handled_with_what_cannot_be_read() {
    let scene = Scene::new(SHARED, []).await;
    let garbage = Message { payload: Some(b"garbage".to_vec()), ..event(2) };
    assert_eq!(scene.settle_all(&[event(1), garbage.clone()]).await, None);
    assert_eq!((scene.attempts().len(), scene.in_inbox().await), (0, 0));
    assert_eq!(scene.settle(&garbage).await, Settled::DeadLetter);
}

#[tokio::test]
async fn no_event_overtakes_an_earlier_one_of_its_key_that_is_in_a_retry_topic() {
    let scene = Scene::new(SHARED_IN_ORDER, [TRANSIENT]).await;
    assert_eq!(scene.settle(&event(1)).await, Settled::InRetryTopic);
    assert_eq!(scene.settle_shared([2, 3]).await, None);
    // The record of it may be all that there is of the event that failed.
    assert_eq!(scene.settle_shared([1]).await, None);
    let other = Message { key: Some(b"bob".to_vec()), ..event(4) };
    assert_eq!(scene.settle_all(&[other]).await, Some(vec![Settled::Handled]));
    assert_eq!(scene.settle(&event(2)).await, Settled::Queued);
    assert_eq!(scene.settle(&scene.topics.take()).await, Settled::Handled);
    assert_eq!(scene.attempts(), [(1, 1), (4, 1), (1, 2), (2, 1)]);
    assert_eq!(scene.settle_shared([3]).await, Some(vec![Settled::Handled]));
}

#[tokio::test]
async fn only_events_that_come_for_the_first_time_share() {
    let scene = Scene::new(SHARED_IN_ORDER, [TRANSIENT]).await;
    assert_eq!(scene.shares(&event(1)), Some(10));
    assert_eq!(scene.shares(&Message { kept: true, ..event(1) }), None);
    scene.settle(&event(1)).await;
    assert_eq!(scene.shares(&scene.topics.take()), None);
    let mut unknown = event(1);
    unknown.headers[1].1 = Some(b"order.lost".to_vec());
    assert_eq!(scene.shares(&unknown), None);
    assert_eq!(scene.shares(&Message { headers: Vec::new(), ..event(1) }), None);
    assert_eq!(Scene::new(QUICK, []).await.shares(&event(1)), None);
}

#[tokio::test]
async fn while_the_database_is_away_nothing_is_handled() {
    let scene = Scene::new(SHARED, []).await;
    let drop = sqlx::query("drop table outbox_inbox").execute(scene.worker.group.outbox.pool());
    drop.await.unwrap();
    assert_eq!(scene.settle_shared([1, 2]).await, None);
    assert_eq!(scene.attempts(), []);
}
