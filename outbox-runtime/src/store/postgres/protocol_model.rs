//! A small model of the lane protocol, searched exhaustively: every interleaving of some writers,
//! relays and a reclaimer over one lane, within the bounds of each of the [`SCENES`]. The steps are
//! those of `window.rs`, `lease.rs` and `reclaim.rs`. A step is what the database does at one
//! moment: a snapshot, the sequence and a transaction id are read in three steps.
//!
//! In every reachable state, the first publications of a key are in the order of its lock; and if
//! everything is killed then, a new relay publishes all that is committed. For each step of the
//! protocol there is a flaw that leaves it out, and the search must find a state that breaks a
//! promise.

mod world;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Visits every reachable state. Returns their number, or the first state that breaks a promise.
/// Only hashes of visited states are kept: among a million, two are equal with a chance of 1 in
/// 10^7.
fn search(scene: Scene, flaw: Flaw) -> Result<usize, String> {
    let hash = |world: &World| {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    };
    let first = World::new(scene);
    let mut seen = HashSet::from([hash(&first)]);
    let mut to_visit = vec![first];
    while let Some(world) = to_visit.pop() {
        world.check(flaw).map_err(|broken| format!("{broken}, in {world:?}"))?;
        for next in world.steps(scene.keys, flaw) {
            if seen.insert(hash(&next)) {
                to_visit.push(next);
            }
        }
    }
    Ok(seen.len())
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
