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

    /// The running job of the key has ended: returns the next one, which may run.
    pub(super) fn next(&mut self, key: u64) -> Option<J> {
        let next = self.0.get_mut(&key)?.pop_front();
        if next.is_none() {
            self.0.remove(&key);
        }
        next
    }

    /// The next job of the key, if `joins` takes it into the one that is about to run.
    pub(super) fn next_if(&mut self, key: u64, joins: impl FnOnce(&J) -> bool) -> Option<J> {
        let queue = self.0.get_mut(&key)?;
        let next = queue.front()?;
        if joins(next) { queue.pop_front() } else { None }
    }

    /// Puts a job of the running key before the others that wait.
    pub(super) fn put_back(&mut self, key: u64, job: J) {
        if let Some(queue) = self.0.get_mut(&key) {
            queue.push_front(job);
        }
    }

    /// Drops waiting jobs that are not wanted any more.
    pub(super) fn retain(&mut self, mut is_wanted: impl FnMut(&J) -> bool) {
        self.0.values_mut().for_each(|queue| queue.retain(&mut is_wanted));
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
        queues.retain(|job| *job != "a2");
        assert_eq!(queues.next(1), Some("a3"), "one that is not wanted any more is left out");
        assert_eq!(queues.next(1), None);
        assert_eq!(queues.enter(1, "a4"), Some("a4"), "the queue was empty");
    }

    #[test]
    fn jobs_of_a_key_that_join_a_running_one_and_come_back_keep_their_order() {
        let mut queues = KeyQueues::default();
        queues.enter(1, "a1");
        for job in ["a2", "a3", "a4"] {
            assert_eq!(queues.enter(1, job), None);
        }
        assert_eq!(queues.next_if(1, |job| *job == "a3"), None, "not the one after the next");
        assert_eq!(queues.next_if(1, |job| *job == "a2"), Some("a2"));
        assert_eq!(queues.next_if(1, |_| true), Some("a3"));
        for job in ["a3", "a2", "a1"] {
            queues.put_back(1, job);
        }
        for job in ["a1", "a2", "a3", "a4"] {
            assert_eq!(queues.next(1), Some(job));
        }
        assert_eq!(queues.next(1), None);
    }
}
