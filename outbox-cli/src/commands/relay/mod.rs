//! `outbox relay`.

mod delivery;
mod hand_back;
mod list;
mod pausing;
mod run;
mod topics;

use clap::Subcommand;

use crate::args::Secret;
use crate::context::Context;
use crate::failure::Failure;

/// Relays: run one, list them, pause and resume what they publish
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<run::Args>),
    /// List the relays: where they run, since when, and which lanes they hold
    List,
    /// Exit with 3 unless relays are alive and hold all lanes
    ///
    /// For checks that cannot ask a relay itself. A relay that was killed counts as alive until its
    /// lease runs out.
    Health,
    /// Have the relays publish nothing more of a topic, of a lane, or at all
    ///
    /// Services emit as before, and their events wait in the outbox. Relays obey within 2 s. A
    /// paused topic's events are set aside in the order of their keys, and other topics continue.
    Pause(pausing::Pause),
    /// Have them continue where they were
    Resume(pausing::Scope),
    HandBack(hand_back::HandBack),
}

impl Command {
    /// What of the arguments clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Run(args) => args.check(),
            _ => Ok(()),
        }
    }

    /// Where it sends spans.
    pub fn collector(&self) -> Option<&Secret> {
        match self {
            Self::Run(args) => args.collector(),
            _ => None,
        }
    }
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(args, context).await,
        Command::List => list::list(context).await,
        Command::Health => list::health(context).await,
        Command::Pause(args) => pausing::pause(args, context).await,
        Command::Resume(scope) => pausing::resume(scope, context).await,
        Command::HandBack(args) => hand_back::run(args, context).await,
    }
}

pub use delivery::Delivery;
pub use list::RelayRow;
pub use pausing::{PauseRow, user};
