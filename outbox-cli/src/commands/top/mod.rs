//! `outbox top`.

mod action;
mod feeds;
mod input;
mod rates;
mod screen;
mod snapshot;
mod state;
mod view;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox::{Outbox, OutboxDatabase};
use ratatui::crossterm::event::{Event, KeyEventKind};
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::connect::{self, with_outbox};
use crate::context::Context;
use crate::failure::Failure;
use crate::signals::Stop;
use crate::values;
use feeds::{Cluster, Database, News};
use screen::Screen;
use snapshot::{Group, ParkedTopic};
use state::{Consumers, Next, State};
use view::{Palette, Settings};

/// Connections to the database: for the status, for what is parked, and for what keys ask for.
const CONNECTIONS: u32 = 3;
/// What the pause between two looks is kept within.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);
/// Time after which an answer is late, and the screen says how old it is.
const LATE: Duration = Duration::from_secs(2);
/// Pause after which it is drawn again if nothing is new: what it says of ages goes on.
const REDRAWN_EVERY: Duration = Duration::from_secs(1);
/// News that wait to be shown.
const WAITING: usize = 64;

/// Watch an outbox: ages and rates, relays and their lanes, parked events, consumer groups
///
/// It shows what waits and since when, which relay holds which lane, and, if brokers are named, how
/// far the consumer groups are. `p` pauses or resumes all relays, `r` has parked events tried again;
/// both ask first. `?` explains the rest. Without a terminal, use `outbox status --watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pause between two looks at the database: from 250ms to 1m
    #[arg(long, value_name = "DURATION", env = "OUTBOX_TOP_EVERY", default_value = "1s", value_parser = values::positive_duration)]
    pub every: Duration,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "`outbox top` draws on a terminal, and there is none. Use `outbox status --watch`, or `outbox status -o json` in a \
             script",
        ));
    }
    let stop = Stop::listen()?;
    let every = args.every.clamp(SHORTEST, LONGEST);
    with_outbox!(connect::unconnected(&context.settings, CONNECTIONS)?, outbox => {
        Box::pin(watched(outbox, every, context, stop)).await
    })
}

async fn watched<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
    every: Duration,
    context: &Context,
    stop: Stop,
) -> Result<(), Failure> {
    let database = Arc::new(Database {
        outbox,
        name: connect::shown_database(&context.settings),
        every,
        within: context.statement_timeout(),
        again: Notify::new(),
    });
    let mut top = Top::new(database, cluster(context)?);
    let name = top.database.name.clone();
    let is_colored = context.output.color.is_on(true);
    let settings = Settings { database: &name, palette: Palette { is_colored }, every, late: LATE };
    let mut screen = Screen::open()?;
    feeds::terminal(top.send.clone())?;
    loop {
        screen.draw(|frame| view::draw(frame, &top.state, &settings, Instant::now()))?;
        tokio::select! {
            () = stop.asked() => return Ok(()),
            is_over = top.next() => if is_over? { return Ok(()) },
            () = tokio::time::sleep(REDRAWN_EVERY) => {}
        }
    }
}

/// `None`: nothing says where Kafka is.
fn cluster(context: &Context) -> Result<Option<Cluster>, Failure> {
    if !context.names_brokers() {
        return Ok(None);
    }
    Ok(Some(Cluster { kafka: context.kafka()?, prefix: context.topic_prefix().to_owned() }))
}

struct Top<DB: OutboxDatabase> {
    database: Arc<Database<DB>>,
    prefix: String,
    state: State,
    send: Sender<News>,
    news: mpsc::Receiver<News>,
    /// Each ends when nobody listens to it. Dropped, they are aborted.
    tasks: JoinSet<()>,
}

impl<DB: OutboxDatabase> Top<DB> {
    /// Begins to ask.
    fn new(database: Arc<Database<DB>>, cluster: Option<Cluster>) -> Self {
        let (send, news) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&database).statuses(send.clone()));
        tasks.spawn(Arc::clone(&database).parked(send.clone()));
        let (mut state, mut prefix) = (State::default(), String::new());
        if let Some(cluster) = cluster {
            state.consumers = Consumers { are_asked: true, ..Consumers::default() };
            prefix.clone_from(&cluster.prefix);
            let (found, known) = watch::channel(Vec::new());
            tasks.spawn(cluster.clone().groups(send.clone(), found));
            tasks.spawn(cluster.dead_letters(send.clone(), known));
        }
        Self { database, prefix, state, send, news, tasks }
    }

    /// Waits for news and takes in what there is. Returns whether to end.
    async fn next(&mut self) -> Result<bool, Failure> {
        tokio::select! {
            Some(news) = self.news.recv() => {
                if self.take(news)? {
                    return Ok(true);
                }
            }
            Some(Err(error)) = self.tasks.join_next() => {
                return Err(Failure::failed(format!("a part of this program has failed: {error}")));
            }
        }
        while let Ok(news) = self.news.try_recv() {
            if self.take(news)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, news: News) -> Result<bool, Failure> {
        let (state, now) = (&mut self.state, Instant::now());
        match news {
            News::Terminal(event) => return self.event(event?),
            News::Status(Ok(status)) => state.answered(&status, now),
            // A wrong password does not become right. What was right may come back.
            News::Status(Err(failure)) if state.snapshot.is_none() && !failure.is_unreachable() => {
                return Err(failure);
            }
            News::Status(Err(failure)) => state.trouble = Some(failure.to_string()),
            News::Parked(Ok(groups)) => {
                state.parked = groups.into_iter().map(ParkedTopic::from).collect();
                state.parked_trouble = None;
            }
            News::Parked(Err(failure)) => state.parked_trouble = Some(failure.to_string()),
            News::Groups(Ok(lags)) => {
                let groups = lags.into_iter().map(|lag| Group::new(lag, &self.prefix));
                state.consumers.groups = groups.collect();
                state.consumers.read = Some(now);
                state.consumers.trouble = None;
            }
            News::Groups(Err(failure)) => state.consumers.trouble = Some(failure.to_string()),
            News::DeadLetters(counts) => state.consumers.dead_letters = counts,
            News::Done(done) => {
                state.working = None;
                state.said = Some(done.unwrap_or_else(|failure| failure.to_string()));
            }
        }
        Ok(false)
    }

    fn event(&mut self, event: Event) -> Result<bool, Failure> {
        let Event::Key(key) = event else { return Ok(false) };
        if key.kind == KeyEventKind::Release {
            return Ok(false);
        }
        let action = match self.state.key(key) {
            Next::Quit => return Ok(true),
            Next::Stay => return Ok(false),
            Next::Do(action) => action,
        };
        let (database, send) = (Arc::clone(&self.database), self.send.clone());
        self.tasks.spawn(async move {
            let done = action::done(&action, &database.outbox, database.within).await;
            let _ = send.send(News::Done(done)).await;
            database.again.notify_one();
        });
        Ok(false)
    }
}
