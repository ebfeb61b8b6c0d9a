//! A model of the lane protocol: some writers, relays and a reclaimer over one lane, within the
//! bounds of each of the [`SCENES`]. The steps are those of `window.rs`, `lease.rs` and
//! `reclaim.rs`. A step is what the database does at one moment: a snapshot, the sequence and a
//! transaction id are read in three steps.
//!
//! In every reachable state, the first publications of a key are in the order of its lock; and if
//! everything is killed then, a new relay publishes all that is committed.

mod world;

use super::search::{Broken, Next, State, every_state};
use world::World;

/// Bounds of a search, so that it ends.
#[derive(Debug, Clone, Copy)]
struct Scene {
    /// Key of each writer's event: writers of one key take turns under its lock. The last writer
    /// may roll back.
    keys: &'static [u8],
    relays: usize,
    /// Number of relays that die, and of leases that end while their owners live.
    mishaps: u8,
    windows: u8,
}

const SCENES: [Scene; 3] = [
    // Windows: what commits late.
    Scene { keys: &[0, 0, 1], relays: 1, mishaps: 0, windows: 2 },
    // A relay that dies, and one that continues from what is saved.
    Scene { keys: &[0, 0], relays: 1, mishaps: 1, windows: 2 },
    // Two relays, one of which sleeps past its lease.
    Scene { keys: &[0, 0], relays: 2, mishaps: 1, windows: 2 },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Flaw {
    None,
    /// Progress is the highest number seen, as in a loop written by hand.
    PlainCursor,
    /// Stragglers end where the snapshot does.
    NoHorizon,
    /// A leaf is truncated when its events are read, not when that is saved.
    ReclaimUnsaved,
    /// What is sent is saved at once.
    SaveUndelivered,
    /// A relay that starts takes the last relay's window for read to its end.
    ForgetStragglers,
}

/// A state of a scene, with a flaw or none.
#[derive(Hash)]
struct Run {
    world: World,
    keys: &'static [u8],
    flaw: Flaw,
}

impl State for Run {
    fn next(&self) -> Next<Self> {
        let run = |world| Self { world, keys: self.keys, flaw: self.flaw };
        let steps = self.world.steps(self.keys, self.flaw).into_iter().map(run).collect();
        Next { steps, faults: Vec::new() }
    }

    fn check(&self, _last: bool) -> Result<(), Broken> {
        self.world.check(self.flaw).map_err(|broken| format!("{broken}, in {:?}", self.world))
    }
}

fn search(scene: Scene, flaw: Flaw) -> Result<usize, Broken> {
    every_state(Run { world: World::new(scene), keys: scene.keys, flaw })
}

#[test]
fn no_interleaving_loses_an_event_or_breaks_the_order_of_a_key() {
    for scene in SCENES {
        match search(scene, Flaw::None) {
            Ok(states) => println!("{scene:?}: {states} states"),
            Err(broken) => panic!("{broken}"),
        }
    }
}

#[test]
fn the_search_finds_what_each_step_of_the_protocol_is_there_for() {
    for flaw in [
        Flaw::PlainCursor,
        Flaw::NoHorizon,
        Flaw::ReclaimUnsaved,
        Flaw::SaveUndelivered,
        Flaw::ForgetStragglers,
    ] {
        assert!(
            SCENES.iter().any(|scene| search(*scene, flaw).is_err()),
            "{flaw:?} breaks nothing"
        );
    }
}
