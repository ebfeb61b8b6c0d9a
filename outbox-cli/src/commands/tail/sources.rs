//! Where events are looked at.

use std::time::Duration;

use outbox::admin::{EventTail, TailLook};
use outbox::consume::{TailedItem, TopicTail};
use outbox::{ErrorKind, Outbox, OutboxDatabase, OutboxError};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Args, Seen, TailRow};
use crate::connect::{AnyOutbox, with_outbox};
use crate::context::Context;
use crate::failure::Failure;
use crate::text::one_line;

/// Pause between two looks into the database.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Pause between two attempts while the database is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const IN_THE_OUTBOX: &str = "into the outbox";
const IN_KAFKA: &str = "from Kafka";

/// Sends the events of the outbox as they are committed. It ends when nobody takes them.
pub(super) async fn outbox(
    args: &Args,
    context: &Context,
    seen: mpsc::Sender<Seen>,
) -> Result<(), Failure> {
    let mut waits = Waits::default();
    let outbox = connected(context, &mut waits).await?;
    with_outbox!(outbox, outbox => looked(args.tail(context, &outbox), args, waits, seen).await)
}

async fn connected(context: &Context, waits: &mut Waits) -> Result<AnyOutbox, Failure> {
    loop {
        match context.outbox().await {
            Err(failure) if failure.is_unreachable() => waits.away(&failure),
            answered => return answered,
        }
        sleep(AGAIN_AFTER).await;
    }
}

async fn looked<DB: OutboxDatabase>(
    mut tail: EventTail<DB>,
    args: &Args,
    mut waits: Waits,
    seen: mpsc::Sender<Seen>,
) -> Result<(), Failure> {
    let mut has_begun = false;
    loop {
        let look = match tail.look().await {
            Ok(look) => look,
            Err(error) if waits_for(&error, has_begun) => {
                waits.away(&error);
                sleep(AGAIN_AFTER).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        waits.answers();
        if !has_begun {
            has_begun = true;
            tracing::info!("following the outbox");
        }
        let has_more = look.has_more;
        if !sent(look, args, &seen).await {
            return Ok(());
        }
        if !has_more {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether the same may succeed later. Once it was followed, other errors pass as well: a server that
/// is read-only after a failover, or too busy.
fn waits_for(error: &OutboxError, has_begun: bool) -> bool {
    let lasts = matches!(error.kind(), ErrorKind::NotMigrated | ErrorKind::Config);
    error.is_unreachable() || has_begun && !lasts
}

/// Whether anybody takes it.
async fn sent(look: TailLook, args: &Args, seen: &mpsc::Sender<Seen>) -> bool {
    if look.is_interrupted {
        tracing::warn!(
            "the database was restarted, or another one answers: events that were committed around that may be missing here. They \
             are in the outbox, unless a failover lost them"
        );
    }
    let rows: Vec<_> =
        look.events.into_iter().map(|event| TailRow::of_outbox(args, event)).collect();
    if !rows.is_empty() && seen.send(Seen::Events(rows)).await.is_err() {
        return false;
    }
    let (number, at_least) = (look.not_shown, look.not_shown >= TailLook::COUNTED);
    let not_shown = Seen::NotShown { at_least, number, place: IN_THE_OUTBOX };
    number == 0 || seen.send(not_shown).await.is_ok()
}

/// Sends the messages of the topics as they arrive. It ends when nobody takes them.
pub(super) async fn kafka(
    args: &Args,
    context: &Context,
    seen: mpsc::Sender<Seen>,
) -> Result<(), Failure> {
    let mut tail = args.topic_tail(context)?;
    loop {
        let told = match tail.next().await? {
            TailedItem::Message(message) => Seen::Events(vec![TailRow::of_kafka(args, *message)]),
            TailedItem::NotShown(number) => {
                Seen::NotShown { at_least: false, number, place: IN_KAFKA }
            }
            TailedItem::Following(topic) => {
                tracing::info!("following the topic {}", one_line(&topic));
                continue;
            }
            TailedItem::Missing(topic) => {
                tracing::warn!(
                    "the topic {} does not exist (yet): it is waited for",
                    one_line(&topic)
                );
                continue;
            }
            _ => continue,
        };
        if seen.send(told).await.is_err() {
            return Ok(());
        }
    }
}

impl Args {
    fn tail<DB: OutboxDatabase>(&self, context: &Context, outbox: &Outbox<DB>) -> EventTail<DB> {
        let mut tail = outbox.tail().within(context.statement_timeout());
        for topic in &self.topic {
            tail = tail.topic(topic);
        }
        if let Some(name) = &self.name {
            tail = tail.name(name);
        }
        if let Some(key) = &self.key {
            tail = tail.key(key.as_bytes());
        }
        if let Some(since) = self.since {
            tail = tail.since(since);
        }
        if self.payload != super::Payload::None { tail.payloads() } else { tail }
    }

    fn topic_tail(&self, context: &Context) -> Result<TopicTail, Failure> {
        let mut tail = TopicTail::builder(context.kafka()?).topic_prefix(context.topic_prefix());
        for topic in &self.topic {
            tail = tail.topic(topic);
        }
        if let Some(name) = &self.name {
            tail = tail.name(name);
        }
        if let Some(key) = &self.key {
            tail = tail.key(key.as_bytes());
        }
        if let Some(since) = self.since {
            tail = tail.since(since);
        }
        Ok(if self.payload != super::Payload::None { tail.payloads() } else { tail }.start()?)
    }
}

/// Tells once that the database is away, and once that it is back.
#[derive(Default)]
struct Waits {
    is_told: bool,
}

impl Waits {
    fn away(&mut self, error: &impl std::fmt::Display) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!("the outbox cannot be read, and is waited for: {error}");
        }
    }

    fn answers(&mut self) {
        if std::mem::take(&mut self.is_told) {
            tracing::info!("the outbox can be read again");
        }
    }
}
