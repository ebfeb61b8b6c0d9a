//! The search: every reachable state of a small scene, or random walks through a larger one.

use std::collections::HashSet;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// The states that can follow one.
pub(super) struct Next<S> {
    /// By what happens if nothing goes wrong any more.
    pub(super) steps: Vec<S>,
    /// By what need not happen.
    pub(super) faults: Vec<S>,
}

/// A state of a model.
pub(super) trait State: Hash + Sized {
    fn next(&self) -> Next<Self>;

    /// The promises that hold in every state; `last` says that there is no step, so that this is
    /// how it ends if nothing goes wrong any more.
    fn check(&self, last: bool) -> Result<(), Broken>;
}

/// Which promise does not hold, and in which state.
pub(super) type Broken = String;

/// Visits every state that can be reached from `first`, or fails at the first one that breaks a
/// promise. Only hashes of visited states are kept: among a million, two are equal with a chance of
/// 1 in 10^7.
pub(super) fn every_state<S: State>(first: S) -> Result<usize, Broken> {
    let hash = |state: &S| {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        hasher.finish()
    };
    let mut seen = HashSet::from([hash(&first)]);
    let mut to_visit = vec![first];
    while let Some(state) = to_visit.pop() {
        let Next { steps, faults } = state.next();
        state.check(steps.is_empty())?;
        to_visit.extend(steps.into_iter().chain(faults).filter(|next| seen.insert(hash(next))));
    }
    Ok(seen.len())
}

/// Walks from `first` until nothing can happen any more. Returns the number of steps.
///
/// Each walk has its own share of faults. It prefers the first or the last of the possible steps,
/// or none, and changes that now and then: so one participant waits while another one goes far.
pub(super) fn walk<S: State>(first: S, random: &mut Random) -> Result<usize, Broken> {
    let (one_fault_in, mut prefers) = (4 << random.below(3), random.below(3));
    let mut state = first;
    for steps_taken in 0.. {
        let Next { mut steps, mut faults } = state.next();
        state.check(steps.is_empty())?;
        if steps.is_empty() && faults.is_empty() {
            return Ok(steps_taken);
        }
        if random.below(16) == 0 {
            prefers = random.below(3);
        }
        let fault = !faults.is_empty() && (steps.is_empty() || random.below(one_fault_in) == 0);
        let next = if fault { &mut faults } else { &mut steps };
        let chosen = match prefers {
            1 if !fault && random.below(4) > 0 => 0,
            2 if !fault && random.below(4) > 0 => next.len() - 1,
            _ => random.below(next.len()),
        };
        state = next.swap_remove(chosen);
    }
    unreachable!("a walk ends")
}

/// SplitMix64 (Steele, Lea, Flood): small, seeded, good enough to choose with.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one in each run.
    pub(super) fn seed() -> u64 {
        RandomState::new().hash_one(())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
