//! What a change of a lock means for consumers, in words for those who review it.

use std::fmt::Write as _;

use crate::check::{self, Violation};
use crate::lock::{Contract, EventName, Lock};
use crate::shape::Payload;

/// What changed of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Of which event.
    pub event: EventName,
    /// In words, one change each.
    pub changes: Vec<String>,
    /// What of it breaks consumers.
    pub violations: Vec<Violation>,
}

/// Everything that changed from one lock to the other, by event. Events of which nothing changed but
/// the names of types are not among them.
#[must_use]
pub fn differences(old: &Lock, new: &Lock) -> Vec<Difference> {
    let mut violations = check::check(old, new, None);
    let mut names: Vec<&EventName> = old.events.keys().chain(new.events.keys()).collect();
    names.sort();
    names.dedup();
    let mut found = Vec::new();
    for event in names {
        let changes = match (old.events.get(event), new.events.get(event)) {
            (None, Some(now)) => vec![added(new, event, now)],
            (Some(before), None) if before.retired => {
                vec!["it was retired, and is deleted".to_owned()]
            }
            (Some(_), None) => vec!["it is deleted".to_owned()],
            (Some(before), Some(now)) => {
                let modes = (old.mode_of(event), new.mode_of(event));
                let mut changes = of_event(before, now);
                if modes.0 != modes.1 {
                    changes.push(format!(
                        "from now on its mode is `{}`; it was `{}`",
                        modes.1, modes.0
                    ));
                }
                changes
            }
            (None, None) => Vec::new(),
        };
        let of_it: Vec<Violation> =
            violations.extract_if(.., |found| found.event == *event).collect();
        // What was wrong before is no change.
        if !changes.is_empty() {
            found.push(Difference { event: event.clone(), changes, violations: of_it });
        }
    }
    found
}

fn added(lock: &Lock, event: &EventName, now: &Contract) -> String {
    let older = lock.events.keys().any(|other| {
        (&other.topic, &other.name) == (&event.topic, &event.name) && other.version < event.version
    });
    match (older, now.reads.is_empty()) {
        (false, _) => "it is a new event: consumers that do not know it skip it, so deploy those that should handle it first".to_owned(),
        (true, false) => "it is a new version: deploy the consumers that take it before the service that emits it. They read the older versions too".to_owned(),
        (true, true) => "it is a new version, whose consumers do not read the older ones".to_owned(),
    }
}

/// What changed from one state of an event to the other, in words.
pub(crate) fn of_event(before: &Contract, now: &Contract) -> Vec<String> {
    let mut changes = Vec::new();
    if before.key != now.key {
        let key = |key: &[String]| match key {
            [] => "no key".to_owned(),
            fields => format!("`{}`", fields.join("`, `")),
        };
        changes.push(format!("its key is {} instead of {}", key(&now.key), key(&before.key)));
    }
    if before.content_type != now.content_type {
        let (now, before) = (&now.content_type, &before.content_type);
        changes.push(format!("its payload is `{now}` instead of `{before}`"));
    }
    for header in before.headers.difference(&now.headers) {
        changes.push(format!("it has no header `{header}` any more"));
    }
    for header in now.headers.difference(&before.headers) {
        changes.push(format!("it has a new header `{header}`"));
    }
    for version in now.reads.difference(&before.reads) {
        changes.push(format!("its consumers also read version {version}"));
    }
    for version in before.reads.difference(&now.reads) {
        changes.push(format!("its consumers do not read version {version} any more"));
    }
    if now.retired && !before.retired {
        changes
            .push("it is retired: it may be deleted, and its versions need no upcast".to_owned());
    }
    match (&before.payload, &now.payload) {
        (Some(before), Some(now)) => of_payload(before, now, &mut changes),
        (None, Some(_)) => changes.push("what its payload is like is known now".to_owned()),
        (Some(_), None) => {
            changes.push("what its payload is like is not known any more".to_owned())
        }
        (None, None) => {}
    }
    changes
}

fn of_payload(before: &Payload, now: &Payload, changes: &mut Vec<String>) {
    let (had, has) = (before.described(), now.described());
    let is_below = |path: &str, of: &[String]| {
        of.iter().any(|outer| {
            path.strip_prefix(&**outer).is_some_and(|rest| rest.starts_with(['.', '[', '<', '{']))
        })
    };
    let only_in = |one: &std::collections::BTreeMap<String, String>,
                   other: &std::collections::BTreeMap<String, String>| {
        let only: Vec<String> =
            one.keys().filter(|path| !other.contains_key(*path)).cloned().collect();
        let outermost = only.iter().filter(|path| !is_below(path, &only)).cloned();
        outermost.collect::<Vec<_>>()
    };
    for path in only_in(&had, &has) {
        changes.push(format!("`{path}` is removed: it was {}", had[&path]));
    }
    for path in only_in(&has, &had) {
        changes.push(format!("`{path}` is added: {}", has[&path]));
    }
    for (path, was) in &had {
        if let Some(is) = has.get(path)
            && is != was
        {
            let of = if path.is_empty() { "the payload" } else { &format!("`{path}`") };
            changes.push(format!("{of} is {is}; it was {was}"));
        }
    }
}

/// The differences as text, or as Markdown for a comment on a pull request.
#[must_use]
pub fn worded(differences: &[Difference], markdown: bool) -> String {
    let mut text = String::new();
    for Difference { event, changes, violations } in differences {
        let EventName { topic, name, version } = event;
        if markdown {
            let _ = writeln!(text, "### {} v{version}, on {}\n", code(name), code(topic));
        } else {
            let _ = writeln!(text, "{} v{version}, on {}", shown(name), shown(topic));
        }
        let bullet = if markdown { "- " } else { "  " };
        for change in changes {
            let change = if markdown { for_markdown(change) } else { shown(change) };
            let _ = writeln!(text, "{bullet}{change}");
        }
        for violation in violations {
            let at =
                if violation.path.is_empty() { "" } else { &format!(" (`{}`)", violation.path) };
            let said = format!(
                "{at}: {}. {}",
                violation.rule.consequence(),
                capital(violation.rule.fix())
            );
            let rule = violation.rule;
            let _ = match markdown {
                true => writeln!(text, "- **breaks consumers** {rule}{}", for_markdown(&said)),
                false => writeln!(text, "  BREAKS CONSUMERS {rule}{}", shown(&said)),
            };
        }
        text.push('\n');
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn shown(text: &str) -> String {
    let hidden = |c: char| c.is_control() || crate::shape::is_invisible(c);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A name in Markdown, which means nothing in it.
fn code(name: &str) -> String {
    format!("`{}`", shown(name).replace('`', "'"))
}

/// Words with names between backticks: what is outside of them means nothing in Markdown either.
fn for_markdown(text: &str) -> String {
    let mut escaped = String::new();
    for (i, part) in shown(text).split('`').enumerate() {
        if i > 0 {
            escaped.push('`');
        }
        for c in part.chars() {
            if i % 2 == 0 && matches!(c, '<' | '>' | '*' | '_' | '[' | ']' | '|' | '#' | '@' | '\\')
            {
                escaped.push('\\');
            }
            escaped.push(c);
        }
    }
    escaped
}
