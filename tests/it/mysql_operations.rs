//! What an operator sees on MySQL, where a published event leaves its table and numbers say nothing
//! of commits: looking at events as they come, and what is set aside as it is.

use std::time::{Duration, SystemTime};

use outbox::Outbox;
use outbox::admin::{EventTail, ParkedFilter, TailLook};
use outbox::testing::MemoryPublisher;
use sqlx::MySql;
use uuid::Uuid;

use crate::mysql::{new_outbox, open_with_event};
use crate::support::log::Log;
use crate::support::parked::one_is_parked;
use crate::support::relays::{RunningRelay, drain, drained, new_relay, quick, until_parked};
use crate::support::{OrderCreated, commit, eventually};

const AN_HOUR: Duration = Duration::from_secs(3600);

/// The keys and numbers that are shown now.
async fn shown(tail: &mut EventTail<MySql>) -> Vec<(String, i64)> {
    let mut shown = Vec::new();
    loop {
        let TailLook { events, has_more, not_shown, is_interrupted, .. } =
            tail.look().await.unwrap();
        assert_eq!((not_shown, is_interrupted), (0, false));
        let key = |key: Option<Vec<u8>>| String::from_utf8(key.unwrap()).unwrap();
        shown.extend(events.into_iter().map(|event| (key(event.key), event.seq)));
        if !has_more {
            return shown;
        }
    }
}

fn keys(shown: &[(String, i64)]) -> Vec<&str> {
    shown.iter().map(|(key, _)| &**key).collect()
}

async fn commit_one(outbox: &Outbox<MySql>, customer: &str) {
    commit(outbox, [OrderCreated::new(customer, 1)]).await;
}

/// Has all be published, with copies that are kept.
async fn publish_and_retain(outbox: &Outbox<MySql>) {
    drain(new_relay(outbox, MemoryPublisher::new()).retention(AN_HOUR)).await.unwrap();
}

#[tokio::test]
async fn what_commits_late_is_shown_once_after_what_came_before_it() {
    let outbox = new_outbox().await;
    let mut tail = outbox.tail();
    assert_eq!(shown(&mut tail).await, []);
    let first = open_with_event(&outbox, "late", 1).await;
    let second = open_with_event(&outbox, "gone", 1).await;
    for customer in ["a", "b"] {
        commit_one(&outbox, customer).await;
        assert_eq!(keys(&shown(&mut tail).await), [customer]);
    }
    second.rollback().await.unwrap();
    first.commit().await.unwrap();
    assert_eq!(keys(&shown(&mut tail).await), ["late"]);
    commit_one(&outbox, "c").await;
    assert_eq!(keys(&shown(&mut tail).await), ["c"]);
    assert_eq!(shown(&mut tail).await, []);
}

/// What was drawn before the first look commits after it.
#[tokio::test]
async fn what_commits_after_the_first_look_is_shown_in_an_empty_outbox_too() {
    let outbox = new_outbox().await;
    commit_one(&outbox, "before").await;
    drained(&outbox).await;
    let late = open_with_event(&outbox, "late", 1).await;
    let mut tail = outbox.tail();
    assert_eq!(shown(&mut tail).await, []);
    late.commit().await.unwrap();
    assert_eq!(keys(&shown(&mut tail).await), ["late"]);
}

/// An event is in one table after the other.
#[tokio::test]
async fn an_event_is_shown_once_though_it_is_published_or_parked_and_published_later() {
    let outbox = new_outbox().await;
    let mut tail = outbox.tail();
    assert_eq!(shown(&mut tail).await, []);
    let kafka = MemoryPublisher::new();
    let parked = one_is_parked(&outbox, &kafka).await;
    let all = shown(&mut tail).await;
    assert_eq!(keys(&all), ["poisoned"; 5], "two are published, and three are parked");
    assert!(outbox.discard_parked(parked[0].event.id).await.unwrap());
    kafka.accept_all();
    outbox.release_all_parked().await.unwrap();
    let relay = RunningRelay::start(quick(&outbox, kafka).retention(AN_HOUR));
    until_parked(&outbox, 0).await;
    relay.stop().await;
    assert_eq!(shown(&mut tail).await, []);

    commit_one(&outbox, "a").await;
    publish_and_retain(&outbox).await;
    assert_eq!(keys(&shown(&mut tail).await), ["a"], "published before the look");
    commit_one(&outbox, "b").await;
    drained(&outbox).await;
    assert_eq!(shown(&mut tail).await, [], "published before the look, and nothing is left of it");
    commit_one(&outbox, "c").await;
    assert_eq!(keys(&shown(&mut tail).await), ["c"]);
}

#[tokio::test]
async fn the_past_is_shown_from_a_time_on_whether_it_is_published_or_not() {
    let outbox = new_outbox().await;
    let before = SystemTime::now();
    let payload = OrderCreated::new("a", 1);
    commit_one(&outbox, "a").await;
    publish_and_retain(&outbox).await;
    for n in 0..700 {
        commit_one(&outbox, if n == 600 { "c" } else { "b" }).await;
    }
    let mut tail = outbox.tail().since(before - Duration::from_secs(1));
    let past = shown(&mut tail).await;
    assert_eq!((past.len(), &*past[0].0), (701, "a"));
    assert!(past.is_sorted_by(|(_, one), (_, next)| one < next));
    let mut of_key = outbox.tail().since(before).key("c").topic("order-events").topic("none");
    assert_eq!(keys(&shown(&mut of_key).await), ["c"]);
    let mut none = outbox.tail().since(SystemTime::now() + AN_HOUR);
    assert_eq!(shown(&mut none).await, []);
    let mut with_payload = outbox.tail().since(before).key("a").payloads();
    let look = with_payload.look().await.unwrap();
    let shown: OrderCreated =
        serde_json::from_slice(look.events[0].payload.as_deref().unwrap()).unwrap();
    assert_eq!(shown, payload);
}

#[tokio::test]
async fn more_than_is_shown_is_counted_and_what_comes_then_is_shown() {
    let outbox = new_outbox().await;
    let mut tail = outbox.tail();
    assert_eq!(shown(&mut tail).await, []);
    for _ in 0..25 {
        commit(&outbox, (0..500).map(|n| OrderCreated::new("a", n))).await;
    }
    let (mut events, mut not_shown) = (0, 0);
    loop {
        let look = tail.look().await.unwrap();
        (events, not_shown) = (events + look.events.len(), not_shown + look.not_shown);
        if !look.has_more {
            break;
        }
    }
    assert_eq!((events, not_shown), (10_000, 2_500));
    commit_one(&outbox, "b").await;
    assert_eq!(keys(&shown(&mut tail).await), ["b"]);
}

/// It is in the table of parked events only then, where an operator finds what was written.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_parked_as_it_is() {
    let outbox = new_outbox().await;
    let id = Uuid::now_v7();
    let by_hand = "\
insert into outbox_event (lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at)
values (3, ?, 'order-events', 'k', 'by.hand', -7, 'text/plain', x'ff00', x'00ff', 9223372036854775807)";
    sqlx::query(by_hand).bind(id).execute(outbox.pool()).await.unwrap();
    let relay = RunningRelay::start(quick(&outbox, MemoryPublisher::new()));
    until_parked(&outbox, 1).await;
    relay.stop().await;
    let kept = "\
select count(*) from outbox_parked where id = ? and event_key = 'k' and name = 'by.hand' and version = -7
  and headers = x'ff00' and payload = x'00ff' and occurred_at = 9223372036854775807 and not exists (select 1 from outbox_event)";
    let kept: i64 = sqlx::query_scalar(kept).bind(id).fetch_one(outbox.pool()).await.unwrap();
    assert_eq!(kept, 1);
    let reason = ParkedFilter::all().reason("*CANNOT BE READ*");
    assert_eq!(outbox.count_parked(&reason).await.unwrap(), 1);
}

/// Far more than a statement has parameters for.
#[tokio::test]
async fn a_parked_event_is_found_among_any_number_of_ids_and_by_any_sign_of_its_reason() {
    let outbox = new_outbox().await;
    let kafka = MemoryPublisher::new();
    kafka.refuse(|_| Some(r"100% of C:\a_b".to_owned()));
    let relay = RunningRelay::start(quick(&outbox, kafka));
    commit_one(&outbox, "a").await;
    let parked = until_parked(&outbox, 1).await;
    relay.stop().await;
    let ids = (0..100_000).map(|_| Uuid::now_v7()).chain([parked[0].event.id]);
    let count = async |filter: ParkedFilter| outbox.count_parked(&filter).await.unwrap();
    assert_eq!(count(ParkedFilter::all().ids(ids)).await, 1);
    assert_eq!(count(ParkedFilter::all().ids([])).await, 0);
    for (pattern, found) in
        [(r"100% of c:\A_B", 1), (r"100% OF C:\a?b", 1), (r"1001 of c:\a_b", 0), ("*a1b", 0)]
    {
        assert_eq!(count(ParkedFilter::all().reason(pattern)).await, found, "{pattern}");
    }
}

#[tokio::test]
async fn a_relay_on_tables_that_nobody_emits_into_says_which_others_there_are() {
    let used = new_outbox().await;
    commit_one(&used, "a").await;
    let mistyped = Outbox::builder(used.pool().clone()).table_prefix("outbx_").build().unwrap();
    mistyped.migrate().await.unwrap();
    let (log, _guard) = Log::of_this_thread("warn");
    let relay = RunningRelay::start(new_relay(&mistyped, MemoryPublisher::new()));
    let (database,): (String,) =
        sqlx::query_as("select database()").fetch_one(used.pool()).await.unwrap();
    log.until_it_says(&["nothing was ever emitted", "outbx_", &format!("{database}.outbox_")])
        .await;
    relay.abort().await;
}

#[tokio::test]
async fn space_of_what_is_retained_comes_back_when_it_is_old() {
    let outbox = new_outbox().await;
    for _ in 0..5 {
        commit(&outbox, (0..500).map(|n| OrderCreated::new("a", n))).await;
    }
    publish_and_retain(&outbox).await;
    commit_one(&outbox, "pending").await;
    let rows = async |table: &str| -> i64 {
        let count = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(count).fetch_one(outbox.pool()).await.unwrap()
    };
    assert_eq!(outbox.reclaim(AN_HOUR).await.unwrap(), 0);
    assert_eq!(rows("outbox_sent").await, 2_500);
    eventually("it is reclaimed", async || outbox.reclaim(Duration::ZERO).await.unwrap() == 2_500)
        .await;
    assert_eq!((rows("outbox_sent").await, rows("outbox_event").await), (0, 1));
}
