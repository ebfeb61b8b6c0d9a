//! Decisions that a seed replays.

use std::env;

use uuid::Uuid;

/// Decides what a [`FaultyPublisher`](super::FaultyPublisher) and a
/// [disturbed](super::HandlerTest::disturbed) delivery do: the same seed takes the same decisions.
/// When the database and the tasks of a relay answer is not the seed's, so a failure may take a few
/// runs to come back.
///
/// ```
/// use outbox::testing::Seed;
///
/// let new_each_time = Seed::new();
/// let always_the_same = Seed::from(42);
/// # assert_eq!(always_the_same.number(), 42);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// A new seed for each run, or the one in the environment variable `OUTBOX_SEED`. It is
    /// printed, and a test that fails shows it: `OUTBOX_SEED=…` before the command of that test
    /// replays it.
    #[must_use]
    #[allow(clippy::new_without_default)] // it prints
    pub fn new() -> Self {
        let given = env::var("OUTBOX_SEED").ok().and_then(|seed| seed.trim().parse().ok());
        let seed = given.unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1);
        println!("OUTBOX_SEED={seed}");
        Self(seed)
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl From<u64> for Seed {
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

/// SplitMix64 (Steele, Lea, Flood): small, seeded, good enough to choose with.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// For one part of what a seed decides: its decisions do not depend on those of the others.
    pub(super) fn new(seed: Seed, part: u64) -> Self {
        Self(seed.0 ^ part.wrapping_mul(0x517c_c1b7_2722_0a95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // The remainder of a `usize` is one.
        (self.next() % n.max(1) as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
