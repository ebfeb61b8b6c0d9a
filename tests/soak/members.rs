//! The processes of consumers: what each runs, and how they are started, told to leave and killed.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use outbox::consume::{
    Consumer, ConsumerBuilder, ErrorClass, EventContext, EventHandler, HandlerOptions, LaterEvents,
};
use outbox::kafka::KafkaConfig;
use outbox::{Outbox, OutboxTx};
use uuid::Uuid;

use crate::database::Soaked;
use crate::groups::{GROUPS, Ordered, Paid, RUNGS};
use crate::support::consumers::{Numbered, Refused, new_consumer_of};
use crate::support::random::Random;

fn options(group: &str) -> HandlerOptions {
    let quick =
        HandlerOptions::new().backoff(Duration::from_millis(20), Duration::from_millis(200));
    match group {
        "mail" => quick.retry_topics(RUNGS, LaterEvents::Wait).shared_transaction(4),
        "stats" => quick.retry_topics(RUNGS, LaterEvents::Overtake),
        _ => quick.shared_transaction(20),
    }
}

/// Fails one attempt in twenty, and every attempt of one event in a hundred.
struct Effect<E> {
    group: &'static str,
    event: std::marker::PhantomData<fn(E)>,
}

impl<DB: Soaked, E: Numbered> EventHandler<DB> for Effect<E> {
    type Event = E;
    type Error = Refused;

    fn options(&self) -> HandlerOptions {
        options(self.group).group(self.group)
    }

    fn classify(&self, error: &Refused) -> ErrorClass {
        error.0
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, DB>,
        event: E,
        context: &EventContext,
    ) -> Result<(), Refused> {
        let (customer, n) = event.number();
        let effect = (self.group, &*context.topic, customer, n, context.id);
        let inserted = DB::insert_effect(tx, effect).await;
        inserted.map_err(|_| Refused(ErrorClass::Transient, "the table does not take it"))?;
        if Random::new(context.id.as_u64_pair().1, 1).chance(1) {
            return Err(Refused(ErrorClass::Permanent, "never"));
        }
        if Random::new(Uuid::now_v7().as_u64_pair().1, 2).chance(5) {
            return Err(Refused(ErrorClass::Transient, "not now"));
        }
        Ok(())
    }
}

fn consumer<DB: Soaked>(
    outbox: &Outbox<DB>,
    brokers: &str,
    group: &'static str,
    topics: &[&str],
) -> Consumer<DB> {
    fn add<DB: Soaked, E: Numbered>(
        consumer: ConsumerBuilder<DB>,
        group: &'static str,
    ) -> ConsumerBuilder<DB> {
        consumer.handler(Effect::<E> { group, event: std::marker::PhantomData })
    }
    let kafka = KafkaConfig::new(brokers)
        .property("session.timeout.ms", "6000")
        .property("auto.commit.interval.ms", "200");
    let mut consumer = new_consumer_of(outbox, kafka).max_in_flight(200);
    if topics.contains(&Ordered::TOPIC) {
        consumer = add::<DB, Ordered>(consumer, group);
    }
    if topics.contains(&Paid::TOPIC) {
        consumer = add::<DB, Paid>(consumer, group);
    }
    consumer.build().unwrap()
}

/// What a process of consumers does: all groups, until a signal stops it.
pub(crate) async fn consume_until_told<DB: Soaked>() {
    tracing_subscriber::fmt().with_ansi(false).with_env_filter("warn,outbox=info").init();
    let outbox = Outbox::new(DB::pool(&std::env::var("DATABASE_URL").unwrap()).await);
    let brokers = std::env::var("KAFKA_BROKERS").unwrap();
    let mut told =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut running = tokio::task::JoinSet::new();
    for (group, topics, _) in GROUPS {
        let mut stopped = stopped.clone();
        running.spawn(consumer(&outbox, &brokers, group, topics).run(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }
    tokio::select! {
        _ = told.recv() => {}
        ended = running.join_next() => panic!("a consumer has ended by itself: {ended:?}"),
    }
    stop.send_replace(true);
    while let Some(ended) = running.join_next().await {
        ended.unwrap().unwrap();
    }
}

pub(crate) struct Members {
    pub(crate) command: Box<dyn Fn(usize) -> Command>,
    pub(crate) children: Vec<Option<Child>>,
}

impl Members {
    pub(crate) fn start(&mut self, member: usize) {
        self.children[member] = Some((self.command)(member).spawn().unwrap());
    }

    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.children[member].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// None ends but by our doing.
    pub(crate) fn assert_alive(&mut self, logs: &Path) {
        for (member, child) in self.children.iter_mut().enumerate() {
            if let Some(status) = child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("member {member} ended by itself, {status}: {}", last_lines(logs, member));
            }
        }
    }

    pub(crate) fn tell(&mut self, member: usize) -> Option<Child> {
        let child = self.children[member].take()?;
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(told.success());
        Some(child)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|member| self.kill(member));
    }
}

pub(crate) fn last_lines(logs: &Path, member: usize) -> String {
    let log = std::fs::read_to_string(logs.join(format!("member-{member}.log"))).unwrap();
    let last: Vec<&str> = log.lines().rev().take(30).collect();
    format!("member {member}, its last lines first:\n{}", last.join("\n"))
}
