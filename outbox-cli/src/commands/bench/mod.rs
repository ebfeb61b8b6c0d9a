//! `outbox bench`.

mod measure;
mod place;
mod publisher;
mod report;

use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::Duration;

use outbox::consume::TemporaryTopic;
use sqlx::Pool;
use uuid::Uuid;

use self::place::Place;
use crate::connect::{self, with_outbox};
use crate::context::Context;
use crate::failure::Failure;
use crate::signals::Stop;
use crate::values;

/// How often it is tried. What was interrupted may still run in the database, and deadlock with the
/// removal.
const REMOVALS: u32 = 3;

/// Connections beside those of the writers: of the relay, and to remove what was created.
const MORE_CONNECTIONS: u32 = 3;

/// Measure an outbox on this database and this Kafka, in tables and a topic of its own
///
/// It creates them, and removes them at its end, also if it fails or is interrupted: a schema
/// outbox_bench_… on Postgres, tables with such a prefix on SQLite, and a topic of that name. It
/// writes as much as it is told to, and takes what the database and Kafka give, from others as well.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of events that are emitted, and drained by a relay
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    events: u64,
    /// Bytes of an event's payload
    #[arg(long, value_name = "BYTES", default_value_t = 300, value_parser = clap::value_parser!(u32).range(0..=900_000))]
    size: u32,
    /// Connections that emit at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    writers: u32,
    /// Events of a transaction
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    per_transaction: u64,
    /// Number of different keys. One key is one lane
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Partitions of the topic
    #[arg(long, value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    partitions: i32,
    /// Events emitted in each second while latency is measured
    #[arg(long, value_name = "RATE", default_value = "500/s", value_parser = values::per_second)]
    rate: f64,
    /// How long latency is measured; 0 leaves that out
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = values::duration)]
    duration: Duration,
    /// The relay publishes to nowhere: for the database alone
    #[arg(long)]
    without_kafka: bool,
    /// Begins without a question
    #[arg(long)]
    yes: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    // Wrong settings and a database that is away are found before anybody is asked.
    context.outbox().await?;
    let connections = args.writers + MORE_CONNECTIONS;
    let name = format!("outbox_bench_{}", Uuid::now_v7().simple());
    if !args.is_confirmed(context, &name)? {
        context.output.say("nothing was done");
        return Ok(());
    }
    let stop = Stop::listen()?;
    with_outbox!(connect::unconnected(&context.settings, connections)?, outbox => {
        Box::pin(benched(args, context, (outbox.pool(), &name), stop)).await
    })
}

async fn benched<DB: Place>(
    args: &Args,
    context: &Context,
    (pool, name): (&Pool<DB>, &str),
    stop: Stop,
) -> Result<(), Failure> {
    let mut topic = None;
    let measured = async {
        // Not interrupted, so that it is known what there is to remove.
        let outbox = DB::create(pool, name).await?;
        if !args.without_kafka {
            let full = format!("{}{name}", context.topic_prefix());
            topic = Some(TemporaryTopic::create(context.kafka()?, full, args.partitions).await?);
        }
        tokio::select! {
            measured = Box::pin(measure::all(args, context, &outbox, name)) => measured,
            () = stop.asked() => Err(Failure::failed("interrupted: there are no results")),
        }
    }
    .await;
    let removed = removed(pool, name, topic).await;
    // Results are told, whatever is left behind.
    let told = measured.and_then(|report| report.told(context));
    match (told, removed) {
        (Err(failure), Err(left)) => {
            Err(Failure::failed(format!("{failure}. Beside that, {left}")))
        }
        (told, removed) => told.and(removed),
    }
}

async fn removed<DB: Place>(
    pool: &Pool<DB>,
    name: &str,
    topic: Option<TemporaryTopic>,
) -> Result<(), Failure> {
    let mut tables = DB::remove(pool, name).await;
    for _ in 1..REMOVALS {
        if tables.is_err() {
            tables = DB::remove(pool, name).await;
        }
    }
    let tables = tables.map_err(|error| {
        Failure::failed(format!("what is called `{name}…` in the database could not be removed, and is still there: {error}"))
    });
    let topic = match topic {
        Some(topic) => topic.delete().await.map_err(Failure::from),
        None => Ok(()),
    };
    match (tables, topic) {
        (Err(tables), Err(topic)) => Err(Failure::failed(format!("{tables}. {topic}"))),
        (tables, topic) => tables.and(topic),
    }
}

impl Args {
    /// Asks on a terminal, unless `--yes` was said.
    fn is_confirmed(&self, context: &Context, name: &str) -> Result<bool, Failure> {
        if self.yes {
            return Ok(true);
        }
        let database = context.settings.database.as_ref();
        let database = database.map_or_else(String::new, |database| database.value.to_string());
        let topic = if self.without_kafka { "" } else { ", and a topic of that name in Kafka" };
        let what = format!(
            "this writes {} events of {} bytes into the database ({database}), in tables of its own called `{name}…`{topic}. They \
             are removed at the end. Meanwhile it slows down others who use these servers",
            self.events, self.size
        );
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "{what}: add `--yes` if that is what you want. Nothing was done"
            )));
        }
        context.output.say(format_args!("{what}. Go on? [y/N]"));
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
