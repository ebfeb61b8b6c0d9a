//! Commands, and the processor time they take.

use std::process::Command;

use outbox_bench_report::Mean;
use serde::{Deserialize, Serialize};

use crate::process::run;
use crate::{Error, procfs};

/// Seconds of processor time, in user and kernel mode, of a command and all it waits for.
pub(super) fn cpu_seconds(command: Command, purpose: &str) -> Result<f64, Error> {
    let before = procfs::cpu_seconds_of_children()?;
    run(command, purpose)?;
    Ok(procfs::cpu_seconds_of_children()? - before)
}

/// What was measured several times.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// Keeps five digits, which is more than any of them is good for.
    pub(super) fn push(&mut self, sample: f64) {
        let digits = 4 - sample.abs().max(f64::MIN_POSITIVE).log10().floor().max(-12.0) as i32;
        let scale = 10_f64.powi(digits);
        self.0.push((sample * scale).round() / scale);
        self.0.sort_by(f64::total_cmp);
    }

    pub(super) fn median(&self) -> f64 {
        match (self.0.len(), self.0.len() / 2) {
            (0, _) => f64::NAN,
            (length, middle) if length % 2 == 1 => self.0[middle],
            (_, middle) => (self.0[middle - 1] + self.0[middle]) / 2.0,
        }
    }

    /// The mean of samples that are ratios, with its interval.
    pub(super) fn mean(&self) -> Mean {
        Mean::of(&self.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least and the most.
    pub(super) fn spread(&self) -> (f64, f64) {
        (self.0.first().copied().unwrap_or(f64::NAN), self.0.last().copied().unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let mut samples = Samples::default();
        for (sample, median) in [(3.0, 3.0), (1.0, 2.0), (9.0, 3.0)] {
            samples.push(sample);
            assert!((samples.median() - median).abs() < f64::EPSILON, "{samples:?}");
        }
        assert_eq!(samples.spread(), (1.0, 9.0));
    }

    #[test]
    fn samples_have_five_digits() {
        for (sample, kept) in [(0.0, 0.0), (1.234_567, 1.234_6), (-123_456.7, -123_460.0)] {
            let mut samples = Samples::default();
            samples.push(sample);
            assert!((samples.median() - kept).abs() < 1e-9, "{samples:?}");
        }
    }
}
