//! What breaks consumers when a payload changes.

use std::collections::{BTreeMap, BTreeSet};

use super::reading::{Kind, Problem, Strictness, problems};
use crate::mode::Mode;
use crate::rules::Rule;
use crate::shape::{Payload, Shape};

/// The rules that are not kept, each with the path and what was changed.
pub(super) fn changes(before: &Payload, now: &Payload, mode: Mode) -> Vec<(Rule, String, String)> {
    let mut found: BTreeMap<(Rule, String), BTreeSet<String>> = BTreeMap::new();
    let strict = |strictness| if mode.is_transitive() { strictness } else { Strictness::AsTheyAre };
    if mode.new_readers_read_old_events() {
        for problem in new_problems(before, now, strict(Strictness::AnyEarlierWriter), true) {
            let (rule, what) = of_a_new_reader(problem.kind);
            found.entry((rule, problem.path)).or_default().insert(what);
        }
    }
    if mode.old_readers_read_new_events() {
        for problem in new_problems(before, now, strict(Strictness::AnyEarlierReader), false) {
            let (rule, what) = of_an_old_reader(problem.kind);
            found.entry((rule, problem.path)).or_default().insert(what);
        }
    }
    if mode.is_transitive() {
        // Where the whole is another one, the fields in it are no further news.
        let wholes: Vec<String> = found.keys().map(|(_, path)| path.clone()).collect();
        for (path, what, rule) in of_removed(before, now, mode) {
            if !wholes.iter().any(|whole| *whole == path || is_inside(&path, whole)) {
                found.entry((rule, path)).or_default().insert(what);
            }
        }
    }
    let said = found.into_iter().map(|((rule, path), whats)| {
        (rule, path, whats.into_iter().collect::<Vec<_>>().join(", and "))
    });
    said.collect()
}

/// Those that were not there without the change.
fn new_problems(
    before: &Payload,
    now: &Payload,
    strictness: Strictness,
    new_reader: bool,
) -> Vec<Problem> {
    let (written, read) = if new_reader { (before, now) } else { (now, before) };
    let already = problems(before, before, strictness);
    let found = problems(written, read, strictness).into_iter();
    found.filter(|problem| !already.contains(problem)).collect()
}

fn of_a_new_reader(kind: Kind) -> (Rule, String) {
    match kind {
        Kind::Missing { ever_written: false } => {
            (Rule::FieldNoNewRequired, "it is new, and readers require it".to_owned())
        }
        Kind::Missing { ever_written: true } => {
            (Rule::FieldNoNewRequired, "readers could do without it, and now require it".to_owned())
        }
        Kind::Refused => (
            Rule::FieldNoDelete,
            "it is gone, and readers refuse fields they do not know".to_owned(),
        ),
        Kind::Value(value) => {
            (Rule::EnumValueNoDelete, format!("{value} is no value of it any more"))
        }
        Kind::Type { written, read } => (Rule::FieldSameType, was(&written, &read)),
    }
}

fn of_an_old_reader(kind: Kind) -> (Rule, String) {
    match kind {
        Kind::Missing { ever_written: false } => (Rule::FieldNoDelete, "it is gone".to_owned()),
        Kind::Missing { ever_written: true } => {
            (Rule::FieldNoDelete, "it was always there, and now may not be".to_owned())
        }
        Kind::Refused => (
            Rule::FieldNoAdd,
            "it is new, and readers so far refuse fields they do not know".to_owned(),
        ),
        Kind::Value(value) => (Rule::EnumValueNoAdd, format!("{value} is a new value of it")),
        Kind::Type { written, read } => (Rule::FieldSameType, was(&read, &written)),
    }
}

fn was(before: &str, now: &str) -> String {
    format!("it was `{before}`, and is now `{now}`")
}

/// Of fields that were removed: their names are not free for something else.
fn of_removed(before: &Payload, now: &Payload, mode: Mode) -> Vec<(String, String, Rule)> {
    let (had, has) = (before.fields(), now.fields());
    let mut found = Vec::new();
    for (path, shape) in &before.removed {
        match has.get(path) {
            Some(new) if !agree(shape, now, new, mode) => {
                let what = format!(
                    "a field of this name was `{shape}` and was removed, and is now `{new}`"
                );
                found.push((path.clone(), what, Rule::FieldSameType));
            }
            None if !now.removed.contains_key(path) => {
                let what = "it was among the removed fields, and is gone from there".to_owned();
                found.push((path.clone(), what, Rule::FieldNoDelete));
            }
            _ => {}
        }
    }
    for path in had.into_keys().filter(|path| !has.contains_key(path)) {
        if !now.removed.contains_key(&path) && !inside_of_removed(&path, &now.removed) {
            let what = "it is gone, and is not among the removed fields of the lock".to_owned();
            found.push((path, what, Rule::FieldNoDelete));
        }
    }
    found
}

fn inside_of_removed(path: &str, removed: &BTreeMap<String, Shape>) -> bool {
    removed.keys().any(|outer| is_inside(path, outer))
}

/// Whether the path leads into what is at `outer`.
fn is_inside(path: &str, outer: &str) -> bool {
    outer.is_empty()
        || path.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[', '<', '{']))
}

/// Whether what was removed and what has its name now can be read as each other, as far as the mode
/// asks for it.
fn agree(removed: &Shape, now: &Payload, new: &Shape, mode: Mode) -> bool {
    let removed = Payload::new(removed.clone());
    let new = Payload::new(now.without_names(new));
    let reads = |written, read| problems(written, read, Strictness::AsTheyAre).is_empty();
    (!mode.new_readers_read_old_events() || reads(&removed, &new))
        && (!mode.old_readers_read_new_events() || reads(&new, &removed))
}

/// What was removed by now: what the lock has of it already, and what is gone since.
pub(crate) fn removed(before: &Payload, now: &Payload) -> BTreeMap<String, Shape> {
    let has = now.fields();
    let mut removed = before.removed.clone();
    for (path, shape) in before.fields() {
        removed.entry(path).or_insert_with(|| before.without_names(shape));
    }
    removed.retain(|path, _| !has.contains_key(path));
    let outer = removed.clone();
    removed.retain(|path, _| !inside_of_removed(path, &outer));
    removed
}
