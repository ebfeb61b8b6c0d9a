//! The groups that a relay holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::group::Group;
use crate::publish::transactions::GroupSession;
use crate::record::{LANES, Lane};
use crate::store::groups::GroupStore;

/// A place for each number that a group can have.
type ByNumber<G, S> = [Option<Arc<Group<G, S>>>; LANES];

pub(super) struct Held<G, S> {
    groups: Mutex<ByNumber<G, S>>,
}

impl<G, S> Default for Held<G, S> {
    fn default() -> Self {
        Self { groups: Mutex::new([const { None }; LANES]) }
    }
}

impl<G, S> Held<G, S> {
    fn groups(&self) -> MutexGuard<'_, ByNumber<G, S>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Arc<Group<G, S>>> {
        self.groups().iter().flatten().cloned().collect()
    }

    pub(super) fn add(&self, group: Arc<Group<G, S>>) {
        let place = usize::from(group.number);
        if let Some(slot) = self.groups().get_mut(place) {
            *slot = Some(group);
        }
    }

    pub(super) fn remove(&self, number: u16) {
        if let Some(slot) = self.groups().get_mut(usize::from(number)) {
            *slot = None;
        }
    }
}

impl<G: GroupStore, S: GroupSession> Held<G, S> {
    /// The group in which this relay leases a lane, under this epoch. `None`: it has ended.
    pub(super) fn group_of(&self, lane: Lane, epoch: i64) -> Option<Arc<Group<G, S>>> {
        let groups = self.groups();
        let found = groups.iter().flatten().find(|group| group.has(lane, epoch));
        found.filter(|group| !group.has_ended()).cloned()
    }
}
