//! The retry topics of a handler.

use std::fmt;
use std::time::Duration;

/// Most retry topics of a handler. With a bound, options are `Copy`, and their delays need not be
/// known when the program is compiled.
const MOST: usize = 16;

/// The delays of a handler's retry topics, and what later events do meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetrySchedule {
    delays: [Duration; MOST],
    /// Number of delays that were given: more than [`MOST`] are refused.
    given: usize,
    pub(crate) later: LaterEvents,
}

/// What later events of a key do while an earlier one waits in a retry topic. It is one rule for
/// all handlers of a topic in a group: if one handler says [`Wait`](Self::Wait), the events of
/// handlers without retry topics wait as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaterEvents {
    /// They wait behind it: the key stays in order, and all of them are late. Until then they are
    /// kept in the database, in the table `…_key_queue`. They are handled as soon as the earlier
    /// one is handled or a dead letter.
    Wait,
    /// They are handled at once: the key's order is given up.
    Overtake,
}

impl RetrySchedule {
    pub(super) const fn new(given: &[Duration], later: LaterEvents) -> Self {
        let mut delays = [Duration::ZERO; MOST];
        let mut i = 0;
        while i < given.len() && i < MOST {
            delays[i] = given[i];
            i += 1;
        }
        Self { delays, given: given.len(), later }
    }

    /// The delays, in order.
    pub(crate) fn delays(&self) -> impl Iterator<Item = Duration> {
        self.delays.into_iter().take(self.given)
    }

    /// What is wrong if there are too many.
    pub(super) fn too_many(&self) -> Option<String> {
        (self.given > MOST).then(|| format!("it has {} retry topics: at most {MOST}", self.given))
    }
}

impl fmt::Debug for RetrySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delays: Vec<Duration> = self.delays().collect();
        f.debug_struct("RetrySchedule")
            .field("delays", &delays)
            .field("later", &self.later)
            .finish()
    }
}
