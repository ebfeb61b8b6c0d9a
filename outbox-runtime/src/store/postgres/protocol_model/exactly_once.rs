//! A model of delivery exactly once (`docs/decisions/17-exactly-once.md`), which no relay has yet.
//! It is what a relay will have to do, step by step, and what may happen in between: crashes of the
//! relay and of the server, failovers that lose commits, suspended relays that wake, requests to
//! commit that arrive late or whose answer is lost, producers that are fenced, topics that are
//! lost.
//!
//! As long as no database and no topic loses what it had confirmed, each event is in exactly one
//! committed transaction, those of a key are in their order, nothing is published that is not on
//! disk, and no relay falls back to the cursor in the database. After such a loss, what the
//! database still has is published, and each duplicate comes after a fall-back, which is logged and
//! counted. In every case all that is committed is published in the end.

mod kafka;
mod parking;
mod postgres;
mod relay;
mod scenes;
mod switch;
mod takeover;
mod tests;
mod world;

use std::hash::{Hash, Hasher};

use super::search::{Broken, Next, Random, State, every_state, walk};
use world::World;

/// What takes part, and bounds of what can go wrong.
#[derive(Debug, Clone, Copy)]
struct Scene {
    /// Key of each writer's event: writers of one key take turns under its lock.
    keys: &'static [u8],
    /// Writers, the first ones, that have committed when the scene begins.
    written: usize,
    /// The writers that do not wait for the disk, one bit each.
    lazy: u8,
    relays: usize,
    /// Whether the first relay has taken over when the scene begins.
    running: bool,
    /// Whether a relay that delivers at least once holds the lanes when the scene begins.
    begins_at_least_once: bool,
    /// Producers of a group.
    producers: usize,
    /// Whether published rows are removed.
    truncates: bool,
    faults: Faults,
}

/// How many of each may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Faults {
    /// A relay's process dies.
    kills: u8,
    /// The server of the database crashes, or a synchronous standby takes over.
    crashes: u8,
    /// A lease ends while its owner lives.
    stalls: u8,
    /// A standby takes over that had stopped receiving the log at some time before: also what a
    /// point-in-time recovery does.
    failovers: u8,
    /// At a failover, sessions to the old server go on.
    old_server_lives: bool,
    /// The answer to a commit is lost: the request may have been received, or will be.
    unknown: u8,
    /// A transaction has to be aborted at its commit.
    aborts: u8,
    /// The coordinator aborts a transaction because of its time-out.
    timeouts: u8,
    /// The broker refuses an event.
    refusals: u8,
    /// The progress topic is deleted.
    lost_topics: u8,
    /// Windows in which nothing is new.
    idle: u8,
    /// The delivery is changed back to at least once.
    switches: u8,
}

const NO_FAULTS: Faults = Faults {
    kills: 0,
    crashes: 0,
    stalls: 0,
    failovers: 0,
    old_server_lives: false,
    unknown: 0,
    aborts: 0,
    timeouts: 0,
    refusals: 0,
    lost_topics: 0,
    idle: 0,
    switches: 0,
};

/// A step that is left out or done wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    // Taking over.
    ReadBeforeFence,
    NoFence,
    /// Only the first producer is fenced.
    FenceOne,
    NoConfirm,
    AdoptThroughAnyProducer,
    /// Progress is not adopted: the first transaction is one with events.
    NoAdoption,
    ForgetEarlierTooSoon,
    /// What is adopted rests on the new claim's witness, which is not set.
    AdoptionNeedsWitness,
    /// That progress was adopted is not on disk before the first event.
    NoRecord,
    // The witness.
    NoWitness,
    AsyncWitness,
    WitnessOnNewSession,
    WitnessNotPinned,
    /// Progress of a known claim is adopted, whatever its witness.
    WitnessNotChecked,
    /// Of a snapshot only the horizon is needed.
    NeedWithoutEnd,
    ParkingNeedsNothing,
    DeletingNeedsNothing,
    // The pipeline.
    CommitOutOfOrder,
    ProgressOutOfOrder,
    NextSurvivesAbort,
    UnknownIsAborted,
    ReuseSuspect,
    /// A producer that is suspect is initialized and used again, without taking over.
    RecycleSuspect,
    /// The same, and the claim is confirmed in between.
    RecycleAndConfirm,
    // The database.
    SaveBeforeCommit,
    TruncateByProgress,
    ParkUnfenced,
    RetryBeforePassed,
    SettledNotApplied,
    LaterOfKeyNotParked,
    // The change of the delivery.
    SwitchWhileHeld,
    SwitchBackByHand,
    ForgetEnded,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    scene: &'static Scene,
    flaws: &'static [Flaw],
}

impl Rules {
    fn has(self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }
}

/// A state of a scene under its rules.
#[derive(Debug, Clone)]
struct Run {
    world: World,
    rules: Rules,
}

impl Hash for Run {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.world.hash(state);
    }
}

impl State for Run {
    fn next(&self) -> Next<Self> {
        let with_rules = |worlds: Vec<World>| {
            worlds.into_iter().map(|world| Self { world, rules: self.rules }).collect()
        };
        let (steps, faults) = self.world.next(self.rules);
        Next { steps: with_rules(steps), faults: with_rules(faults) }
    }

    fn check(&self, last: bool) -> Result<(), Broken> {
        self.world.check(last).map_err(|broken| format!("{broken}, in {:?}", self.world))
    }
}
