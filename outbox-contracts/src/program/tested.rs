//! What the tests do that the macros write.

use std::io::Write as _;
use std::path::Path;

use super::compare::{self, Verdict};
use super::{Declared, Role, file, reader, said, source, update};
use crate::lock::Lock;

/// Compares the events of a type with the lock of the crate whose manifest is in this folder.
///
/// # Panics
/// With what differs, and what to do.
#[track_caller]
pub fn check(manifest: Option<&str>, contracts: &[Declared]) {
    conclude(judged(contracts, manifest, false));
}

/// The same for all events of a program: no other event is in its lock.
///
/// # Panics
/// With what differs, and what to do.
#[track_caller]
pub fn catalogue(manifest: Option<&str>, contracts: &[Vec<Declared>]) {
    conclude(judged(&contracts.concat(), manifest, true));
}

#[track_caller]
#[allow(clippy::panic)] // of a test that fails
fn conclude(wrong: Vec<String>) {
    if !wrong.is_empty() {
        panic!("{}", said::failed(&wrong));
    }
}

/// What is wrong, one text each.
fn judged(declared: &[Declared], manifest: Option<&str>, whole: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut own = Vec::new();
    for each in declared {
        match each.role {
            Role::EmittedBy(emitter) => wrong.extend(of_emitter(each, emitter, manifest)),
            Role::Emitted | Role::ReadOnly => own.push(each),
        }
    }
    if own.is_empty() && !whole {
        return wrong;
    }
    let result = file::of_crate(manifest).and_then(|path| match accepts()? {
        false => compared(&own, &path, whole),
        true => accepted(&own, &path, whole),
    });
    match result {
        Ok(found) => wrong.extend(found),
        Err(found) => wrong.push(found),
    }
    wrong
}

/// Whether the lock is to be written.
fn accepts() -> Result<bool, String> {
    let value = std::env::var_os("OUTBOX_CONTRACTS").unwrap_or_default();
    match value.to_str() {
        Some("") => Ok(false),
        // Nothing that is written there is committed, and nothing would be compared.
        Some("accept") if is_ci() => Err(said::accept_in_ci()),
        Some("accept") => Ok(true),
        _ => Err(said::unknown_mode(&value)),
    }
}

pub(super) fn is_ci() -> bool {
    let value = std::env::var_os("CI").unwrap_or_default();
    !["", "0", "false"].iter().any(|no| value == *no)
}

fn compared(own: &[&Declared], path: &Path, whole: bool) -> Result<Vec<String>, String> {
    let loaded = file::load(path)?.ok_or_else(|| said::no_lock_yet(path, is_ci()))?;
    let (lock, shown) = (&loaded.lock, said::path(path));
    let mut wrong = Vec::new();
    for declared in own {
        match compare::verdict(lock, declared) {
            Verdict::Same => {}
            Verdict::New(_) => wrong.push(said::new(lock, &declared.name, &shown)),
            Verdict::Changed { breaks, changes, .. } if breaks.is_empty() => {
                wrong.push(said::changed(lock, &declared.name, &changes, &shown));
            }
            Verdict::Changed { breaks, .. } => wrong.push(said::breaks(&breaks, &shown)),
            Verdict::Unread(unread) => wrong.push(said::unread(&unread, &shown)),
        }
        wrong
            .extend(compare::unread(lock, declared).map(|unread| said::no_upcast(&unread, &shown)));
    }
    if whole {
        wrong.extend(undeclared(own, lock, &shown));
    }
    Ok(wrong)
}

fn accepted(own: &[&Declared], path: &Path, whole: bool) -> Result<Vec<String>, String> {
    let shown = said::path(path);
    let (wrong, news) = update::update(path, |lock| {
        let (mut wrong, mut news) = (Vec::new(), String::new());
        for declared in own {
            let name = &declared.name;
            match compare::verdict(lock, declared) {
                Verdict::Same => {}
                Verdict::New(now) | Verdict::Changed { now, .. }
                    if now.payload.as_ref().is_some_and(|now| now.excess().is_some()) =>
                {
                    wrong.push(said::excess(name, &now));
                }
                Verdict::New(now) => {
                    news += &said::accepted_new(name, &shown);
                    lock.events.insert(name.clone(), now);
                }
                Verdict::Changed { now, breaks, changes } => {
                    news += &said::accepted(name, &breaks, &changes, &shown);
                    lock.events.insert(name.clone(), now);
                }
                Verdict::Unread(unread) => wrong.push(said::unread(&unread, &shown)),
            }
        }
        for declared in own {
            let unread = compare::unread(lock, declared);
            wrong.extend(unread.map(|unread| said::no_upcast(&unread, &shown)));
        }
        if whole {
            wrong.extend(undeclared(own, lock, &shown));
        }
        (wrong, news)
    })?;
    // Not by `eprint!`, of which a test that passes shows nothing.
    drop(std::io::stderr().write_all(news.as_bytes()));
    Ok(wrong)
}

/// The events of the lock that are none of these.
fn undeclared(own: &[&Declared], lock: &Lock, shown: &str) -> Vec<String> {
    let known: std::collections::BTreeSet<_> = own.iter().map(|declared| &declared.name).collect();
    let gone =
        lock.events.iter().filter(|(name, known_as)| !known_as.retired && !known.contains(name));
    gone.map(|(name, _)| said::undeclared(lock, name, shown)).collect()
}

fn of_emitter(declared: &Declared, emitter: &str, manifest: Option<&str>) -> Option<String> {
    let (loaded, shown) = match source::load(emitter, manifest) {
        Ok(loaded) => loaded,
        Err(wrong) => return Some(wrong),
    };
    match reader::of_emitter(&loaded.lock, declared) {
        Ok(unread) if unread.is_empty() => None,
        Ok(unread) => Some(said::unread(&unread, &shown)),
        Err(unknown) => Some(said::not_emitted(&declared.name, &unknown.near, &shown)),
    }
}
