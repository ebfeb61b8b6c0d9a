//! Takes into a lock what an event is now.

use super::{Contract, EventName, Lock};
use crate::check::removed;
use crate::shape::Payload;

impl Lock {
    /// Writes down what an event is now, whatever it was. What people wrote into its block stays:
    /// its mode. The fields that it no longer has are kept as removed ones.
    ///
    /// Returns whether that changed anything. That a type has another name is no change.
    pub fn accept(&mut self, name: &EventName, mut contract: Contract) -> bool {
        if let Some(before) = self.events.get(name) {
            contract = contract.after(before);
            if *before == contract {
                return false;
            }
        }
        self.events.insert(name.clone(), contract);
        true
    }
}

impl Contract {
    /// What is written down of the event that was `before`, and is this now.
    pub(crate) fn after(mut self, before: &Self) -> Self {
        self.mode = before.mode;
        match (&before.payload, &mut self.payload) {
            (Some(before), Some(now)) => {
                now.removed = removed(before, now);
                if is_same(before, now) {
                    *now = before.clone();
                }
            }
            // A test without the payload's types does not take away what others know.
            (Some(before), now @ None) => *now = Some(before.clone()),
            _ => {}
        }
        self
    }
}

/// But for the names of types.
fn is_same(before: &Payload, now: &Payload) -> bool {
    before.removed == now.removed
        && before.without_names(&before.shape) == now.without_names(&now.shape)
}
