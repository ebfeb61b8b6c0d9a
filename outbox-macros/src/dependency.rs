//! What the crate `outbox` is called where it is used.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use proc_macro2::Span;
use syn::Path;

use crate::errors::Errors;

/// The name that the manifest gives to `outbox`, if that is another one: `events = { package =
/// "outbox", … }`. It is among the arguments of the compiler, of which an editor has none.
pub(crate) fn renamed() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(|| renamed_in(std::env::args_os().filter_map(|arg| arg.into_string().ok())))
        .as_deref()
}

// Input:  --extern events=…/liboutbox-0123456789abcdef.rmeta
// Output: events
fn renamed_in(args: impl Iterator<Item = String>) -> Option<String> {
    let mut renamed = None;
    for arg in args {
        let arg = arg.strip_prefix("--extern=").unwrap_or(&arg);
        let Some((name, path)) = arg.split_once('=') else { continue };
        // Options come before the name: `noprelude:outbox=…`.
        let name = name.rsplit(':').next().unwrap_or(name);
        let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
        if !file.starts_with("liboutbox-") || syn::parse_str::<syn::Ident>(name).is_err() {
            continue;
        }
        if name == "outbox" {
            return None;
        }
        renamed = Some(name.to_owned());
    }
    renamed
}

/// Reports a name that the macros cannot know in every tool: once for a crate, however many macros
/// it uses. The expansions use the name, so that no other errors follow.
pub(crate) fn check(errors: &Errors, krate: Option<&Path>, attribute: &str) {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    if let (None, Some(name)) = (krate, renamed())
        && !REPORTED.swap(true, Ordering::Relaxed)
    {
        errors.at(
            Span::call_site(),
            format!(
                "this crate depends on `outbox` under the name `{name}`\n\
                 help: add `crate = {name}` to each attribute of its macros: `#[{attribute}(…, crate = {name})]`"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_dependency_is_found_in_the_arguments_of_the_compiler() {
        let renamed = |args: &str| renamed_in(args.split(' ').map(str::to_owned));
        let events = "rustc --crate-name orders --extern events=/target/deps/liboutbox-0a1b.rmeta";
        assert_eq!(renamed(events).as_deref(), Some("events"));
        assert_eq!(
            renamed("--extern=noprelude:events=C:\\deps\\liboutbox-0a1b.rlib").as_deref(),
            Some("events")
        );
        assert_eq!(renamed("--extern outbox=/deps/liboutbox-0a1b.rmeta"), None);
        assert_eq!(renamed(&format!("{events} --extern outbox=/deps/liboutbox-0c.rlib")), None);
        assert_eq!(renamed("--extern outbox_macros=/deps/liboutbox_macros-0a1b.so"), None);
        assert_eq!(renamed("--cfg feature=\"a\" --extern serde"), None);
    }
}
