//! `outbox handoff`: an outbox is published by Debezium, or by relays again.

use std::time::Duration;

use clap::{Args, Subcommand};
use outbox::publish::SlotPublisher;
use outbox::{Outbox, Relay};
use serde::Serialize;
use sqlx::Postgres;
use tokio::time::{Instant, sleep};

use crate::connect::{self, AnyOutbox};
use crate::context::Context;
use crate::failure::Failure;
use crate::signals::Stop;
use crate::values;

/// Time between two looks at what is pending.
const POLL: Duration = Duration::from_millis(500);
/// Connections of the follower's pool: for its start and its maintenance.
const CONNECTIONS: u32 = 2;

/// Have Debezium publish an outbox on Postgres in place of relays, or have relays go on after it
///
/// The page Debezium of the guide has Debezium's configuration, and each step of both ways.
#[derive(Debug, Subcommand)]
pub enum Command {
    ToDebezium(ToDebezium),
    Follow(Follow),
}

/// Create the replication slot, and wait until relays have published what is from before
///
/// Services and relays go on meanwhile. When it ends, stop the relays, start Debezium, and run `outbox
/// handoff follow`. It can be run again at any time before that.
#[derive(Debug, Args)]
pub struct ToDebezium {
    #[command(flatten)]
    slot: Slot,
    /// The publication of the table, which is created with the slot
    #[arg(long, value_name = "NAME", default_value = "outbox")]
    publication: String,
    /// Longest time to wait for the relays
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5m")]
    timeout: Duration,
}

/// Keep the outbox's progress behind Debezium's, until SIGTERM or SIGINT
///
/// It publishes nothing: what Debezium has confirmed counts as published, and its space is reclaimed.
/// Run as many as you like, as with relays, and none that publishes. To go back, stop Debezium and
/// this, and start relays: they publish again what Debezium had not confirmed.
#[derive(Debug, Args)]
pub struct Follow {
    #[command(flatten)]
    slot: Slot,
    /// How long published events are kept, to be replayed
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "0s")]
    retention: Duration,
    /// Counts what is confirmed by now, and ends when all that is committed is
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
struct Slot {
    /// The replication slot that Debezium reads
    #[arg(long, value_name = "NAME", default_value = "outbox")]
    slot: String,
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::ToDebezium(args) => to_debezium(args, context).await,
        Command::Follow(args) => follow(args, context).await,
    }
}

/// Before it connects: of another database nothing is asked, and no file is opened.
fn unconnected(context: &Context) -> Result<Outbox<Postgres>, Failure> {
    on_postgres(connect::unconnected(&context.settings, CONNECTIONS)?)
}

/// A database that does not answer, or refuses, is found here.
async fn connected(context: &Context) -> Result<Outbox<Postgres>, Failure> {
    unconnected(context)?;
    on_postgres(context.outbox().await?)
}

fn on_postgres(outbox: AnyOutbox) -> Result<Outbox<Postgres>, Failure> {
    match outbox {
        AnyOutbox::Postgres(outbox) => Ok(outbox),
        AnyOutbox::MySql(_) | AnyOutbox::Sqlite(_) => Err(Failure::configuration(
            "only an outbox on Postgres can be handed over to Debezium: its relays read where a replication slot ends. On MySQL \
             a relay deletes what it has published, and SQLite has no log that others read. Nothing was done",
        )),
    }
}

async fn to_debezium(args: &ToDebezium, context: &Context) -> Result<(), Failure> {
    let outbox = connected(context).await?;
    let slot = &args.slot.slot;
    let hand_off = outbox.hand_off(slot, &args.publication).await?;
    let begun = Instant::now();
    while !outbox.is_handed_off(&hand_off).await? {
        if begun.elapsed() >= args.timeout {
            return Err(Failure::failed(format!(
                "the replication slot `{slot}` is there, but events from before it are not published yet, or transactions from \
                 before it are open, and Debezium would not publish them. Leave the relays running, do not start Debezium, and \
                 run this again. `outbox status` shows what is pending, and `pg_stat_activity` what is open"
            )));
        }
        sleep(POLL).await;
    }
    let report = HandedOff { slot, publication: &args.publication };
    context.output.one(&report, || {
        format!(
            "what is from before the replication slot `{slot}` is published. Now stop the relays, start Debezium, and run \
             `outbox handoff follow --slot {slot}`"
        )
    })
}

/// What programs read.
#[derive(Debug, Serialize)]
struct HandedOff<'a> {
    slot: &'a str,
    publication: &'a str,
}

async fn follow(args: &Follow, context: &Context) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    let outbox = if args.once { connected(context).await? } else { unconnected(context)? };
    let publisher = SlotPublisher::new(outbox.pool(), &args.slot.slot);
    let relay = Relay::builder(outbox, publisher).retention(args.retention).build()?;
    if args.once {
        let report = Followed { confirmed: relay.drain().await? };
        return context
            .output
            .one(&report, || format!("{} events are confirmed", report.confirmed));
    }
    tracing::info!(slot = args.slot.slot, "follows Debezium, and publishes nothing itself");
    relay.run(async { stop.asked().await }).await?;
    tracing::info!("stopped: relays go on where Debezium has confirmed");
    Ok(())
}

/// What programs read of `--once`.
#[derive(Debug, Serialize)]
struct Followed {
    confirmed: u64,
}
