//! `#[transactional_outbox]`: parse ([`args`], [`function`]) → [`model`] with its [`options`], valid by construction → [`expand`].

mod args;
mod expand;
mod function;
mod model;
mod options;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

use crate::errors::{self, Errors};

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let errors = Errors::new();
    let args = args::Args::parse(&errors, args);
    let function = errors.ok(function::Function::parse(item.clone()));
    let method = function.as_ref().and_then(|function| model::Method::new(&errors, &args, function));
    let found = errors.into_vec();
    match (method, &function) {
        // A mistake in an option does not keep the method from being what it will be.
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
