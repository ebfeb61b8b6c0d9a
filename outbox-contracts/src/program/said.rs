//! The words of a test that fails.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::file::VARIABLE;
use crate::check::Violation;
use crate::lock::{Contract, EventName, Lock, LockError};
use crate::report;

const ACCEPT: &str = "`OUTBOX_CONTRACTS=accept cargo test`";

/// All of it, under the line with which a panic begins.
pub(super) fn failed(wrong: &[String]) -> String {
    format!("the events are not as consumers rely on them\n\n{}\n", wrong.join("\n\n"))
}

/// Without characters that move a terminal's cursor, but for the ends of our lines.
fn plain(text: &str) -> String {
    text.split('\n').map(report::plain).collect::<Vec<_>>().join("\n")
}

/// As the compiler says it.
fn error(what: &str, place: &str, helps: &[&str]) -> String {
    let mut said = format!("error{what}\n  --> {place}");
    for help in helps {
        let _ = write!(said, "\n   = {help}");
    }
    plain(&said)
}

fn place(lock: &Lock, name: &EventName, shown: &str) -> String {
    lock.line(name, "").map_or_else(|| shown.to_owned(), |line| format!("{shown}:{line}"))
}

/// The path, from where the tests of the crate are run.
pub(super) fn path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let inside = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    inside.unwrap_or_else(|| path.to_owned()).display().to_string()
}

pub(super) fn new(lock: &Lock, name: &EventName, shown: &str) -> String {
    let moved = lock.events.keys().find(|other| {
        other.topic != name.topic && (&other.name, other.version) == (&name.name, name.version)
    });
    let moved = moved.map(|other| {
        format!(
            "help: the event of this name and version is on the topic `{}` in the lock. If it is the same event, keep the topic \
             [EVENT_SAME_TOPIC]: consumers of the old one would wait for it forever",
            other.topic
        )
    });
    let accept =
        format!("help: if it is new, {ACCEPT} writes it into the lock; commit that with the code");
    let unlocked = "help: an event that no consumer relies on, such as one of a test, is left out by `#[event(unlocked)]`; \
                    one that another program emits is read `emitted_by = \"…\"`, its lock";
    let helps: Vec<&str> = moved.iter().map(String::as_str).chain([&*accept, unlocked]).collect();
    error(&format!(": the event {name} is not in the lock"), shown, &helps)
}

pub(super) fn changed(lock: &Lock, name: &EventName, changes: &[String], shown: &str) -> String {
    let mut helps: Vec<&str> = changes.iter().map(String::as_str).collect();
    let accept = format!(
        "help: this breaks no consumer. {ACCEPT} writes it into the lock; commit that with the code"
    );
    helps.push(&accept);
    error(&format!(": the event {name} is not as in the lock"), &place(lock, name, shown), &helps)
}

pub(super) fn breaks(breaks: &[Violation], shown: &str) -> String {
    let said = report::text(breaks, shown);
    format!(
        "{}\n\nIf it is meant, there are two ways:\n\
         - a new version of the event beside this one, of which consumers read both: `version = …, upcast_from = …`\n\
         - {ACCEPT}, if no consumer relies on it yet: it writes the change into the lock, where it is reviewed",
        said.trim_end()
    )
}

pub(super) fn unread(unread: &[Violation], shown: &str) -> String {
    let mut said = String::new();
    for violation in unread {
        let subject = report::subject(violation);
        let Violation { event, rule, what, line, .. } = violation;
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let help = format!("help: {}", rule.fix_of_a_reader());
        let what = format!("[{rule}]: {event}: {subject}{what}");
        let consequence = "the event could not be read here: it becomes a dead letter";
        said += &error(&what, &format!("{shown}{line}"), &[consequence, &help]);
        said += "\n\n";
    }
    said.trim_end().to_owned()
}

pub(super) fn no_upcast(violation: &Violation, shown: &str) -> String {
    let said = report::text(std::slice::from_ref(violation), shown);
    format!(
        "{}\n   = help: or, if no event of an older version can come any more, write `retired = true` into its block of the lock",
        said.trim_end()
    )
}

pub(super) fn undeclared(lock: &Lock, name: &EventName, shown: &str) -> String {
    let helps = [
        "events of it may come again, from the topic, a retry topic, a dead letter or a replay",
        "help: if its type is there, name it in `catalogue!`",
        "help: if its type is gone, keep it as long as its events can come; `#[event(read_only)]` suffices to read them",
        "help: if none of its events can come any more, write `retired = true` into its block of the lock",
    ];
    let what =
        format!("[EVENT_NO_DELETE]: the event {name} is in the lock, and not in the catalogue");
    error(&what, &place(lock, name, shown), &helps)
}

pub(super) fn not_emitted(name: &EventName, near: &[EventName], shown: &str) -> String {
    let near: Vec<String> = near.iter().take(5).map(ToString::to_string).collect();
    let known = match &*near {
        [] => "the lock has no event of this name and none of this topic".to_owned(),
        near => format!("the lock has {}", near.join(", ")),
    };
    let helps = [
        "no event would come to a handler of this type",
        &known,
        "help: correct `topic`, `name` or `version`; or name the lock of the program that emits it",
    ];
    error(&format!(": the event {name} is not in the lock of who emits it"), shown, &helps)
}

pub(super) fn excess(name: &EventName, now: &Contract) -> String {
    let why = now.payload.as_ref().and_then(crate::shape::Payload::excess).unwrap_or_default();
    error(
        &format!(": the payload of the event {name} is too large for a lock: {why}"),
        &name.topic,
        &[
            "help: give a part of it the type `serde_json::Value`, or leave the event out by `#[event(unlocked)]`",
        ],
    )
}

pub(super) fn accepted_new(name: &EventName, shown: &str) -> String {
    plain(&format!("{shown}: the event {name} is new")) + "\n"
}

pub(super) fn accepted(
    name: &EventName,
    breaks: &[Violation],
    changes: &[String],
    shown: &str,
) -> String {
    let mut said = format!("{shown}: the event {name} is accepted as it is now");
    for change in changes {
        let _ = write!(said, "\n  {change}");
    }
    for violation in breaks {
        let Violation { rule, .. } = violation;
        let at = report::subject(violation);
        let _ = write!(said, "\n  breaks consumers [{rule}]: {at}{}", rule.consequence());
    }
    plain(&said) + "\n"
}

pub(super) fn no_lock_yet(path: &Path, is_ci: bool) -> String {
    let shown = self::path(path);
    if is_ci {
        return error(
            ": there is no lock of events here, so nothing can be compared",
            &shown,
            &[&format!("help: run {ACCEPT} on your machine, and commit the file that it writes")],
        );
    }
    let helps = [
        format!("help: {ACCEPT} writes it; commit it with the code"),
        format!(
            "help: a workspace has one lock for all of its crates by `[env]` in `.cargo/config.toml`:\n\
                 \x20          {VARIABLE} = {{ value = \"events.lock\", relative = true }}"
        ),
    ];
    let helps: Vec<&str> = helps.iter().map(String::as_str).collect();
    error(
        ": there is no lock of events yet, the file that says what consumers rely on",
        &shown,
        &helps,
    )
}

pub(super) fn accept_in_ci() -> String {
    error(
        ": `OUTBOX_CONTRACTS=accept` is set in CI, where what it writes is not committed and nothing would be compared",
        "the variable `OUTBOX_CONTRACTS`",
        &[&format!(
            "help: run {ACCEPT} on your machine, and commit the lock; if this is no CI, unset `CI`"
        )],
    )
}

pub(super) fn unknown_mode(value: &OsStr) -> String {
    error(
        &format!(": `OUTBOX_CONTRACTS` is {value:?}, which means nothing"),
        "the variable `OUTBOX_CONTRACTS`",
        &["help: `accept` writes the lock; without the variable, the events are compared with it"],
    )
}

pub(super) fn relative_variable(named: &Path) -> String {
    error(
        &format!(
            ": `{VARIABLE}` is the relative path `{}`, and each crate has another folder",
            named.display()
        ),
        &format!("the variable `{VARIABLE}`"),
        &[&format!(
            "help: in `.cargo/config.toml`, write `{VARIABLE} = {{ value = \"events.lock\", relative = true }}`"
        )],
    )
}

pub(super) fn no_folder() -> String {
    error(
        ": the folder of the crate is not known, in which the lock is",
        "the variable `CARGO_MANIFEST_DIR`",
        &[&format!("help: without cargo, set `{VARIABLE}` to the path of the lock")],
    )
}

pub(super) fn unreadable(path: &Path, why: &io::Error) -> String {
    error(&format!(": the lock of events cannot be read: {why}"), &self::path(path), &[])
}

pub(super) fn too_large(path: &Path) -> String {
    error(": the file is no lock of events: it is too large, or no text", &self::path(path), &[])
}

pub(super) fn no_lock(shown: &str, why: &LockError) -> String {
    let helps = ["nothing is compared with it, and nothing is written to it"];
    error(
        &format!(": the file is no lock of events: {}", why.what()),
        &format!("{shown}:{}", why.line),
        &helps,
    )
}

pub(super) fn not_written(path: &Path, why: &io::Error) -> String {
    let helps =
        ["the lock is as it was", "help: make the file and its folder writable, and run it again"];
    error(&format!(": the lock of events cannot be written: {why}"), &self::path(path), &helps)
}

pub(super) fn no_emitter(source: &str, path: &Path) -> String {
    error(
        &format!(": `emitted_by = {source:?}` names a file that is not there"),
        &self::path(path),
        &[
            "help: name the lock of the program that emits the event, from the folder of this crate's Cargo.toml",
        ],
    )
}

pub(super) fn no_revision(object: &str) -> String {
    error(
        &format!(": `emitted_by = \"git:{object}\"` names no file of a revision"),
        "git",
        &[
            "help: write `git:REVISION:PATH`, such as `git:origin/main:orders/events.lock`; a path of this crate begins with `./`",
        ],
    )
}

pub(super) fn no_git(why: &io::Error) -> String {
    error(&format!(": git cannot be run: {why}"), "git", &["help: `emitted_by` takes a path, too"])
}

pub(super) fn not_in_git(object: &str, why: &str) -> String {
    error(
        &format!(": git has no {object}: {why}"),
        "git",
        &["help: in CI, the revision has to be fetched first, such as by `fetch-depth: 0`"],
    )
}
