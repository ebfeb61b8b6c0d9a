//! What must hold in every scene, and the flaws that must be found.

use super::Flaw::*;
use super::scenes::*;
use super::*;

/// Walks through each of the larger scenes; `OUTBOX_MODEL_WALKS` gives another number.
const WALKS: u64 = 400;
/// Walks until a flaw must be found, from the seed that is given for it: usually the first one.
const WALKS_FOR_A_FLAW: u64 = 1000;

fn run(scene: &'static Scene, flaws: &'static [Flaw]) -> Run {
    let rules = Rules { scene, flaws };
    Run { world: World::new(rules), rules }
}

#[test]
fn no_state_of_a_small_scene_breaks_a_promise() {
    let scenes =
        [&WAITING, &KILLED, &CRASH, &ZOMBIE, &UNKNOWN, &ABORTED, &FAILOVER, &TOPIC_LOST, &SWITCHED];
    for scene in scenes {
        match every_state(run(scene, &[])) {
            Ok(states) => println!("{scene:?}: {states} states"),
            Err(broken) => panic!("{broken}"),
        }
    }
}

/// The seed is printed; with `OUTBOX_SEED=…` the first walk through each scene is the one that
/// failed.
#[test]
fn no_walk_through_a_larger_scene_breaks_a_promise() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let seed = number("OUTBOX_SEED").unwrap_or_else(Random::seed);
    println!("OUTBOX_SEED={seed}");
    let scenes = [
        &LARGE_SWITCHED,
        &LARGE_TOPIC_LOST,
        &LARGE,
        &FAILOVERS,
        &FAILOVER_WRITTEN,
        &SPLIT_UNKNOWN,
        &PARKED_FAILOVER,
    ];
    for scene in scenes {
        for seed in (0..number("OUTBOX_MODEL_WALKS").unwrap_or(WALKS)).map(|n| seed.wrapping_add(n))
        {
            if let Err(broken) = walk(run(scene, &[]), &mut Random::new(seed)) {
                panic!("OUTBOX_SEED={seed}: {broken}, of {scene:?}");
            }
        }
    }
}

/// Flaws, a scene in which they do harm, which harm, and a seed with which it is found. Several
/// flaws together: none of them alone does that harm.
const FLAWS: &[(&[Flaw], &Scene, &str, u64)] = &[
    (&[ReadBeforeFence], &ZOMBIE, "twice", 122),
    (&[NoFence], &ZOMBIE, "twice", 0),
    (&[FenceOne], &ZOMBIE, "twice", 0),
    (&[NoConfirm], &ZOMBIE, "without need", 17),
    (&[NoAdoption], &KILLED, "without need", 0),
    (&[ForgetEarlierTooSoon], &KILLED, "without need", 51),
    (&[AdoptionNeedsWitness], &KILLED, "without need", 5),
    (&[NoRecord], &TOPIC_LOST, "twice", 72),
    (&[NoWitness], &KILLED, "without need", 1),
    (&[AsyncWitness], &CRASH, "without need", 0),
    (&[NoWitness, WitnessNotChecked], &CRASH, "lost", 797),
    (&[WitnessOnNewSession], &CRASH, "lost", 784),
    (&[WitnessNotPinned, NoAdoption, NoRecord], &FAILOVER_WRITTEN, "lost", 15059),
    (&[WitnessNotChecked], &FAILOVER_WRITTEN, "lost", 888),
    (&[NeedWithoutEnd], &IDLE, "lost", 1227),
    (&[ParkingNeedsNothing], &PARKED_FAILOVER, "lost", 2289),
    (&[DeletingNeedsNothing], &PARKED_FAILOVER, "twice", 2644),
    (&[CommitOutOfOrder], &KILLED, "lost", 105),
    (&[ProgressOutOfOrder], &KILLED, "twice", 185),
    (&[NextSurvivesAbort], &ABORTED, "lost", 33),
    (&[UnknownIsAborted], &UNKNOWN, "twice", 2),
    (&[ReuseSuspect], &UNKNOWN, "twice", 3144),
    (&[RecycleSuspect], &ZOMBIE_UNKNOWN, "twice", 37368),
    (&[SaveBeforeCommit], &KILLED, "lost", 0),
    (&[TruncateByProgress], &FAILOVER_WRITTEN, "lost", 6406),
    (&[ParkUnfenced], &PARKED_ZOMBIE, "twice", 483),
    (&[RetryBeforePassed], &PARKED, "twice", 406),
    (&[SettledNotApplied], &PARKED, "twice", 4163),
    (&[LaterOfKeyNotParked], &PARKED, "was committed as", 7),
    (&[SwitchWhileHeld], &SWITCHED, "twice", 0),
    (&[SwitchBackByHand], &SWITCHED, "twice", 722),
    (&[ForgetEnded], &SWITCHED, "without need", 0),
];

#[test]
fn a_walk_finds_what_each_step_of_the_protocol_is_there_for() {
    for (flaws, scene, harm, from) in FLAWS {
        let harms = |seed| {
            let broken = walk(run(scene, flaws), &mut Random::new(seed)).err()?;
            broken.contains(harm).then_some(broken)
        };
        let broken = (*from..from + WALKS_FOR_A_FLAW).find_map(harms);
        assert!(broken.is_some(), "{flaws:?} breaks nothing");
    }
}

/// Two flaws that do harm only in few interleavings of two relays and a server that should be dead.
#[test]
fn the_search_finds_what_a_server_that_lives_on_does() {
    for (flaw, scene) in
        [(&[AdoptThroughAnyProducer], &SPLIT), (&[RecycleAndConfirm], &SPLIT_UNKNOWN)]
    {
        let broken = every_state(run(scene, flaw)).expect_err("it breaks a promise");
        assert!(broken.contains("silently published twice"), "{broken}");
    }
}
