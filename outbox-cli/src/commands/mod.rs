//! The commands: a file for each, with its arguments and a function `run`.
//!
//! A command returns a [`Failure`] for anything but success, prints data by `context.output`, and
//! takes the outbox and Kafka from `context`. Those that ask for something to be confirmed have
//! [`Confirm`](crate::confirm::Confirm) among their arguments. An option that may also come from a
//! variable or the file is declared with `env = "OUTBOX_<COMMAND>_<OPTION>"`.

mod bench;
mod completions;
mod consumers;
mod contracts;
mod dead_letters;
mod doctor;
mod events;
mod exporter;
mod handoff;
mod inbox;
mod man;
mod migrate;
mod parked;
mod relay;
mod status;
mod tail;
mod top;
mod topics;

use clap::Subcommand;
pub use migrate::Dialect;
use tracing::level_filters::LevelFilter;

use crate::args::Secret;
use crate::context::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(subcommand)]
    Migrate(migrate::Command),
    #[command(subcommand)]
    Relay(relay::Command),
    Status(status::Args),
    Top(top::Args),
    Tail(tail::Args),
    #[command(subcommand)]
    Parked(parked::Command),
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    #[command(subcommand)]
    Events(events::Command),
    #[command(subcommand)]
    Consumers(consumers::Command),
    #[command(subcommand)]
    Inbox(inbox::Command),
    #[command(subcommand)]
    Topics(topics::Command),
    #[command(subcommand)]
    Contracts(contracts::Command),
    #[command(subcommand)]
    Handoff(handoff::Command),
    Exporter(exporter::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Migrate(command) => migrate::run(command, context).await,
            Self::Relay(command) => relay::run(command, context).await,
            Self::Status(args) => status::run(args, context).await,
            Self::Top(args) => top::run(args, context).await,
            Self::Tail(args) => tail::run(args, context).await,
            Self::Parked(command) => parked::run(command, context).await,
            Self::DeadLetters(command) => dead_letters::run(command, context).await,
            Self::Events(command) => events::run(command, context).await,
            Self::Consumers(command) => consumers::run(command, context).await,
            Self::Inbox(command) => inbox::run(command, context).await,
            Self::Topics(command) => topics::run(command, context).await,
            Self::Contracts(command) => contracts::run(command, context),
            Self::Handoff(command) => handoff::run(command, context).await,
            Self::Exporter(args) => exporter::run(args, context).await,
            Self::Doctor(args) => doctor::run(args, context).await,
            Self::Bench(args) => bench::run(args, context).await,
            Self::Completions(args) => completions::run(args),
            Self::Man(args) => man::run(args),
        }
    }

    /// What of the arguments clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::DeadLetters(command) => command.check(),
            Self::Events(command) => command.check(),
            Self::Relay(command) => command.check(),
            Self::Tail(args) => args.check(),
            Self::Topics(command) => command.check(),
            _ => Ok(()),
        }
    }

    /// Where it sends spans.
    pub fn collector(&self) -> Option<&Secret> {
        match self {
            Self::Relay(command) => command.collector(),
            _ => None,
        }
    }

    /// Whether it has the whole terminal for itself.
    pub fn draws(&self) -> bool {
        matches!(self, Self::Top(_))
    }

    /// The log lines that it writes without `-v` and `-q`.
    pub fn log_level(&self) -> LevelFilter {
        match self {
            // Those that run for long.
            Self::Relay(relay::Command::Run(_))
            | Self::Handoff(handoff::Command::Follow(_))
            | Self::Exporter(_)
            | Self::Tail(_) => LevelFilter::INFO,
            _ => LevelFilter::WARN,
        }
    }
}
