//! Events each second.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use outbox::admin::Status;

/// What rates are an average of: one second alone says little of a relay that sends in batches.
const AVERAGED: Duration = Duration::from_secs(10);
/// Most looks that are remembered: those of the shortest pause between them.
const MOST: usize = 64;

/// A look at the database, as far as rates are concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub at: SystemTime,
    /// The last number that was drawn: one for each event.
    pub last_number: u64,
    pub pending: u64,
}

/// Looks at the database, the latest last.
#[derive(Debug, Default)]
pub struct Looks(VecDeque<Look>);

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Emitted or replayed.
    pub emitted: f64,
    /// Published or parked.
    pub settled: f64,
}

impl From<&Status> for Look {
    fn from(status: &Status) -> Self {
        Self { at: status.at, last_number: status.last_number, pending: status.backlog }
    }
}

impl Looks {
    pub fn add(&mut self, look: Look) {
        // Of a clock that was set back, and of a database that was restored, what was before says
        // nothing.
        let last = self.0.back();
        if last.is_some_and(|last| last.at >= look.at || last.last_number > look.last_number) {
            self.0.clear();
        }
        self.0.push_back(look);
        let is_old = |old: &Look| look.at.duration_since(old.at).is_ok_and(|age| age > AVERAGED);
        // Of two, however far they are apart, there is still an average.
        while self.0.len() > MOST || (self.0.len() > 2 && self.0.front().is_some_and(is_old)) {
            self.0.pop_front();
        }
    }

    /// `None`: there was one look only.
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let seconds = last.at.duration_since(first.at).ok()?.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let emitted = last.last_number.saturating_sub(first.last_number) as f64;
        let settled = (emitted + first.pending as f64 - last.pending as f64).max(0.0);
        Some(Rates { emitted: emitted / seconds, settled: settled / seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(second: u64, last_number: u64, pending: u64) -> Look {
        Look { at: SystemTime::UNIX_EPOCH + Duration::from_secs(second), last_number, pending }
    }

    fn rates(looks: &[Look]) -> Option<(f64, f64)> {
        let mut all = Looks::default();
        looks.iter().for_each(|look| all.add(*look));
        all.rates().map(|rates| (rates.emitted, rates.settled))
    }

    #[test]
    fn what_comes_in_is_counted_by_its_numbers_and_what_goes_out_by_what_is_left() {
        assert_eq!(rates(&[look(0, 100, 10)]), None);
        assert_eq!(rates(&[look(0, 100, 10), look(2, 300, 50)]), Some((100.0, 80.0)));
        assert_eq!(rates(&[look(0, 100, 50), look(1, 100, 0)]), Some((0.0, 50.0)));
    }

    #[test]
    fn they_are_the_average_of_the_last_ten_seconds_or_of_the_last_two_looks() {
        let looks: Vec<Look> =
            (0..60).map(|n| look(n, if n < 40 { 0 } else { (n - 40) * 7 }, 0)).collect();
        assert_eq!(rates(&looks), Some((7.0, 7.0)));
        assert_eq!(rates(&[look(0, 0, 0), look(60, 6, 0), look(120, 606, 0)]), Some((10.0, 10.0)));
    }

    #[test]
    fn a_clock_that_is_set_back_and_a_database_that_is_restored_begin_anew() {
        assert_eq!(rates(&[look(9, 100, 0), look(5, 110, 0)]), None);
        assert_eq!(rates(&[look(5, 100, 0), look(9, 90, 0)]), None);
        assert_eq!(rates(&[look(5, 100, 0), look(5, 110, 0)]), None);
    }

    #[test]
    fn the_memory_of_looks_is_bounded() {
        let mut looks = Looks::default();
        for n in 0..1_000 {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(n);
            looks.add(Look { at, last_number: n, pending: 0 });
        }
        assert_eq!(looks.0.len(), MOST);
    }
}
