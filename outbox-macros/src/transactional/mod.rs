//! `#[transactional_outbox]`: parse ([`args`], [`function`](crate::function)) → [`model`] with its
//! [`options`], valid by construction → [`expand`].

mod args;
mod ending;
mod expand;
mod misread;
mod model;
mod options;
mod output;
mod source;
#[cfg(test)]
mod tests;

use proc_macro2::{Ident, TokenStream};

use crate::dependency;
use crate::errors::{self, Errors};
use crate::function::Function;
use crate::symbol::TRANSACTIONAL_OUTBOX;

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let errors = Errors::new();
    let args = args::Args::parse(&errors, args);
    dependency::check(&errors, args.krate.get(), TRANSACTIONAL_OUTBOX);
    let function = errors.ok(Function::parse(item.clone(), for_functions_only));
    let method =
        function.as_ref().and_then(|function| model::Method::new(&errors, &args, function));
    let found = errors.into_vec();
    match (method, &function) {
        // A mistake in an option does not prevent the method's expansion.
        (Some(method), _) => {
            let mut output = errors::to_tokens(&found);
            output.extend(expand::method(&method));
            output
        }
        (None, Some(function)) => expand::stub(&found, &args, function),
        (None, None) => {
            let mut output = errors::to_tokens(&found);
            output.extend(item);
            output
        }
    }
}

fn for_functions_only(other: &Ident) -> String {
    let help = if other == "impl" || other == "trait" {
        "put it on each method that needs a transaction"
    } else {
        "put it on the function that emits events"
    };
    format!("`#[transactional_outbox]` is for async functions, not for `{other}`\nhelp: {help}")
}
