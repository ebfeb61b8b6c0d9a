//! The order of each key: one job of a key runs at a time, and the next one when it has ended.

use std::collections::{HashMap, VecDeque};

/// What waits behind a running job of the same lane.
#[derive(Debug)]
pub(super) struct Lanes<J>(HashMap<u64, VecDeque<J>>);

impl<J> Default for Lanes<J> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<J> Lanes<J> {
    /// Gives the job back if it may run now; otherwise it has its place in the lane.
    pub(super) fn enter(&mut self, lane: u64, job: J) -> Option<J> {
        match self.0.get_mut(&lane) {
            Some(waiting) => {
                waiting.push_back(job);
                None
            }
            None => {
                self.0.insert(lane, VecDeque::new());
                Some(job)
            }
        }
    }

    /// The lane's job has ended: the next one that `is_wanted` may run.
    pub(super) fn next(&mut self, lane: u64, mut is_wanted: impl FnMut(&J) -> bool) -> Option<J> {
        let waiting = self.0.get_mut(&lane)?;
        while let Some(job) = waiting.pop_front() {
            if is_wanted(&job) {
                return Some(job);
            }
        }
        self.0.remove(&lane);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_of_a_lane_run_one_after_the_other_and_those_of_others_do_not_wait() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.enter(1, "a1"), Some("a1"));
        assert_eq!(lanes.enter(1, "a2"), None);
        assert_eq!(lanes.enter(1, "a3"), None);
        assert_eq!(lanes.enter(2, "b1"), Some("b1"));
        assert_eq!(
            lanes.next(1, |job| *job != "a2"),
            Some("a3"),
            "one that is not wanted any more is left out"
        );
        assert_eq!(lanes.next(1, |_| true), None);
        assert_eq!(lanes.enter(1, "a4"), Some("a4"), "the lane was empty");
    }
}
