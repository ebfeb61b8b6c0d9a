//! `#[event_handler]`: parse ([`args`], [`function`](crate::function)) → [`model`] with its
//! [`options`], valid by construction → [`expand`].

mod aliases;
mod args;
mod attributes;
mod expand;
mod model;
mod options;
mod parameters;
mod place;
mod state;
#[cfg(test)]
mod tests;

use proc_macro2::{Ident, TokenStream};

use crate::dependency;
use crate::errors::{self, Errors};
use crate::function::Function;
use crate::symbol::EVENT_HANDLER;

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let errors = Errors::new();
    let args = args::Args::parse(&errors, args);
    dependency::check(&errors, args.krate.get(), EVENT_HANDLER);
    let function = errors.ok(Function::parse(item.clone(), for_functions_only));
    let handler =
        function.as_ref().and_then(|function| model::Handler::new(&errors, &args, function));
    let mut output = errors::to_tokens(&errors.into_vec());
    // A mistake in an option does not prevent the handler's expansion.
    output.extend(match &handler {
        Some(handler) => expand::handler(handler),
        None => item,
    });
    output
}

fn for_functions_only(other: &Ident) -> String {
    let help = match &*other.to_string() {
        "struct" | "enum" => {
            "put it on an async function, or implement `EventHandler` for this type"
        }
        _ => "put it on the function that handles an event",
    };
    format!("`#[event_handler]` is for async functions, not for `{other}`\nhelp: {help}")
}
