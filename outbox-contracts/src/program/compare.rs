//! An event of a program, and what the lock says of it.

use super::reader;
use super::{Declared, Role};
use crate::check::{self, Violation, has_no_upcast};
use crate::difference;
use crate::lock::{Contract, EventName, Lock};

/// What the lock says of an event.
pub(super) enum Verdict {
    /// The same.
    Same,
    /// Nothing: this would be written.
    New(Contract),
    /// Something else: this would be written. What of the change breaks consumers, and all of it in
    /// words.
    Changed { now: Contract, breaks: Vec<Violation>, changes: Vec<String> },
    /// Something that the program cannot read.
    Unread(Vec<Violation>),
}

pub(super) fn verdict(lock: &Lock, declared: &Declared) -> Verdict {
    let Declared { name, contract, role } = declared;
    let before = lock.events.get(name);
    match (before, role) {
        // What was emitted is not known.
        (None, Role::ReadOnly) => Verdict::Same,
        (None, _) => Verdict::New(contract.clone()),
        (Some(before), Role::ReadOnly) => match reader::of_payload(lock, name, before, contract) {
            unread if unread.is_empty() => Verdict::Same,
            unread => Verdict::Unread(unread),
        },
        (Some(before), _) => {
            // Written by people, as the mode is.
            let now = Contract { retired: before.retired, ..contract.clone() }.after(before);
            if now == *before {
                return Verdict::Same;
            }
            let breaks = check::changes(lock, name, before, &now, lock.mode_of(name));
            let changes = difference::of_event(before, &now);
            Verdict::Changed { now, breaks, changes }
        }
    }
}

/// That the newest type of an event does not read the versions before it.
pub(super) fn unread(lock: &Lock, declared: &Declared) -> Option<Violation> {
    let Declared { name, contract, role } = declared;
    if lock.events.get(name).is_some_and(|known| known.retired) || *role == Role::ReadOnly {
        return None;
    }
    let unread: Vec<u32> = other_versions(lock, name)
        .filter(|(other, known)| other.version < name.version && !known.retired)
        .map(|(other, _)| other.version)
        .filter(|version| !contract.reads.contains(version))
        .collect();
    has_no_upcast(lock, name, &unread)
}

/// The versions of an event but for this one.
pub(super) fn other_versions<'l>(
    lock: &'l Lock,
    name: &EventName,
) -> impl Iterator<Item = (&'l EventName, &'l Contract)> + use<'l> {
    let (topic, event, version) = (name.topic.clone(), name.name.clone(), name.version);
    let first = EventName::new(&*topic, &*event, 0);
    lock.events
        .range(first..)
        .take_while(move |(other, _)| (&other.topic, &other.name) == (&topic, &event))
        .filter(move |(other, _)| other.version != version)
}
