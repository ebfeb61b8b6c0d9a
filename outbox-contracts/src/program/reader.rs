//! A type that only reads an event, and what the lock of who emits it says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Declared, compare};
use crate::check::reading::{Kind, Strictness, problems};
use crate::check::{Violation, violation};
use crate::lock::{Contract, EventName, Lock};
use crate::rules::Rule;

/// What of an event's payload cannot be read by a type with this contract.
pub(super) fn of_payload(
    lock: &Lock,
    name: &EventName,
    emitted: &Contract,
    reader: &Contract,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    if emitted.content_type != reader.content_type {
        let what = format!(
            "it is emitted as `{}`, and read as `{}`",
            emitted.content_type, reader.content_type
        );
        violations.push(violation(lock, Rule::EventSameCodec, name, "", "content-type", what));
    }
    let (Some(written), Some(read)) = (&emitted.payload, &reader.payload) else {
        return violations;
    };
    // What is on the topic may be older than the lock.
    let strictness = match lock.mode_of(name) {
        mode if mode.is_transitive() && mode.new_readers_read_old_events() => {
            Strictness::AnyEarlierWriter
        }
        _ => Strictness::AsTheyAre,
    };
    let mut found: BTreeMap<(Rule, String), BTreeSet<String>> = BTreeMap::new();
    for problem in problems(written, read, strictness) {
        let (rule, what) = of_a_reader(problem.kind);
        found.entry((rule, problem.path)).or_default().insert(what);
    }
    for ((rule, path), what) in found {
        let what = what.into_iter().collect::<Vec<_>>().join(", and ");
        let first = path.split(['.', '[', '<', '{']).next().unwrap_or_default();
        let key = format!("fields.{first}");
        violations.push(violation(lock, rule, name, &path, &key, what));
    }
    violations
}

/// What is wrong with a type that reads what another program emits.
pub(super) fn of_emitter(lock: &Lock, declared: &Declared) -> Result<Vec<Violation>, Unknown> {
    let Declared { name, contract, .. } = declared;
    let Some(emitted) = lock.events.get(name) else {
        let is_near = |other: &&EventName| other.name == name.name || other.topic == name.topic;
        let near = lock.events.keys().filter(is_near).cloned().collect();
        return Err(Unknown { near });
    };
    let mut violations = of_payload(lock, name, emitted, contract);
    violations.extend(compare::unread(lock, declared));
    Ok(violations)
}

/// The lock does not have the event, but these that it could be.
pub(super) struct Unknown {
    pub(super) near: Vec<EventName>,
}

fn of_a_reader(kind: Kind) -> (Rule, String) {
    match kind {
        Kind::Missing { ever_written: false } => {
            (Rule::FieldNoNewRequired, "this type requires it, and it is not emitted".to_owned())
        }
        Kind::Missing { ever_written: true } => (
            Rule::FieldNoNewRequired,
            "this type requires it, and not every event has it".to_owned(),
        ),
        Kind::Refused => (
            Rule::FieldNoAdd,
            "it is emitted, and this type refuses fields that it does not know".to_owned(),
        ),
        Kind::Value(value) => {
            (Rule::EnumValueNoAdd, format!("{value} is emitted, and this type does not know it"))
        }
        Kind::Type { written, read } => (
            Rule::FieldSameType,
            format!("it is emitted as `{written}`, and this type reads `{read}`"),
        ),
    }
}
