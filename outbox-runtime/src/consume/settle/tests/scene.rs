//! A consumer of one handler on an SQLite in memory, with topics in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use outbox_event::{Codec, CodecError, Decode, DomainEvent, Encode, EventDescriptor, Json};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::sync::watch;
use uuid::Uuid;

use super::super::*;
use crate::consume::attempt::Group;
use crate::consume::forward::{Place, Unsent};
use crate::consume::policy::{Undecodable, UnknownEvents};
use crate::consume::route::Routes;
use crate::consume::worker::WorkerSettings;
use crate::consume::{EventContext, EventHandler, Handler, HandlerOptions, LaterEvents};
use crate::outbox::Outbox;
use crate::record::{CE_ID, CE_TYPE, CE_VERSION};
use crate::trace::Relation;
use crate::tx::OutboxTx;

pub(super) const TRANSIENT: Result<(), Refused> = Err(Refused(ErrorClass::Transient));
pub(super) const PERMANENT: Result<(), Refused> = Err(Refused(ErrorClass::Permanent));

pub(super) const QUICK: HandlerOptions =
    HandlerOptions::new().backoff(Duration::from_millis(1), Duration::from_millis(2));
pub(super) const IN_ORDER: HandlerOptions =
    QUICK.retry_topics(&[Duration::from_millis(1)], LaterEvents::Wait);

#[derive(Serialize, Deserialize)]
pub(super) struct Created {
    n: i64,
}

/// A payload that cannot be read now.
pub(super) const AWAY: &[u8] = b"away";

/// JSON, unless what reads it is away.
pub(super) struct JsonUnlessAway;

impl Codec for JsonUnlessAway {
    const CONTENT_TYPE: &'static str = Json::CONTENT_TYPE;
}

impl Encode<Created> for JsonUnlessAway {
    fn encode(event: &Created, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Json::encode(event, out)
    }
}

impl Decode<Created> for JsonUnlessAway {
    fn decode(payload: &[u8]) -> Result<Created, CodecError> {
        if payload == AWAY {
            return Err(CodecError::transient("the registry is away"));
        }
        Json::decode(payload)
    }
}

impl DomainEvent for Created {
    type Codec = JsonUnlessAway;
    const DESCRIPTORS: &'static [EventDescriptor] =
        &[EventDescriptor::new("orders", "order.created", 1, Self::CONTENT_TYPE, &[], &[])];

    fn descriptor(&self) -> &'static EventDescriptor {
        &Self::DESCRIPTORS[0]
    }

    fn key(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Why the handler failed.
#[derive(Debug)]
pub(super) struct Refused(ErrorClass);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

/// A handler that ends as a test has told it, and after that succeeds.
pub(super) struct Scripted {
    options: HandlerOptions,
    ends: Mutex<VecDeque<Result<(), Refused>>>,
    /// Every attempt: number of the event, and number of the attempt.
    attempts: Mutex<Vec<(i64, u32)>>,
}

impl EventHandler<Sqlite> for Scripted {
    type Event = Created;
    type Error = Refused;

    fn options(&self) -> HandlerOptions {
        self.options
    }

    fn classify(&self, error: &Refused) -> ErrorClass {
        error.0
    }

    async fn handle(
        &self,
        _: &mut OutboxTx<'static, Sqlite>,
        event: Created,
        context: &EventContext,
    ) -> Result<(), Refused> {
        self.attempts.lock().unwrap().push((event.n, context.attempt));
        self.ends.lock().unwrap().pop_front().unwrap_or(Ok(()))
    }
}

/// Topics in memory.
#[derive(Clone, Default)]
pub(super) struct Topics(Arc<Mutex<Written>>);

#[derive(Default)]
pub(super) struct Written {
    messages: VecDeque<Message>,
    /// What happens to the next messages instead, by topic.
    refusals: VecDeque<(&'static str, Refusal)>,
}

#[derive(Clone, Copy)]
pub(super) enum Refusal {
    TooLarge,
    Away,
    Panic,
}

impl Topics {
    pub(super) fn refuse(&self, refusals: &[(&'static str, Refusal)]) {
        self.0.lock().unwrap().refusals = refusals.iter().copied().collect();
    }

    /// The oldest message that was not taken yet.
    pub(super) fn take(&self) -> Message {
        self.0.lock().unwrap().messages.pop_front().expect("nothing was sent")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().messages.is_empty()
    }
}

/// On the brokers, all topics have a prefix.
impl Forward for Topics {
    fn original_topic(&self, topic: &str) -> String {
        format!("e2e-{topic}")
    }

    fn retry_topic(&self, topic: &str, group: &str, delay: Duration) -> String {
        format!("e2e-{topic}.{group}.retry.{}ms", delay.as_millis())
    }

    fn dead_letter_topic(&self, topic: &str, group: &str) -> String {
        format!("e2e-{topic}.{group}.dlt")
    }

    async fn send(
        &self,
        to: &str,
        message: &Message,
        ours: &[(&'static str, String)],
    ) -> Result<Place, Unsent> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.refusals.front().is_some_and(|(topic, _)| *topic == to) {
            let too_large = match written.refusals.pop_front() {
                Some((_, Refusal::Panic)) => {
                    drop(written);
                    panic!("while sending")
                }
                refusal => matches!(refusal, Some((_, Refusal::TooLarge))),
            };
            let (error, remedy) = ("refused".to_owned(), "");
            return Err(Unsent { too_large, code: None, error, remedy });
        }
        let ours =
            ours.iter().map(|(name, value)| ((*name).to_owned(), Some(value.clone().into_bytes())));
        let theirs = message.headers.iter().filter(|(name, _)| !name.starts_with("outbox-"));
        let headers = theirs.cloned().chain(ours).collect();
        written.messages.push_back(Message { topic: to.to_owned(), headers, ..message.clone() });
        Ok(Place { partition: 3, offset: 77 })
    }
}

/// A consumer of one handler.
pub(super) struct Scene {
    pub(super) worker: GroupWorker<Sqlite, Topics>,
    pub(super) handler: Arc<Scripted>,
    pub(super) topics: Topics,
    pub(super) stop: watch::Sender<bool>,
}

pub(super) const OWN: &str = "e2e-orders";
pub(super) const RETRY: &str = "e2e-orders.group.retry.1ms";
pub(super) const DEAD_LETTERS: &str = "e2e-orders.group.dlt";

impl Scene {
    pub(super) async fn new<const N: usize>(
        options: HandlerOptions,
        ends: [Result<(), Refused>; N],
    ) -> Self {
        Self::with(options, ends, Undecodable::DeadLetter, UnknownEvents::Skip).await
    }

    pub(super) async fn with<const N: usize>(
        options: HandlerOptions,
        ends: [Result<(), Refused>; N],
        undecodable: Undecodable,
        unknown_events: UnknownEvents,
    ) -> Self {
        let pool = SqlitePoolOptions::new().max_connections(1);
        let outbox = Outbox::new(pool.connect("sqlite::memory:").await.unwrap());
        outbox.migrate().await.unwrap();
        let handler = Arc::new(Scripted {
            options,
            ends: Mutex::new(ends.into()),
            attempts: Mutex::default(),
        });
        let routes = Routes::new(vec![Box::new(Handler::new(Arc::clone(&handler)))]).unwrap();
        let settings = WorkerSettings {
            concurrency: 1,
            undecodable,
            unknown_events,
            inbox_retention: Duration::from_secs(3_600),
        };
        let group =
            Group { outbox, name: "group".into(), routes, first_delivery: Relation::default() };
        let (topics, (stop, stopping)) = (Topics::default(), watch::channel(false));
        let worker = GroupWorker::new(group, topics.clone(), settings, stopping);
        Self { worker, handler, topics, stop }
    }

    pub(super) async fn settle(&self, message: &Message) -> Settled {
        self.worker.settle(message, &history(message), None).await.unwrap()
    }

    pub(super) fn attempts(&self) -> Vec<(i64, u32)> {
        self.handler.attempts.lock().unwrap().clone()
    }

    /// Rows in the queue of the key.
    pub(super) async fn queued(&self) -> i64 {
        sqlx::query_scalar("select count(*) from outbox_key_queue")
            .fetch_one(self.worker.group.outbox.pool())
            .await
            .unwrap()
    }
}

pub(super) fn history(message: &Message) -> History {
    let topic = "orders".to_owned();
    if message.topic == OWN {
        History { topic, ..message.fresh() }
    } else {
        History { topic, from_retry_topic: true, ..message.resumed() }
    }
}

/// The `n`th event of the only key.
pub(super) fn event(n: i64) -> Message {
    let headers = [
        (CE_ID, Uuid::from_u128(n.unsigned_abs().into()).to_string()),
        (CE_TYPE, "order.created".to_owned()),
        (CE_VERSION, "1".to_owned()),
    ];
    Message {
        topic: OWN.to_owned(),
        offset: n,
        key: Some(b"alice".to_vec()),
        headers: headers.map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))).into(),
        payload: Some(format!(r#"{{"n":{n}}}"#).into_bytes()),
        ..Message::default()
    }
}
