//! A topic with events, and a handler that has them share a transaction.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox::consume::{ErrorClass, EventContext, EventHandler, HandlerOptions};
use outbox::event::EventRecord;
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxTx};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::support::consumers::{QUICK, Refused, RunningConsumer, new_consumer_with, produce};
use crate::support::eventually;
use crate::support::log::Log;
use crate::support::relays::drained;
use crate::support::topics::create_topic;

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "shared", name = "order.created")]
pub(super) struct Created {
    #[event(key)]
    pub(super) customer: String,
    pub(super) n: i64,
}

/// The effect of an event.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "shared-answers")]
pub(super) struct Answered {
    #[event(key)]
    pub(super) customer: String,
    pub(super) n: i64,
}

/// What happens to an event, besides its effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Act {
    Fails(ErrorClass),
    Panics,
    Hangs,
    /// Until its second attempt.
    HangsAndFails,
}

/// A run of a handler.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ran {
    pub(super) event: (String, i64),
    pub(super) attempt: u32,
    /// Number of the events before it in its transaction.
    pub(super) behind: usize,
}

/// Handles the first event when all are in hand: until then, the others wait.
pub(super) struct Handler {
    pub(super) options: HandlerOptions,
    /// The log, and the topic on the brokers.
    pub(super) all_in_hand: Option<(Log, String)>,
    pub(super) act: Option<((&'static str, i64), Act)>,
    pub(super) ran: Mutex<Vec<Ran>>,
}

impl<DB: OutboxDatabase> EventHandler<DB> for Handler {
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
        tx: &mut OutboxTx<'_, DB>,
        Created { customer, n }: Created,
        context: &EventContext,
    ) -> Result<(), Refused> {
        let (event, behind) = ((customer.clone(), n), tx.pending_events());
        self.ran.lock().unwrap().push(Ran { event, attempt: context.attempt, behind });
        if let ("first", Some((log, topic))) = (&*customer, &self.all_in_hand) {
            log.until_it_says(&["partition paused", topic]).await;
        }
        tx.emit(Answered { customer: customer.clone(), n }).unwrap();
        match self.act.filter(|(event, _)| *event == (&*customer, n)) {
            Some((_, Act::Fails(class))) => Err(Refused(class, "as the test says")),
            Some((_, Act::Panics)) => panic!("as the test says"),
            Some((_, Act::HangsAndFails)) if context.attempt > 1 => {
                Err(Refused(ErrorClass::Permanent, "as the test says"))
            }
            Some((_, Act::Hangs | Act::HangsAndFails)) => pending().await,
            None => Ok(()),
        }
    }
}

/// A topic with events, which are in hand when the second is handled.
pub(super) struct Scene<DB: OutboxDatabase> {
    pub(super) outbox: Outbox<DB>,
    pub(super) prefix: String,
    pub(super) events: usize,
    pub(super) handler: Arc<Handler>,
}

pub(super) const SHARED: HandlerOptions = QUICK.shared_transaction(50);

pub(super) fn numbered<const N: usize>(
    events: [(&'static str, i64); N],
) -> Vec<(Uuid, &'static str, i64)> {
    let all = [("first", 0)].into_iter().chain(events);
    all.map(|(customer, n)| (Uuid::now_v7(), customer, n)).collect()
}

/// Puts the events on the topic, each with a trace of its own.
pub(super) async fn publish(topic: &str, events: &[(Uuid, &'static str, i64)]) {
    for (n_th, (id, customer, n)) in events.iter().enumerate() {
        let payload = format!(r#"{{"customer":"{customer}","n":{n}}}"#);
        let (id, trace) = (id.to_string(), trace_parent(n_th));
        let headers = [
            ("ce_id", &*id),
            ("ce_type", "order.created"),
            ("ce_dataversion", "1"),
            ("traceparent", &trace),
        ];
        produce(topic, customer, &payload, &headers).await;
    }
}

impl<DB: OutboxDatabase> Scene<DB> {
    pub(super) async fn new(
        outbox: &Outbox<DB>,
        log: &Log,
        events: &[(Uuid, &'static str, i64)],
        options: HandlerOptions,
        act: Option<((&'static str, i64), Act)>,
    ) -> Self {
        let prefix = format!("{}-", Uuid::now_v7());
        let topic = format!("{prefix}shared");
        create_topic(&topic, 1, &[]).await;
        publish(&topic, events).await;
        let all_in_hand = Some((log.clone(), topic));
        let handler = Handler { options, all_in_hand, act, ran: Mutex::default() };
        let (outbox, handler) = (outbox.clone(), Arc::new(handler));
        Self { outbox, prefix, events: events.len(), handler }
    }

    pub(super) fn topic(&self) -> String {
        format!("{}shared", self.prefix)
    }

    pub(super) fn group(&self) -> String {
        format!("{}group", self.prefix)
    }

    /// A consumer that handles one event, or one transaction, at a time.
    pub(super) fn start(&self) -> RunningConsumer {
        self.start_with(&self.handler)
    }

    pub(super) fn start_with(&self, handler: &Arc<Handler>) -> RunningConsumer {
        let timeout = [("session.timeout.ms", "6000")];
        let consumer = new_consumer_with(&self.outbox, &timeout)
            .topic_prefix(&self.prefix)
            .group(self.group())
            .concurrency(1)
            .max_in_flight(self.events)
            .drain_timeout(Duration::from_millis(500));
        RunningConsumer::start(consumer.handler(Arc::clone(handler)))
    }

    /// A consumer of a process that comes after, in which nothing happens to any event.
    pub(super) fn start_next(&self) -> (RunningConsumer, Arc<Handler>) {
        let next = Handler { options: SHARED, all_in_hand: None, act: None, ran: Mutex::default() };
        let next = Arc::new(next);
        (self.start_with(&next), next)
    }

    pub(super) async fn until_ran(&self, what: &str, is_so: impl Fn(&[Ran]) -> bool) {
        eventually(what, async || is_so(&self.handler.ran.lock().unwrap())).await;
    }

    pub(super) async fn until_in_inbox(&self, events: u64) {
        let all = async || {
            let inbox = self.outbox.inbox_stats().await.unwrap();
            inbox.iter().any(|inbox| inbox.group == self.group() && inbox.handled == events)
        };
        eventually(&format!("{events} events are in the inbox"), all).await;
    }

    /// Each run of the handler but the first event's: its event, its attempt, how many are before it
    /// in its transaction.
    pub(super) fn ran(&self) -> Vec<(String, u32, usize)> {
        let ran = self.handler.ran.lock().unwrap();
        let ran = ran.iter().filter(|ran| ran.event.0 != "first");
        ran.map(|Ran { event: (customer, n), attempt, behind }| {
            (format!("{customer}{n}"), *attempt, *behind)
        })
        .collect()
    }

    /// The effects, in the order of their commits.
    pub(super) async fn effects(&self) -> Vec<(String, i64)> {
        let records = drained(&self.outbox).await;
        records.iter().map(answer).collect()
    }
}

pub(super) fn answer(record: &EventRecord) -> (String, i64) {
    let Answered { customer, n } =
        serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap();
    (customer, n)
}

pub(super) fn trace_id(n_th: usize) -> String {
    format!("{:032x}", 0xab00 + n_th)
}

pub(super) fn trace_parent(n_th: usize) -> String {
    format!("00-{}-b7ad6b7169203331-01", trace_id(n_th))
}
