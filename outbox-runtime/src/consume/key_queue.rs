//! The order of each key: one job of a key runs at a time, and the next one when it has ended.

use std::collections::{HashMap, VecDeque};

/// Jobs that wait behind a running job of the same key, by the key's hash.
#[derive(Debug)]
pub(super) struct KeyQueues<J>(HashMap<u64, VecDeque<J>>);

impl<J> Default for KeyQueues<J> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<J> KeyQueues<J> {
    /// Gives the job back if it may run now; otherwise it is queued behind the others of its key.
    pub(super) fn enter(&mut self, key: u64, job: J) -> Option<J> {
        match self.0.get_mut(&key) {
            Some(queue) => {
                queue.push_back(job);
                None
            }
            None => {
                self.0.insert(key, VecDeque::new());
                Some(job)
            }
        }
    }

    /// The running job of the key has ended: returns the next one that `is_wanted`, which may run.
    pub(super) fn next(&mut self, key: u64, mut is_wanted: impl FnMut(&J) -> bool) -> Option<J> {
        let queue = self.0.get_mut(&key)?;
        while let Some(job) = queue.pop_front() {
            if is_wanted(&job) {
                return Some(job);
            }
        }
        self.0.remove(&key);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_of_a_key_run_one_after_the_other_and_those_of_others_do_not_wait() {
        let mut queues = KeyQueues::default();
        assert_eq!(queues.enter(1, "a1"), Some("a1"));
        assert_eq!(queues.enter(1, "a2"), None);
        assert_eq!(queues.enter(1, "a3"), None);
        assert_eq!(queues.enter(2, "b1"), Some("b1"));
        assert_eq!(
            queues.next(1, |job| *job != "a2"),
            Some("a3"),
            "one that is not wanted any more is left out"
        );
        assert_eq!(queues.next(1, |_| true), None);
        assert_eq!(queues.enter(1, "a4"), Some("a4"), "the queue was empty");
    }
}
