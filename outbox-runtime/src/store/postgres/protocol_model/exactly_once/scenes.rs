//! The scenes: small ones that are searched for every state, larger ones that are walked through.

use super::{Faults, NO_FAULTS, Scene};

/// Two events of one key wait for the first relay.
pub(super) const WAITING: Scene = Scene {
    keys: &[0, 0],
    written: 2,
    lazy: 0,
    relays: 1,
    running: false,
    begins_at_least_once: false,
    producers: 2,
    truncates: false,
    faults: NO_FAULTS,
};
/// A relay that dies, up to twice.
pub(super) const KILLED: Scene = with(WAITING, Faults { kills: 2, ..NO_FAULTS });
/// A server that crashes, with a writer that did not wait for the disk and one that begins later.
pub(super) const CRASH: Scene = Scene {
    written: 1,
    lazy: 1,
    running: true,
    ..with(WAITING, Faults { crashes: 1, ..NO_FAULTS })
};
/// A relay that sleeps past its lease, beside one that takes over.
pub(super) const ZOMBIE: Scene =
    Scene { relays: 2, ..with(WAITING, Faults { stalls: 1, ..NO_FAULTS }) };
/// A commit without an answer, and a relay that dies.
pub(super) const UNKNOWN: Scene = with(WAITING, Faults { unknown: 1, kills: 1, ..NO_FAULTS });
/// A commit that must be aborted, and one that takes too long.
pub(super) const ABORTED: Scene = with(WAITING, Faults { aborts: 1, timeouts: 1, ..NO_FAULTS });
pub(super) const PARKED: Scene = with(WAITING, Faults { refusals: 1, kills: 1, ..NO_FAULTS });
pub(super) const PARKED_ZOMBIE: Scene =
    Scene { relays: 2, ..with(WAITING, Faults { refusals: 1, stalls: 1, ..NO_FAULTS }) };
/// Two keys, of which one is parked, and a failover that loses commits.
pub(super) const PARKED_FAILOVER: Scene =
    Scene { keys: &[0, 1], ..with(WAITING, Faults { refusals: 1, failovers: 1, ..NO_FAULTS }) };
pub(super) const FAILOVER: Scene =
    Scene { truncates: true, ..with(WAITING, Faults { failovers: 1, ..NO_FAULTS }) };
/// The same with writers that begin later, whose ids and numbers were drawn before.
pub(super) const FAILOVER_WRITTEN: Scene = Scene {
    keys: &[0, 1, 0, 1],
    written: 1,
    running: true,
    ..with(FAILOVER, Faults { failovers: 1, kills: 1, ..NO_FAULTS })
};
/// Sessions to the old server go on after a failover.
pub(super) const SPLIT: Scene = Scene {
    keys: &[0],
    written: 1,
    relays: 2,
    producers: 4,
    ..with(WAITING, Faults { failovers: 1, old_server_lives: true, ..NO_FAULTS })
};
pub(super) const SPLIT_UNKNOWN: Scene = Scene {
    keys: &[0, 0],
    written: 2,
    producers: 2,
    ..with(SPLIT, Faults { unknown: 1, ..SPLIT.faults })
};
pub(super) const TOPIC_LOST: Scene =
    Scene { truncates: true, ..with(WAITING, Faults { lost_topics: 1, kills: 1, ..NO_FAULTS }) };
/// From at least once to exactly once, and back, and again.
pub(super) const SWITCHED: Scene = Scene {
    begins_at_least_once: true,
    ..with(WAITING, Faults { switches: 1, kills: 1, ..NO_FAULTS })
};

/// Everything that loses nothing which was confirmed.
pub(super) const LARGE: Scene = Scene {
    keys: &[0, 0, 1, 0, 1],
    written: 0,
    lazy: 5,
    relays: 2,
    producers: 3,
    truncates: true,
    faults: Faults {
        kills: 2,
        crashes: 2,
        stalls: 2,
        unknown: 2,
        aborts: 1,
        timeouts: 1,
        refusals: 1,
        idle: 2,
        ..NO_FAULTS
    },
    ..WAITING
};
/// The same, and failovers that lose commits and whose old servers go on.
pub(super) const FAILOVERS: Scene =
    with(LARGE, Faults { failovers: 2, old_server_lives: true, ..LARGE.faults });
/// The same, and a progress topic that is lost. Not both: then nothing is left that could tell.
pub(super) const LARGE_TOPIC_LOST: Scene = with(LARGE, Faults { lost_topics: 1, ..LARGE.faults });
/// And the delivery is changed to exactly once, back, and again. Crashes of the server beside a
/// relay that delivers at least once are in `lanes.rs`.
pub(super) const LARGE_SWITCHED: Scene = Scene {
    begins_at_least_once: true,
    lazy: 0,
    ..with(LARGE, Faults { switches: 1, refusals: 0, crashes: 0, ..LARGE.faults })
};

const fn with(scene: Scene, faults: Faults) -> Scene {
    Scene { faults, ..scene }
}
/// Three events, of which the first relay has sent some when another one takes over.
pub(super) const ZOMBIE_UNKNOWN: Scene = Scene {
    keys: &[0, 0, 0],
    written: 3,
    running: true,
    ..with(ZOMBIE, Faults { unknown: 1, ..ZOMBIE.faults })
};
/// Windows in which nothing is new, and a crash.
pub(super) const IDLE: Scene = Scene {
    keys: &[0, 1],
    written: 1,
    running: true,
    ..with(WAITING, Faults { refusals: 1, crashes: 1, idle: 1, ..NO_FAULTS })
};
