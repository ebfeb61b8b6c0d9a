//! The events of the crate that is compiled, by which two types that are one event are found.
//!
//! A derive sees one type, and nothing that it writes can meet what another one wrote, except a
//! macro that both export: an error about a name that no user has seen, and a lint in each crate
//! that forbids such macros in functions. But the compiler runs all derives of a crate in one
//! process, and this module is their memory. It decides only whether there is an error, and never
//! what a derive expands to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::model::{Event, Kind, Topic};
use crate::errors::Errors;

/// By (topic, name, version), as consumers tell events apart.
#[derive(Default)]
struct Declared(HashMap<(String, String, u32), Declaration>);

/// The type of an event, and where it is named.
#[derive(Clone, PartialEq, Eq)]
struct Declaration {
    of: String,
    file: String,
    line: usize,
    column: usize,
}

/// Reports each event that another type of the crate is already.
pub(super) fn check(errors: &Errors, event: &Event<'_>) {
    static DECLARED: OnceLock<Mutex<Declared>> = OnceLock::new();
    if !is_run_by_the_compiler() {
        return;
    }
    let declared = DECLARED.get_or_init(Mutex::default);
    let mut declared = declared.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in &event.kinds {
        let Some(message) = declared.add(kind, Declaration::new(event, kind)) else { continue };
        errors.at(kind.named_at, message);
    }
}

impl Declaration {
    fn new(event: &Event<'_>, kind: &Kind<'_>) -> Self {
        let of = match kind.variant {
            Some(variant) => format!("{}::{variant}", event.ident),
            None => event.ident.to_string(),
        };
        let at = kind.named_at.unwrap();
        Self { of, file: at.file(), line: at.line(), column: at.column() }
    }
}

impl Declared {
    /// What is wrong if another type is this event.
    fn add(&mut self, kind: &Kind<'_>, declaration: Declaration) -> Option<String> {
        // The value of a `const` is not known here.
        let Topic::Literal(topic) = kind.topic else { return None };
        if kind.duplicate {
            return None;
        }
        let topic = topic.value();
        match self.0.entry((topic.clone(), kind.name.clone(), kind.version)) {
            Entry::Vacant(entry) => {
                entry.insert(declaration);
                None
            }
            // The same derive, run a second time.
            Entry::Occupied(entry) if *entry.get() == declaration => None,
            Entry::Occupied(entry) => {
                let Declaration { of, file, line, .. } = entry.get();
                Some(format!(
                    "`{}` is the event `{}` version {} of topic `{topic}`, and so is `{of}` ({file}:{line})\n\
                     help: give one of the two another `name` or `version`;\n\
                     \x20     or, if both are that event on purpose, write `duplicate` on one of them",
                    declaration.of, kind.name, kind.version,
                ))
            }
        }
    }
}

/// Whether this process compiles one crate, once. An editor's process keeps what was declared in
/// each earlier state of the code.
pub(super) fn is_run_by_the_compiler() -> bool {
    const COMPILERS: [&str; 4] = ["rustc", "clippy-driver", "rustdoc", "miri"];
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let name = std::env::current_exe().ok().and_then(|path| {
            let name = path.file_stem()?.to_str()?;
            Some(COMPILERS.contains(&name))
        });
        name.unwrap_or(false)
    })
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;
    use syn::{Ident, LitStr};

    use super::*;

    fn at(of: &str, line: usize) -> Declaration {
        Declaration { of: of.to_owned(), file: "src/orders.rs".to_owned(), line, column: 9 }
    }

    #[test]
    fn the_second_type_of_an_event_is_told_of_the_first() {
        let topic = LitStr::new("order-events", Span::call_site());
        let variant = Ident::new("Placed", Span::call_site());
        let kind = |version, duplicate| Kind {
            position: None,
            upcast_from: None,
            variant: Some(&variant),
            topic: Topic::Literal(&topic),
            name: "order.placed".to_owned(),
            version,
            keys: Vec::new(),
            headers: Vec::new(),
            id: None,
            occurred_at: None,
            duplicate,
            named_at: Span::call_site(),
            wire: crate::event::wire::Wire::whole(),
        };
        let mut declared = Declared::default();
        assert_eq!(declared.add(&kind(1, false), at("A", 1)), None);
        assert_eq!(declared.add(&kind(1, false), at("A", 1)), None, "the same derive again");
        assert_eq!(declared.add(&kind(2, false), at("B", 2)), None, "another version");
        assert_eq!(declared.add(&kind(1, true), at("B", 2)), None, "on purpose");
        let message = declared.add(&kind(1, false), at("B", 2)).unwrap();
        assert!(message.contains("`A` (src/orders.rs:1)"), "{message}");
    }
}
