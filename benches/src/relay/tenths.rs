//! How fast the second and the ninth tenth of a backlog are published. The first and the last one
//! have a beginning and an end in them.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use outbox_bench_report::Tenths;

/// When how many events had been delivered.
pub(crate) struct Times {
    tenth: u64,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    delivered: u64,
    /// The first report behind each end of a tenth.
    at: Vec<(u64, Instant)>,
}

impl Times {
    pub(crate) fn of(events: u64) -> Self {
        Self { tenth: (events / 10).max(1), noted: Mutex::default() }
    }

    /// Counts events that have just been delivered.
    pub(crate) fn note(&self, delivered: u64) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = noted.delivered;
        noted.delivered += delivered;
        if before / self.tenth != noted.delivered / self.tenth {
            let now = noted.delivered;
            noted.at.push((now, Instant::now()));
        }
    }

    /// `None`: a tenth is no more than a report.
    pub(crate) fn tenths(&self) -> Option<Tenths> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let end = |n: u64| noted.at.iter().find(|(events, _)| *events >= n * self.tenth);
        let rate = |from, to| {
            let ((before, begin), (after, end)) = (end(from)?, end(to)?);
            let events = after - before;
            (events > 0).then(|| events as f64 / (*end - *begin).as_secs_f64())
        };
        Some(Tenths { second: rate(1, 2)?, ninth: rate(8, 9)? })
    }
}
