//! What breaks consumers when a lock changes.

mod payload;
pub(crate) mod reading;

use std::collections::BTreeMap;

pub(crate) use payload::removed;

use crate::lock::{Contract, EventName, Lock};
use crate::mode::Mode;
use crate::rules::Rule;

/// A rule that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Violation {
    /// Of which event.
    pub event: EventName,
    /// Where in its payload, such as `address.zip`. Empty: it is about the event as a whole.
    pub path: String,
    /// Which rule.
    pub rule: Rule,
    /// What was changed.
    pub what: String,
    /// The line of the new lock that has it, if one has.
    pub line: Option<usize>,
}

/// All rules that are not kept in `new` itself, and in the change from `old` to it.
///
/// `mode` replaces the modes of `old`, which are those that were agreed on: that `new` has other
/// modes changes nothing yet.
#[must_use]
pub fn check(old: &Lock, new: &Lock, mode: Option<Mode>) -> Vec<Violation> {
    let mut violations = check_alone(new);
    for (name, before) in &old.events {
        match new.events.get(name) {
            Some(now) => {
                let mode = mode.unwrap_or_else(|| old.mode_of(name));
                violations.extend(changes(new, name, before, now, mode));
            }
            None if before.retired => {}
            None => violations.push(gone(old, new, name)),
        }
    }
    violations.sort();
    violations
}

/// All rules that are not kept in a lock by itself.
#[must_use]
pub fn check_alone(lock: &Lock) -> Vec<Violation> {
    let mut versions: BTreeMap<(&str, &str), Vec<(&EventName, &Contract)>> = BTreeMap::new();
    for (name, contract) in lock.events.iter().filter(|(_, contract)| !contract.retired) {
        versions.entry((&name.topic, &name.name)).or_default().push((name, contract));
    }
    let mut violations = Vec::new();
    for versions in versions.values() {
        for (i, (name, contract)) in versions.iter().enumerate() {
            let unread =
                versions[..i].iter().filter(|(older, _)| !contract.reads.contains(&older.version));
            let unread: Vec<u32> = unread.map(|(older, _)| older.version).collect();
            violations.extend(has_no_upcast(lock, name, &unread));
        }
    }
    violations.sort();
    violations
}

/// That an event does not read these older versions, if there are any.
pub(crate) fn has_no_upcast(lock: &Lock, name: &EventName, unread: &[u32]) -> Option<Violation> {
    let s = match unread.len() {
        0 => return None,
        1 => "",
        _ => "s",
    };
    let unread: Vec<String> = unread.iter().map(u32::to_string).collect();
    let what = format!("it does not read version{s} {}", unread.join(" and "));
    Some(violation(lock, Rule::VersionHasUpcast, name, "", "reads", what))
}

/// The rules that a single event does not keep, whose contract was another one.
pub(crate) fn changes(
    new: &Lock,
    name: &EventName,
    before: &Contract,
    now: &Contract,
    mode: Mode,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    if before.key != now.key {
        let key = |key: &[String]| match key {
            [] => "no key".to_owned(),
            fields => format!("the key `{}`", fields.join("`, `")),
        };
        let what = format!("it had {}, and now has {}", key(&before.key), key(&now.key));
        violations.push(violation(new, Rule::EventSameKey, name, "", "key", what));
    }
    if before.content_type != now.content_type {
        let what = format!("it was `{}`, and is now `{}`", before.content_type, now.content_type);
        violations.push(violation(new, Rule::EventSameCodec, name, "", "content-type", what));
    }
    for header in before.headers.difference(&now.headers) {
        let what = format!("the header `{header}` is gone");
        violations.push(violation(new, Rule::HeaderNoDelete, name, "", "headers", what));
    }
    match (&before.payload, &now.payload) {
        (Some(before), Some(now)) if before != now => {
            for (rule, path, what) in payload::changes(before, now, mode) {
                let first = path.split(['.', '[', '<', '{']).next().unwrap_or_default();
                let key = format!("fields.{first}");
                violations.push(violation(new, rule, name, &path, &key, what));
            }
        }
        (Some(_), None) => {
            let what = "what its payload is like was in the lock, and is gone".to_owned();
            violations.push(violation(new, Rule::FieldNoDelete, name, "", "", what));
        }
        _ => {}
    }
    violations
}

fn gone(old: &Lock, new: &Lock, name: &EventName) -> Violation {
    let moved = new.events.keys().find(|other| {
        (&other.name, other.version) == (&name.name, name.version)
            && !old.events.contains_key(*other)
    });
    match moved {
        Some(other) => {
            let what = format!("it is now on the topic `{}`", other.topic);
            let line = new.line(other, "topic");
            Violation { line, ..violation(new, Rule::EventSameTopic, name, "", "", what) }
        }
        None => {
            let what = "it is gone".to_owned();
            violation(new, Rule::EventNoDelete, name, "", "", what)
        }
    }
}

pub(crate) fn violation(
    lock: &Lock,
    rule: Rule,
    event: &EventName,
    path: &str,
    key: &str,
    what: String,
) -> Violation {
    let line = lock.line(event, key);
    Violation { event: event.clone(), path: path.to_owned(), rule, what, line }
}
