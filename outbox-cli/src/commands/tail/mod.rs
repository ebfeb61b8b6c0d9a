//! `outbox tail`.

mod payload;
mod printer;
mod row;
mod sources;

use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use tokio::sync::mpsc;

use self::payload::{Payload, Pointer};
use self::printer::Printer;
use self::row::TailRow;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Lines;
use crate::signals::Stop;
use crate::values;

/// Longest time that a stop waits for the reader of stdout.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Show events as they are committed to the outbox, and as they arrive in Kafka
///
/// It runs until it is interrupted, or the reader of its output ends. It holds no lock, joins no
/// group and commits nothing; in Kafka it needs the right to read the topics. While the database or
/// Kafka is away, it waits. If more comes than it can show, it says how many events are not shown.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where events are looked at
    #[arg(long, value_enum, default_value_t = From::Outbox)]
    from: From,
    /// Only events on this topic, without the deployment's prefix; several are allowed. In Kafka, at
    /// least one is needed
    #[arg(long)]
    topic: Vec<String>,
    /// Only events with this name, such as order.created
    #[arg(long)]
    name: Option<String>,
    /// Only events with this key
    #[arg(long)]
    key: Option<String>,
    /// First what is there already since a time, or how long ago, such as 5m
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    since: Option<SystemTime>,
    /// Ends after this number of events
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// How payloads are shown
    #[arg(long, value_enum, default_value_t = Payload::None)]
    payload: Payload,
    /// What of JSON payloads is replaced before they are shown, as a JSON pointer such as
    /// /customer/email; * stands for every field or item. Several are allowed
    #[arg(long, value_name = "POINTER", value_parser = payload::pointer)]
    redact: Vec<Pointer>,
}

/// Where events are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// In the database, as they are committed
    Outbox,
    /// On their topics, as they arrive
    Kafka,
    /// In both places
    Both,
}

impl Args {
    /// What of the arguments clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        if self.from != From::Outbox && self.topic.is_empty() {
            return Err("what arrives in Kafka is followed by topic: add `--topic`".to_owned());
        }
        if !self.redact.is_empty() && self.payload != Payload::Json {
            return Err("`--redact` is for payloads that are shown as JSON: add `--payload json`"
                .to_owned());
        }
        Ok(())
    }
}

/// What is seen in one of the places.
enum Seen {
    Events(Vec<TailRow>),
    NotShown { at_least: bool, number: u64, place: &'static str },
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    let mut printer = Printer::start();
    let stopped = printer.stopped();
    let ended = tokio::select! {
        ended = follow(args, context, &mut printer) => ended,
        () = stopped => Ok(()),
        () = stop.asked() => Ok(()),
    };
    // A reader that does not read is not waited for.
    let printed = tokio::time::timeout(LAST_LINES, printer.finish()).await.unwrap_or(Ok(()));
    ended.and(printed)
}

async fn follow(args: &Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    // Two pages, so that what is held is bounded: who cannot be followed waits.
    let (sender, seen) = mpsc::channel(2);
    let outbox = async {
        match args.from {
            From::Kafka => Ok(()),
            _ => sources::outbox(args, context, sender.clone()).await,
        }
    };
    let kafka = async {
        match args.from {
            From::Outbox => Ok(()),
            _ => sources::kafka(args, context, sender.clone()).await,
        }
    };
    tokio::select! {
        followed = async { tokio::try_join!(Box::pin(outbox), Box::pin(kafka)) } => followed.map(|_| ()),
        shown = show(args, context, seen, printer) => shown,
    }
}

/// Prints what is seen, until there are enough events or nobody reads them.
async fn show(
    args: &Args,
    context: &Context,
    mut seen: mpsc::Receiver<Seen>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut lines = Lines::new(context.output, row::headings(context.output, args.payload));
    let mut left = args.limit.unwrap_or(u64::MAX);
    while let Some(seen) = seen.recv().await {
        match seen {
            Seen::Events(rows) => {
                for row in rows {
                    printer.print(lines.row(&row, row.cells(context.output))?).await?;
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                }
            }
            Seen::NotShown { at_least, number, place } => {
                let or_more = if at_least { " or more" } else { "" };
                tracing::warn!(
                    "{number}{or_more} events not shown: more came {place} than can be shown"
                );
            }
        }
    }
    Ok(())
}
