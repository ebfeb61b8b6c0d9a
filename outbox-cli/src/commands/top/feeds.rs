//! What is asked again and again, each by a task of its own, so that the screen goes on while one
//! of them waits for an answer. They end when nobody listens.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox::admin::{ParkedFilter, ParkedGroup, ParkedGrouping, Status};
use outbox::consume::{ConsumerGroups, DeadLetterFilter, DeadLetters, GroupLag, KafkaConfig};
use outbox::{Outbox, OutboxDatabase, OutboxError};
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::snapshot::Group;
use crate::connect;
use crate::failure::Failure;

/// Shortest pause between two counts of parked events.
const PARKED_EVERY: Duration = Duration::from_secs(2);
/// Shortest pause between two questions after consumer groups: each asks every partition.
const GROUPS_EVERY: Duration = Duration::from_secs(10);
/// Shortest pause between two counts of dead letters: each reads their topics.
const DEAD_LETTERS_EVERY: Duration = Duration::from_secs(10);
/// Of what takes long, a pause is so many times as long: it costs a hundredth of the time at most.
const PAUSES: u32 = 100;
/// Most groups whose dead letters are counted.
const COUNTED_GROUPS: usize = 100;
/// Time within which the end of the program is noticed by the thread that reads keys.
const KEYS_WITHIN: Duration = Duration::from_millis(200);

/// What the screen learns.
#[derive(Debug)]
pub enum News {
    Terminal(io::Result<Event>),
    Status(Result<Box<Status>, Failure>),
    Parked(Result<Vec<ParkedGroup>, Failure>),
    Groups(Result<Vec<GroupLag>, Failure>),
    /// By topic, as events declare it, and group.
    DeadLetters(BTreeMap<(String, String), u64>),
    /// What became of what a key asked for.
    Done(Result<String, Failure>),
}

/// What is asked of the database, and how.
#[derive(Debug)]
pub struct Database<DB: OutboxDatabase> {
    pub outbox: Outbox<DB>,
    /// As it is shown.
    pub name: String,
    pub every: Duration,
    /// Longest time to wait for one answer.
    pub within: Duration,
    /// It is asked at once when this is notified.
    pub again: Notify,
}

impl<DB: OutboxDatabase> Database<DB> {
    /// Asks for the status again and again.
    pub async fn statuses(self: Arc<Self>, news: Sender<News>) {
        let mut is_away = true;
        loop {
            let begun = Instant::now();
            let status = self.status(is_away).await;
            is_away = status.is_err();
            if news.send(News::Status(status)).await.is_err() {
                return;
            }
            let pause = self.every.saturating_sub(begun.elapsed());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.again.notified() => {}
            }
        }
    }

    async fn status(&self, is_away: bool) -> Result<Box<Status>, Failure> {
        if is_away {
            // The pool would try again until its time is up, and not say why.
            connect::answers(self.outbox.pool(), self.within, &self.name).await?;
        }
        Ok(Box::new(self.outbox.status_within(self.within).await?))
    }

    /// Counts what is parked by topic, again and again.
    pub async fn parked(self: Arc<Self>, news: Sender<News>) {
        loop {
            let begun = Instant::now();
            let parked = timeout(self.within, self.parked_topics()).await;
            let parked = parked.unwrap_or_else(|_| {
                Err(Failure::unreachable("the parked events were not counted within the time-out"))
            });
            if news.send(News::Parked(parked)).await.is_err() {
                return;
            }
            sleep(pause(begun, PARKED_EVERY)).await;
        }
    }

    async fn parked_topics(&self) -> Result<Vec<ParkedGroup>, Failure> {
        Ok(self.outbox.parked_groups(&ParkedFilter::all(), ParkedGrouping::Topic).await?)
    }
}

/// What is asked of Kafka.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub kafka: KafkaConfig,
    /// What the deployment's topics begin with on the brokers.
    pub prefix: String,
}

/// Groups by their topics, as events declare them.
type Known = Vec<(String, String)>;

impl Cluster {
    /// Asks for the consumer groups again and again, and tells `known` which there are.
    pub async fn groups(self, news: Sender<News>, known: watch::Sender<Known>) {
        let groups = ConsumerGroups::new(self.kafka).topic_prefix(&self.prefix);
        loop {
            let begun = Instant::now();
            let lag = groups.lag().await.map_err(Failure::from);
            if let Ok(lag) = &lag {
                let groups = lag.iter().map(|lag| Group::new(lag.clone(), &self.prefix));
                known.send_replace(groups.map(|group| (group.topic, group.group)).collect());
            }
            if news.send(News::Groups(lag)).await.is_err() {
                return;
            }
            sleep(pause(begun, GROUPS_EVERY)).await;
        }
    }

    /// Counts the dead letters of the groups that are known, again and again. Those of which it is
    /// not allowed to read are left out.
    pub async fn dead_letters(self, news: Sender<News>, mut known: watch::Receiver<Known>) {
        while known.wait_for(|known| !known.is_empty()).await.is_ok() {
            let begun = Instant::now();
            let groups: Known = known.borrow().iter().take(COUNTED_GROUPS).cloned().collect();
            let mut counts = BTreeMap::new();
            for (topic, group) in groups {
                if let Ok(count) = self.dead_letters_of(&topic, &group).await {
                    counts.insert((topic, group), count);
                }
            }
            if news.send(News::DeadLetters(counts)).await.is_err() {
                return;
            }
            sleep(pause(begun, DEAD_LETTERS_EVERY)).await;
        }
    }

    async fn dead_letters_of(&self, topic: &str, group: &str) -> Result<u64, OutboxError> {
        let letters = DeadLetters::builder(self.kafka.clone())
            .topic(topic)
            .topic_prefix(&self.prefix)
            .group(group)
            .build()?;
        Ok(letters.select(DeadLetterFilter::all()).await?.len())
    }
}

fn pause(begun: Instant, shortest: Duration) -> Duration {
    begun.elapsed().saturating_mul(PAUSES).max(shortest)
}

/// Reads the terminal on a thread, until nobody listens.
pub fn terminal(news: Sender<News>) -> io::Result<()> {
    let read = move || {
        while !news.is_closed() {
            let event = match event::poll(KEYS_WITHIN) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let is_last = event.is_err();
            if news.blocking_send(News::Terminal(event)).is_err() || is_last {
                return;
            }
        }
    };
    std::thread::Builder::new().name("outbox-keys".to_owned()).spawn(read).map(drop)
}
