//! Two rates side by side, often and in short turns, until their ratio is known well enough.

use serde::{Deserialize, Serialize};

/// How often two take turns: A, B, B, A is a round, in which a drift of the machine cancels out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The length of a turn.
    pub slice_millis: u64,
    /// The least number of rounds.
    pub least: usize,
    /// The most rounds, however uncertain the ratio is then.
    pub most: usize,
    /// Between them, the rounds end when the ratio is known within this, at 95 %.
    pub within: f64,
}

impl Plan {
    /// Whether there were enough rounds.
    #[must_use]
    pub fn is_done(&self, rounds: &[Round]) -> bool {
        let mean = Mean::of(&rounds.iter().map(Round::ratio).collect::<Vec<_>>());
        rounds.len() >= self.most || (rounds.len() >= self.least && mean.within() <= self.within)
    }
}

/// The rates in a round, each over both of its turns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// A, a second.
    pub first: f64,
    /// B, a second.
    pub second: f64,
}

impl Round {
    /// A / B.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.first / self.second
    }
}

/// What two did in turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// In their order.
    pub rounds: Vec<Round>,
}

/// The mean of ratios, and its 95 % interval.
///
/// It is the geometric one: of noise alone, the mean of a / b would be above 1, and that of b / a
/// as well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The lower end of the interval.
    pub from: f64,
    /// The upper end of the interval.
    pub to: f64,
}

impl Mean {
    /// Of ratios that are independent of each other. Of fewer than two, the interval has no end.
    #[must_use]
    pub fn of(ratios: &[f64]) -> Self {
        let n = ratios.len() as f64;
        let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / n;
        let squares: f64 = ratios.iter().map(|ratio| (ratio.ln() - mean).powi(2)).sum();
        let error = if ratios.len() < 2 { f64::INFINITY } else { (squares / (n - 1.0) / n).sqrt() };
        let around = t(ratios.len().saturating_sub(1)) * error;
        Self { mean: mean.exp(), from: (mean - around).exp(), to: (mean + around).exp() }
    }

    /// Half the length of the interval.
    #[must_use]
    pub fn within(&self) -> f64 {
        (self.to - self.from) / 2.0
    }
}

/// Student's t for a two-sided 95 % interval: the first terms of its expansion in the degrees of
/// freedom (Cornish and Fisher), good to 1 % from four of them on.
fn t(freedom: usize) -> f64 {
    let (z, v) = (1.959_964_f64, freedom.max(1) as f64);
    let second = 5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z;
    let third = 3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z;
    z + (z.powi(3) + z) / (4.0 * v) + second / (96.0 * v.powi(2)) + third / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // By the tables of t.
        for (freedom, expected) in [(4, 2.776), (9, 2.262), (29, 2.045), (999, 1.962)] {
            assert!((t(freedom) / expected - 1.0).abs() < 0.01, "{freedom}: {}", t(freedom));
        }
        let mean = Mean::of(&[0.9, 1.0, 1.1, 1.0, 1.0]);
        assert!((mean.mean - 0.998).abs() < 0.001, "{mean:?}");
        // 2.776 * 0.0711 / sqrt(5), on the logarithms.
        assert!((mean.from - 0.914).abs() < 0.002 && (mean.to - 1.090).abs() < 0.002, "{mean:?}");
    }

    #[test]
    fn a_ratio_and_its_inverse_have_inverse_means() {
        let ratios = [0.5, 1.0, 2.0];
        let inverse = ratios.map(f64::recip);
        assert!((Mean::of(&ratios).mean * Mean::of(&inverse).mean - 1.0).abs() < 1e-12);
    }

    #[test]
    fn rounds_end_when_the_ratio_is_known_or_at_the_most() {
        let plan = Plan { slice_millis: 1, least: 3, most: 5, within: 0.02 };
        let rounds = |ratios: &[f64]| -> Vec<Round> {
            ratios.iter().map(|ratio| Round { first: *ratio, second: 1.0 }).collect()
        };
        assert!(!plan.is_done(&rounds(&[])));
        assert!(!plan.is_done(&rounds(&[1.0, 1.0])), "too few");
        assert!(plan.is_done(&rounds(&[1.0, 1.0, 1.0])));
        assert!(!plan.is_done(&rounds(&[0.8, 1.0, 1.2, 1.0])), "too uncertain");
        assert!(plan.is_done(&rounds(&[0.8, 1.0, 1.2, 1.0, 1.0])), "the most");
    }
}
