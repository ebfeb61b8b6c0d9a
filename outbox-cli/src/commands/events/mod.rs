//! `outbox events`: where events are, and their replay.

mod list;
mod replay;
mod show;

use clap::ValueEnum;
use outbox::admin::EventState;

use crate::context::Context;
use crate::failure::Failure;

/// Events of the outbox: where they are, and publishing them again
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(list::Args),
    Show(show::Args),
    Replay(replay::Args),
}

impl Command {
    /// What of the arguments clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Replay(args) => args.check(),
            Self::List(_) | Self::Show(_) => Ok(()),
        }
    }
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::List(args) => list::run(args, context).await,
        Command::Show(args) => show::run(args, context).await,
        Command::Replay(args) => replay::run(args, context).await,
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Committed, and not published yet
    Pending,
    /// Kafka has it
    Published,
    /// Refused by Kafka, or behind an event that was, or of a paused topic
    Parked,
    /// Parked, and given up
    Discarded,
}

impl From<State> for EventState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Published => Self::Published,
            State::Parked => Self::Parked,
            State::Discarded => Self::Discarded,
        }
    }
}

/// As output says it.
fn word(state: EventState) -> &'static str {
    match state {
        EventState::Pending => "pending",
        EventState::Published => "published",
        EventState::Parked => "parked",
        EventState::Discarded => "discarded",
        _ => "unknown",
    }
}
