//! The lock of the crate that is compiled, by which a version without its older ones is found.

/// Reports each version of an event that does not read the versions before it, which the lock has.
/// Returns what has the compiler look again when the lock changes.
#[cfg(not(feature = "schema"))]
pub(super) fn check(
    _: &crate::errors::Errors,
    _: &super::model::Event<'_>,
) -> proc_macro2::TokenStream {
    proc_macro2::TokenStream::new()
}

#[cfg(feature = "schema")]
pub(super) use with_lock::check;

#[cfg(feature = "schema")]
mod with_lock {
    use std::collections::HashMap;
    use std::io::ErrorKind;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex, PoisonError};

    use outbox_contracts::Lock;
    use proc_macro2::TokenStream;
    use quote::quote;

    use super::super::attr::TextValue;
    use super::super::declared::is_run_by_the_compiler;
    use super::super::model::{Contract, Event, Kind, Topic};
    use crate::errors::Errors;

    /// The variable that names the lock of all crates of a workspace.
    const VARIABLE: &str = "OUTBOX_EVENTS_LOCK";

    /// See above.
    pub(in super::super) fn check(errors: &Errors, event: &Event<'_>) -> TokenStream {
        let Some(path) = path(event.contract) else { return TokenStream::new() };
        // Of a first version there is nothing older.
        if event.kinds.iter().all(|kind| kind.version == 1) {
            return TokenStream::new();
        }
        match read(&path) {
            None => return TokenStream::new(),
            Some(Err(why)) => {
                let at = event.kinds.first().map_or(event.ident.span(), |kind| kind.named_at);
                errors.at(at, why);
            }
            Some(Ok(lock)) => {
                for kind in &event.kinds {
                    if let Some(message) = missing(&lock, event, kind, &path) {
                        errors.at(kind.named_at, message);
                    }
                }
            }
        }
        path.to_str().map(|path| depends_on(path, VARIABLE)).unwrap_or_default()
    }

    fn path(contract: Contract<'_>) -> Option<PathBuf> {
        let folder = || std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        match contract {
            Contract::Own => match std::env::var_os(VARIABLE) {
                Some(named) if !named.is_empty() => Some(PathBuf::from(named)),
                _ => Some(folder()?.join("events.lock")),
            },
            Contract::EmittedBy(TextValue::Literal(literal)) => {
                let source = literal.value();
                // A revision is read by the test, which may run git.
                (!source.starts_with("git:")).then(|| Some(folder()?.join(source)))?
            }
            Contract::EmittedBy(TextValue::Const(_)) | Contract::Unlocked => None,
        }
    }

    /// The lock, or what is wrong with it. `None`: there is no such file.
    fn read(path: &Path) -> Option<Result<Arc<Lock>, String>> {
        static READ: Mutex<Option<HashMap<PathBuf, Arc<Lock>>>> = Mutex::new(None);
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.get_or_insert_default();
        if let Some(lock) = read.get(path) {
            return Some(Ok(Arc::clone(lock)));
        }
        let text = match Lock::text_of(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                let path = path.display();
                return Some(Err(format!("{path} cannot be read as a lock of events: {error}")));
            }
        };
        match Lock::parse(&text) {
            Ok(lock) => {
                let lock = Arc::new(lock);
                // An editor's process sees each state of the file.
                if is_run_by_the_compiler() {
                    read.insert(path.to_owned(), Arc::clone(&lock));
                }
                Some(Ok(lock))
            }
            Err(error) => Some(Err(format!("{} is no lock of events: {error}", path.display()))),
        }
    }

    fn missing(lock: &Lock, event: &Event<'_>, kind: &Kind<'_>, path: &Path) -> Option<String> {
        // The value of a `const` is not known here: the test finds it.
        let Topic::Literal(topic) = kind.topic else { return None };
        let topic = topic.value();
        if kind.upcast_from.is_some() {
            return None;
        }
        let older = lock.events.iter().filter(|(name, known)| {
            (&name.topic, &name.name) == (&topic, &kind.name)
                && name.version < kind.version
                && !known.retired
        });
        let older: Vec<String> = older.map(|(name, _)| name.version.to_string()).collect();
        if older.is_empty() {
            return None;
        }
        let has = match &*older {
            [one] => format!("version {one}"),
            several => format!("versions {}", several.join(" and ")),
        };
        let this = kind.variant.unwrap_or(event.ident);
        let (version, before) = (kind.version, kind.version - 1);
        Some(format!(
            "`{this}` is version {version} of `{}`, and no version {before} becomes it\n\
             help: {} has {has}, whose events may come again and would be dead letters: declare version {before},\n\
             \x20     write `upcast_from = …` with its type here, and `impl From` it;\n\
             \x20     or, if no event of an older version can come any more, write `retired = true` into its block",
            kind.name,
            path.file_name().unwrap_or_default().display(),
        ))
    }

    /// Has the compiler expand the macro again when the lock changes.
    fn depends_on(lock: &str, variable: &str) -> TokenStream {
        quote! {
            const _: &[::core::primitive::u8] = ::core::include_bytes!(#lock);
            const _: ::core::option::Option<&::core::primitive::str> = ::core::option_env!(#variable);
        }
    }
}
