//! Decisions that a printed seed replays.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood): small, seeded, good enough to choose with.
pub struct Random(u64);

impl Random {
    /// For the part `part` of a test: its decisions do not depend on those of others.
    pub fn new(seed: u64, part: u64) -> Self {
        Self(seed ^ part.wrapping_mul(0x517c_c1b7_2722_0a95))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Text that no compression makes much smaller, with fewer bytes than `limit`.
    pub fn text(&mut self, limit: u64) -> String {
        let length = self.below(limit) as usize;
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(length);
        text
    }

    /// Part of a load: something that takes its time.
    pub async fn dawdle(&mut self, most_millis: u64) {
        tokio::time::sleep(Duration::from_micros(self.below(most_millis * 1000))).await;
    }
}

/// The seed of this run: a new one, or that of `OUTBOX_SEED`.
pub fn seed() -> u64 {
    let seed = match std::env::var("OUTBOX_SEED") {
        Ok(seed) => seed.parse().expect("OUTBOX_SEED is a number"),
        Err(_) => uuid::Uuid::now_v7().as_u64_pair().1,
    };
    println!("OUTBOX_SEED={seed}");
    seed
}
