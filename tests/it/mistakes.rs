//! The page of likely mistakes, `docs/guide/mistakes.md`, shows what is really said: by the
//! compiler, in the cases of `tests/ui/fail`, and by the outbox, in the scenes here.

use std::time::Duration;

use crate::support::migrated;
use outbox::consume::{Consumer, EventContext, handler_fn};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, Relay};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;

const PAGE: &str = "docs/guide/mistakes.md";

/// Where the page names a file or a scene, `<!-- like this -->`, the block of code after it is that
/// file, or what the scene says.
#[tokio::test]
async fn the_page_of_likely_mistakes_shows_what_is_really_said() {
    let page = read(PAGE);
    let mut right = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        right.push_str(line);
        right.push('\n');
        let named = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(named) = named else { continue };
        let fence = lines.next().unwrap();
        assert!(fence.starts_with("```"), "a block of code follows on {named}");
        assert!(lines.any(|line| line == "```"), "the block of {named} ends");
        let text = text_of(named).await;
        right.push_str(&format!("{fence}\n{}\n```\n", text.trim_end()));
    }
    if std::env::var("TRYBUILD").is_ok_and(|mode| mode == "overwrite") {
        std::fs::write(PAGE, &right).unwrap();
    }
    assert!(
        read(PAGE) == right,
        "{PAGE} shows something else: `TRYBUILD=overwrite cargo test --test it mistakes` corrects it"
    );
    assert_eq!(page.lines().filter(|line| line.starts_with("## ")).count(), 20);
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn text_of(named: &str) -> String {
    if named.starts_with("tests/ui/fail/") {
        let text = read(named);
        return text.trim_end().trim_end_matches("fn main() {}").trim_end().to_owned();
    }
    wrapped(&match named {
        "tables missing" => tables_missing().await.to_string(),
        "two connections" => two_connections().await.to_string(),
        "too large" => too_large().await.to_string(),
        "another type" => another_type().await,
        "no group" => no_group().await.to_string(),
        "relay without tables" => relay_without_tables().await.to_string(),
        other => panic!("{PAGE} names a scene `{other}`, which is not in this file"),
    })
}

/// In lines that fit the page.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < 90 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    item: String,
}

impl OrderPlaced {
    fn of(item: impl Into<String>) -> Self {
        Self { customer: "alice".to_owned(), item: item.into() }
    }
}

/// A database of one connection, without the outbox's tables.
async fn empty() -> Outbox<Sqlite> {
    let pool =
        SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(50));
    Outbox::new(pool.connect("sqlite::memory:").await.unwrap())
}

async fn tables_missing() -> OutboxError {
    let mut tx = empty().await.begin().await.unwrap();
    tx.emit(OrderPlaced::of("apples")).unwrap();
    tx.commit().await.unwrap_err()
}

async fn two_connections() -> OutboxError {
    let outbox = migrated(empty().await).await;
    let _tx = outbox.begin().await.unwrap();
    let error = sqlx::query("select 1").execute(outbox.pool()).await.unwrap_err();
    OutboxError::from(error)
}

async fn too_large() -> OutboxError {
    let mut tx = empty().await.begin().await.unwrap();
    tx.emit(OrderPlaced::of("x".repeat(2 << 20))).unwrap_err()
}

/// The handler's own form of the event, with a field that the sender does not write.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.placed", duplicate)]
struct OrderToShip {
    #[event(key)]
    customer: String,
    address: String,
}

async fn another_type() -> String {
    async fn ship(
        _: &mut OutboxTx<'_, Sqlite>,
        _: OrderToShip,
        _: &EventContext,
    ) -> Result<(), OutboxError> {
        Ok(())
    }
    let handler = HandlerTest::new(migrated(empty().await).await, handler_fn(ship)).unwrap();
    let message = TestMessage::of(&OrderPlaced::of("apples")).unwrap();
    match handler.deliver(&message).await.unwrap() {
        Delivery::Undecodable(why) => why,
        other => panic!("{other:?}"),
    }
}

async fn no_group() -> OutboxError {
    async fn note(
        _: &mut OutboxTx<'_, Sqlite>,
        _: OrderPlaced,
        _: &EventContext,
    ) -> Result<(), OutboxError> {
        Ok(())
    }
    let consumer = Consumer::builder(empty().await, "localhost:9092").handler(handler_fn(note));
    consumer.build().unwrap_err()
}

async fn relay_without_tables() -> OutboxError {
    let relay = Relay::builder(empty().await, MemoryPublisher::new()).build().unwrap();
    relay.drain().await.unwrap_err()
}
